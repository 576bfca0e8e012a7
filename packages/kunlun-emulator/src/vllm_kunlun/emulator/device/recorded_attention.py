# SPDX-License-Identifier: Apache-2.0
"""Dense attention in a recorded step: the loops of each layer, over one copy of the step's numbers.

Slots, lengths and pages change from step to step, and are the same for all layers of one KV-cache
group. They are copied to memory of the recording's own once a step, and checked there; a layer's
loops are bound to it. A layer takes them from its first step of decodes with one token each, by
running on that memory as it would on the step's.

In any other step, and in a layer that does more than write the cache and attend to it, attention
is called as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from vllm.distributed.kv_transfer import has_kv_transfer_group

from vllm_kunlun.emulator.device.chains import chained
from vllm_kunlun.emulator.device.watch import Watch
from vllm_kunlun.emulator.replay import Kept, Recording
from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
from vllm_kunlun.ops.attention.metadata import KunlunAttentionMetadata
from vllm_kunlun.platforms.vllm_compat.attention_layer import attention_context

__all__ = ["AttentionSteps"]

_OP = "vllm::unified_attention_with_output"
_USED = ("query", "key", "value", "output", "layer_name")
_IGNORED = "kv_cache_dummy_dep"


class AttentionSteps:
    """The steps of one recording, as its attention layers see them."""

    def __init__(self) -> None:
        self._of_groups: list[_Step] = []
        self._now: list[tuple[object, _Step | None]] = []
        self._is_alone = True
        self._begin: list[Callable[[], None]] = [self._step_begins]

    def _step_begins(self) -> None:
        self._now.clear()
        # A connector's own calls stand around those of each layer.
        self._is_alone = not has_kv_transfer_group()

    def layer(self, op: Any, call: partial[Any]) -> list[Callable[[], None]]:
        """What stands for ``call`` in the recording; nothing if it is no plain attention."""
        if op is None or op._schema.name != _OP:
            return []
        names = [each.name for each in op._schema.arguments]
        given = dict(zip(names, call.args, strict=False)) | call.keywords
        others = {name for name, each in given.items() if each is not None} - {*_USED, _IGNORED}
        if others or not isinstance(given["layer_name"], str):
            return []
        first, self._begin = self._begin, []
        return [*first, _Layer(self, call, **{name: given[name] for name in _USED})]

    def of(self, metadata: object, tokens: int) -> _Step | None:
        """The step in memory of its own; None if it is not one of ``tokens`` decodes.

        Raises: VendorContractError: its values are not what the card takes.
        """
        for known, step in self._now:
            if known is metadata:
                return step
        step = self._taken(metadata, tokens) if self._is_alone else None
        self._now.append((metadata, step))
        return step

    def _taken(self, metadata: object, tokens: int) -> _Step | None:
        if type(metadata) is not KunlunAttentionMetadata or not _decodes(metadata, tokens):
            return None
        group = sum(step is not None for _, step in self._now)
        if group == len(self._of_groups):
            self._of_groups.append(_Step(metadata))
        elif not self._of_groups[group].take(metadata):
            self._of_groups[group] = _Step(metadata)
        return self._of_groups[group]


def _decodes(metadata: KunlunAttentionMetadata, tokens: int) -> bool:
    """Whether the step is of ``tokens`` requests with one token each, and nothing else."""
    decode = metadata.decode
    return (
        metadata.prefill is None
        and decode is not None
        and decode.query_len == 1
        and metadata.num_actual_tokens == decode.num_requests == tokens
    )


class _Step:
    """Slots, lengths and pages of a step of decodes, in memory that stays."""

    def __init__(self, metadata: KunlunAttentionMetadata) -> None:
        self._own = [each.clone() for each in _values(metadata)]
        self._like = metadata
        self.kept: dict[tuple[object, ...], Kept] = {}
        """What the layers made of the values, their checks among it."""

    def take(self, metadata: KunlunAttentionMetadata) -> bool:
        """Copy the values of another step; False if they are of another form.

        Raises: VendorContractError: they are not what the card takes.
        """
        values = _values(metadata)
        if any(
            own.shape != each.shape or own.dtype != each.dtype
            for own, each in zip(self._own, values, strict=True)
        ):
            return False
        for own, each in zip(self._own, values, strict=True):
            own.copy_(each)
        for each in self.kept.values():
            each.refresh()
        return True

    def metadata(self) -> KunlunAttentionMetadata:
        """The step as a layer's implementation takes it, over this memory."""
        slots, table, on_host, on_device = self._own
        assert self._like.decode is not None
        decode = dataclasses.replace(
            self._like.decode, block_table=table, seq_lens_host=on_host, seq_lens=on_device
        )
        return dataclasses.replace(self._like, slot_mapping=slots, decode=decode)


def _values(metadata: KunlunAttentionMetadata) -> tuple[torch.Tensor, ...]:
    decode = metadata.decode
    assert decode is not None
    slots = metadata.slot_mapping[: metadata.num_actual_tokens]
    return slots, decode.block_table, decode.seq_lens_host, decode.seq_lens


class _Layer:
    """Attention of one layer.

    Args:
        call: what does it for any step.
        query, output: ``[T, H, D]``.
        key, value: ``[T, KVH, D]``.
    """

    def __init__(
        self,
        steps: AttentionSteps,
        call: Callable[[], Any],
        *,
        query: torch.Tensor,
        key: torch.Tensor | None,
        value: torch.Tensor | None,
        output: torch.Tensor,
        layer_name: str,
    ) -> None:
        self._steps, self._call, self._name = steps, call, layer_name
        self._given = query, key, value
        self._output, self._tokens = output, query.shape[0]
        self._is_known = True
        self._loops: list[Callable[[], Any]] = []
        self._step: _Step | None = None
        self._cache: torch.Tensor | None = None

    def __call__(self) -> None:
        if not self._is_known:
            self._call()
            return
        metadata, layer, cache = attention_context(self._name)
        step = self._steps.of(metadata, self._tokens)
        if step is None:
            self._call()
        elif step is self._step and cache is self._cache:
            for loop in self._loops:
                loop()
        else:
            self._record(layer, cache, step)

    def _record(self, layer: Any, cache: torch.Tensor, step: _Step) -> None:
        implementation = layer.impl
        self._is_known = (
            type(implementation) is KunlunAttentionImpl
            and implementation.decodes_by_vendor_functions
        )
        if not self._is_known:
            self._call()
            return
        recording = Recording(step.kept)
        watch = Watch(recording, with_copies=True)
        with watch, recording.open(), recording.inside():
            implementation.forward(layer, *self._given, cache, step.metadata(), output=self._output)
        self._is_known = not watch.does_work
        refreshed = [each.refresh for each in step.kept.values()]
        self._loops = chained([each for each in recording.calls if each not in refreshed])
        self._step, self._cache = step, cache
