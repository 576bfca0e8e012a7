# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters in vLLM's layers: the metadata of a step, and the functions that use it."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from vllm.lora import utils as lora_utils
from vllm.lora.layers import LoRAMapping, VocabParallelEmbeddingWithLoRA
from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase
from vllm.utils.platform_utils import is_pin_memory_available

from vllm_kunlun.ops.layers.embedding import KunlunVocabParallelEmbedding
from vllm_kunlun.ops.torch_ops import lora
from vllm_kunlun.ops.vllm_modules import prompt_logprobs
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError

__all__ = [
    "KunlunPunicaWrapper",
    "KunlunVocabParallelEmbeddingWithLoRA",
    "register_lora_layers",
]


class KunlunVocabParallelEmbeddingWithLoRA(VocabParallelEmbeddingWithLoRA):
    """vLLM's class, for our embedding: vLLM's own asks for exactly the class that ours replaces."""

    @classmethod
    def can_replace_layer(cls, source_layer: torch.nn.Module, *_: Any, **__: Any) -> bool:
        return type(source_layer) is KunlunVocabParallelEmbedding


def register_lora_layers() -> None:
    """Let vLLM find our layers that carry adapters. Re-entrant.

    Its table is a set until 0.16; in 0.33 the first class that fits is taken.
    """
    ours, known = KunlunVocabParallelEmbeddingWithLoRA, lora_utils._all_lora_classes
    if isinstance(known, set):
        known.add(ours)
    elif ours not in known:
        lora_utils._all_lora_classes = (ours, *known)


class KunlunPunicaWrapper(PunicaWrapperBase):
    """Which token has which adapter in this step, and the products with it.

    The metadata is made on the host, once for a step whose requests differ from the last one's, and
    copied to the device without waiting for it. It lies in tensors of a fixed length.

    A token's adapter is given by its segment (a run of tokens with the same one), a logits row's by
    itself. Rows without an adapter are not touched.
    """

    def __init__(
        self, max_num_batched_tokens: int, max_batches: int, device: torch.device | str, **_: Any
    ) -> None:
        super().__init__(max_num_batched_tokens, max_batches, device)
        # vLLM makes this object, then looks for layers that can carry adapters.
        register_lora_layers()
        self._pinned = is_pin_memory_available()
        # Requests lie one after another, so there are no more segments than requests.
        self._segment_lengths = torch.zeros(max_batches, dtype=torch.int32, device=device)
        self._segment_indices = torch.full_like(self._segment_lengths, -1)
        self._active = torch.zeros(1, dtype=torch.bool, device="cpu")
        self._token_lora_indices.fill_(-1)
        self._sampler_indices.fill_(-1)
        self._embeddings_indices.fill_(0)

    def update_metadata(
        self,
        mapping: LoRAMapping,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **_: Any,
    ) -> None:
        """Take over which adapter (by its number, 0: none) each token and each logits row has.

        Raises: KunlunError: a token has an adapter that is in no slot.
        """
        slots = np.array([number or 0 for number in lora_index_to_id])
        numbers = np.asarray(mapping.index_mapping)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        lengths = np.diff(starts, append=len(numbers))
        by_segment = _slot_of(numbers[starts], slots)
        by_token = np.repeat(by_segment, lengths)
        by_row = _slot_of(np.asarray(mapping.prompt_mapping), slots)
        self._fill(self._segment_lengths, lengths, 0)
        self._fill(self._segment_indices, by_segment, -1)
        self._fill(self._token_lora_indices, by_token, -1)
        self._fill(self._sampler_indices, by_row, -1)
        # Where the rows of a slot begin when vLLM's layer looks up A, slot after slot.
        # Until 0.16 it is the second of two rows, of which the first is for vocabularies that grew.
        first_rows = self._embeddings_indices.view(-1, self._embeddings_indices.shape[-1])[-1]
        self._fill(first_rows, by_token.clip(0) * vocab_size, 0)
        self._active.fill_(bool((by_segment >= 0).any() or (by_row >= 0).any()))
        self.indices_len[:] = [len(by_token), len(by_row), 0, len(by_token)]

    def _fill(self, target: Tensor, values: np.ndarray, rest: int) -> None:
        # A new host tensor each time: the last one may still be on its way.
        host = torch.full(target.shape, rest, dtype=target.dtype, pin_memory=self._pinned)
        host[: len(values)] = torch.from_numpy(values)
        target.copy_(host, non_blocking=True)

    @property
    def _segments(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._segment_lengths, self._segment_indices, self._active

    def add_shrink(
        self, y: Tensor, x: Tensor, lora_a_stacked: tuple[Tensor, ...], scale: float, **_: Any
    ) -> None:
        """``y[s] += scale x A_s^T``.

        Shapes: y ``[slices, T, rank]`` (written), x ``[.., in]``, a slice's A
        ``[adapters, 1, rank, in]``.
        """
        x = x.view(-1, x.shape[-1])
        lora.lora_shrink_(y, x, list(lora_a_stacked), scale, *self._segments)

    def add_expand(
        self,
        y: Tensor,
        x: Tensor,
        lora_b_stacked: tuple[Tensor, ...],
        output_slices: tuple[int, ...],
        offset_start: int = 0,
        add_inputs: bool = True,
        **_: Any,
    ) -> None:
        """Add ``x[s] B_s^T`` to the columns of slice ``s`` of ``y``.

        Shapes: y ``[.., columns]`` (written), x ``[slices, T, rank]``, a slice's B
        ``[adapters, 1, out, rank]``.
        Raises: UnsupportedError: ``add_inputs`` is False.
        """
        _only_added(add_inputs)
        y = y.view(-1, y.shape[-1])
        slices = list(output_slices)
        lora.lora_expand_(y, x, list(lora_b_stacked), slices, offset_start, *self._segments)

    def add_lora_embedding(
        self, y: Tensor, x: Tensor, lora_b_stacked: Tensor, add_inputs: bool = True, **_: Any
    ) -> None:
        """``y += x B^T``; x is each token's row of A.

        Shapes: y ``[T, columns]`` (written), x ``[T, rank]``, B ``[adapters, 1, columns, rank]``.
        Raises: UnsupportedError: ``add_inputs`` is False.
        """
        _only_added(add_inputs)
        x = x.unsqueeze(0)
        lora.lora_expand_(y, x, [lora_b_stacked], [y.shape[-1]], 0, *self._segments)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: Tensor | None = None,
        **_: Any,
    ) -> None:
        """Add ``scale (x A_s^T) B_s^T`` to the columns of slice ``s`` of ``y``.

        Shapes: y ``[.., columns]`` (written), x ``[.., in]``; A and B as in the two halves.
        Raises: UnsupportedError: a buffer is passed.
        """
        _no_buffer(buffer)
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        lora_a, lora_b = list(lora_a_stacked), list(lora_b_stacked)
        lora.lora_linear_(y, x, lora_a, lora_b, list(output_slices), scale, *self._segments)

    def add_lora_logits(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: Tensor,
        lora_b_stacked: Tensor,
        scale: float,
        *,
        buffer: Tensor | None = None,
        **_: Any,
    ) -> None:
        """``y += scale (x A^T) B^T``, a row for each sampled token, or for some of a prompt's.

        Never part of a graph.

        Shapes: y ``[rows, columns]`` (written), x ``[rows, in]``, A ``[adapters, 1, rank, in]``, B
        ``[adapters, 1, columns, rank]``.
        Raises: UnsupportedError: a buffer is passed.
        """
        _no_buffer(buffer)
        if self._active.item():
            y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
            first = prompt_logprobs.first_token(x)
            if first is None:
                rows = self._sampler_indices[: x.shape[0]]
            else:
                rows = self._token_lora_indices[first : first + x.shape[0]]
            lora.add_to_rows(y, x, lora_a_stacked, lora_b_stacked, scale, rows)

    def apply_lora_full_linear(self, *_: Any, **__: Any) -> NoReturn:
        """Raises: UnsupportedError: always."""
        raise UnsupportedError(
            "an adapter with a classifier of its own: the vendor's libraries have no function for "
            "it. Merge the adapter into the checkpoint and serve that."
        )

    def add_lora_fused_moe(self, *_: Any, **__: Any) -> NoReturn:
        """Raises: UnsupportedError: always."""
        raise UnsupportedError(
            "an adapter on the experts of a mixture of experts: the vendor's libraries have no "
            "function for it. Merge the adapter into the checkpoint and serve that."
        )


def _slot_of(numbers: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The slot that holds each adapter, -1 for number 0."""
    found = numbers[:, None] == slots[None, :]
    if missing := set(numbers[(numbers > 0) & ~found.any(axis=1)].tolist()):
        raise KunlunError(
            f"adapters {sorted(missing)} are used by this step but are in none of the slots "
            f"{slots.tolist()}: activate them before setting the mapping."
        )
    return np.where(numbers > 0, found.argmax(axis=1), -1)


def _only_added(add_inputs: bool) -> None:
    if not add_inputs:
        raise UnsupportedError(
            "add_inputs=False: the vendor's functions add to the output. Pass an output of zeros."
        )


def _no_buffer(buffer: Tensor | None) -> None:
    if buffer is not None:
        raise UnsupportedError("pass no buffer: it is made here, in the dtype of the run.")
