# SPDX-License-Identifier: Apache-2.0
"""Every tensor of a checkpoint beside the parameters of its model, without memory for either.

Serving stops at the first thing that is wrong. Here the tensor that a model's ``load_weights``
stumbles over is noted and left out, and it runs again, until it gets through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.config import ModelConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import verdict
from vllm_kunlun.platforms.loading.loader import KunlunModelLoader, _ranks, _wants_numbers
from vllm_kunlun.platforms.loading.writes import Source, Writes
from vllm_kunlun.platforms.ranks.silent import as_rank

__all__ = ["Fault", "Survey", "survey"]

_ROUNDS = 24
_OF_TENSORS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Fault:
    """A tensor that does not fit: ``unexpected``, ``shape`` or ``dtype``; and why in words."""

    kind: str
    source: Source
    detail: str
    parameter: str | None = None


@dataclass
class Survey:
    """What came of it.

    Args:
        parameters: shape and dtype of each parameter of the model, by name.
        tied: name of a parameter -> the name under which it is loaded, where that is another one.
        sources: every tensor of the checkpoint.
        writes: which of them were written to which parameter.
        missing: parameters that were not filled, or the parts of them.
        faults: tensors that do not fit.
        unread: why the rest was not looked at; None if all was.
    """

    parameters: dict[str, tuple[tuple[int, ...], torch.dtype]]
    tied: dict[str, str]
    sources: dict[str, Source] = field(default_factory=dict)
    writes: Writes | None = None
    missing: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unread: str | None = None


class _Surveyor(KunlunModelLoader):
    """The loader, with tensors left out."""

    left_out: frozenset[str] = frozenset()

    def _get_weights_iterator(self, source: Any) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in super()._get_weights_iterator(source):
            self.seen[name] = self._current
            if name not in self.left_out:
                yield name, tensor

    def run(self, model: torch.nn.Module, model_config: ModelConfig) -> Survey:
        """What ``load_weights`` of ``model`` would do with the checkpoint of ``model_config``."""
        every = list(model.named_parameters(remove_duplicate=False))
        first = {id(each): name for name, each in reversed(every)}
        parameters = {name: each for name, each in every if first[id(each)] == name}
        found = Survey(
            {name: (tuple(each.shape), each.dtype) for name, each in parameters.items()},
            {name: first[id(each)] for name, each in every if first[id(each)] != name},
        )
        data = {name: each.data for name, each in parameters.items()}
        loaded: Iterable[str] = ()
        for _ in range(_ROUNDS):
            self.seen: dict[str, Any] = {}
            self._writes, self._current = Writes(data), None
            try:
                with self._writes:
                    weights = self.get_all_weights(model_config, model)
                    loaded = type(model).load_weights(model, weights) or ()
            except _OF_TENSORS as error:
                if self._current is None or isinstance(error, UnsupportedError):
                    raise
                if _wants_numbers(error):
                    found.unread = f"{type(model).__name__} looks at the numbers: {error}"
                    break
                found.faults.append(_fault(self._current, error, found.parameters))
                self.left_out |= {self._current.name}
                continue
            found.unread = None
            break
        else:
            found.unread = f"the first {_ROUNDS} tensors that do not fit are shown"
        found.sources, found.writes = self.seen, self._writes
        self._writes = None
        if found.unread is None:
            _judge(found, model, loaded)
        return found


def survey(config: VllmConfig, ranks: int = 1) -> Survey:
    """The checkpoint of ``config`` beside its model, as one of ``ranks`` would load it.

    Raises:
        UnsupportedError: the model's class cannot be made without memory.
    """
    with set_current_vllm_config(config), as_rank(ranks, 1, 0):
        try:
            with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
                model = initialize_model(vllm_config=config)
        except NotImplementedError as error:
            raise UnsupportedError(
                f"{config.model_config.architecture} cannot be made without memory: {error}. "
                "`vllm-kunlun serve` looks at its checkpoint when it loads it."
            ) from error
        return _Surveyor(config.load_config).run(model, config.model_config)


def _judge(found: Survey, model: torch.nn.Module, loaded: Iterable[str]) -> None:
    writes = found.writes
    assert writes is not None
    known = {fault.source.name for fault in found.faults}
    for parameter, source, came, expected in writes.casts:
        if "scale" not in parameter.rpartition(".")[2] and source.name not in known:
            known.add(source.name)
            found.faults.append(
                Fault("dtype", source, f"{came}, and the parameter is {expected}", parameter)
            )
    divided = _ranks(model)
    for parameter, target in writes.targets.items():
        for source in target.sources.values():
            used, size = source.used * divided.get(parameter, 0), math.prod(source.shape)
            if 0 < used < size and source.name not in known:
                known.add(source.name)
                detail = f"of {size} elements {used} are taken: config.json says it is smaller"
                found.faults.append(Fault("shape", source, detail, parameter))
    fused = verdict.fused_layers(model)
    found.missing = list(verdict.unfilled(writes.targets, set(loaded), fused))


def _fault(
    source: Source, error: Exception, parameters: dict[str, tuple[tuple[int, ...], torch.dtype]]
) -> Fault:
    text = " ".join(str(error).split())
    if isinstance(error, LookupError) or "no module or parameter" in text:
        return Fault("unexpected", source, "the model has no parameter for it")
    if source.name not in parameters:
        return Fault("shape", source, text or "it is larger or smaller than its place")
    shape, _ = parameters[source.name]
    return Fault("shape", source, f"the parameter has shape {list(shape)}", source.name)
