# SPDX-License-Identifier: Apache-2.0
"""vLLM's loader of checkpoints, after a look at what the checkpoint would fill."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils._python_dispatch import _disable_current_modes
from vllm.config import ModelConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.logger import init_logger
from vllm.lora.layers import BaseLayerWithLoRA
from vllm.model_executor import model_loader
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.checks import checkpoint
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.loading import heads, verdict
from vllm_kunlun.platforms.loading.headers import stand_ins
from vllm_kunlun.platforms.loading.renewal import renewal_of
from vllm_kunlun.platforms.loading.writes import Source, Writes
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer, is_divided
from vllm_kunlun.platforms.vllm_compat.weight_files import files_of

__all__ = ["FORMATS", "KunlunModelLoader", "register"]

logger = init_logger("vllm.kunlun.loading")

FORMATS = ("auto", "hf", "safetensors", "fastsafetensors", "mistral", "pt", "npcache")
"""Values of ``--load-format`` that vLLM gives to its default loader."""

_OF_TENSORS = (AssertionError, AttributeError, RuntimeError, TypeError)


class KunlunModelLoader(DefaultModelLoader):
    """Runs ``load_weights`` on tensors without numbers first, and judges what it would write.

    vLLM compares names alone, and for unquantised models only: a fused layer without one of its
    parts, a tensor that is too large or holds integers, a quantised model without its norms would
    all be served.
    """

    _writes: Writes | None = None
    _current: Source | None = None

    def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None:
        """As vLLM's.

        Raises:
            CheckpointError: naming the tensor and its file.
        """
        renewal = renewal_of(model)
        if renewal is not None and any(isinstance(m, BaseLayerWithLoRA) for m in model.modules()):
            raise UnsupportedError(
                "weights cannot be reloaded into a model that takes adapters: its layers have "
                "other names than the checkpoint's. Start the server without --enable-lora."
            )
        if not envs.VLLM_KUNLUN_CHECK_WEIGHTS:
            super().load_weights(model, model_config)
            return
        began = time.perf_counter()
        with contextlib.nullcontext() if renewal is None else renewal.as_loaded():
            told = self._judge(model, model_config, real=False)
        logger.debug(
            "Looked at the tensors' names and shapes in %.2f s", time.perf_counter() - began
        )
        if told or renewal is not None:
            super().load_weights(model, model_config)
        else:
            self._judge(model, model_config, real=True)

    def _judge(self, model: torch.nn.Module, model_config: ModelConfig, *, real: bool) -> bool:
        """Whether the model could be filled with what is read, ``real`` numbers or none.

        Raises:
            CheckpointError: there is something wrong that can be told.
        """
        parameters = dict(model.named_parameters())
        data = {name: each.data for name, each in parameters.items()}
        self._writes, self._current = Writes(data, real=real), None
        try:
            with self._writes:
                # The model's own, also of one that serves.
                found = self.get_all_weights(model_config, model)
                loaded = type(model).load_weights(model, found)
        except (LookupError, ValueError, *_OF_TENSORS) as error:
            if not real and _wants_numbers(error):
                logger.debug("The headers alone do not tell: %s", error, exc_info=error)
                return False
            if self._current is None or isinstance(error, UnsupportedError):
                raise
            raise _at(self._current, error) from error
        finally:
            writes, self._writes = self._writes, None
            replaced = _replaced(model, parameters, data)
            if not real:
                _put_back(model, parameters, data)
        if replaced and not real:
            logger.debug("load_weights replaces parameters: %s", replaced)
            return False
        verdict.check(
            writes,
            {*(loaded or ()), *replaced, *heads.of_the_target(model, model_config)},
            place=model_config.model,
            ranks={} if real else _ranks(model),
            fused=verdict.fused_layers(model),
        )
        return True

    def _get_weights_iterator(
        self, source: DefaultModelLoader.Source
    ) -> Iterator[tuple[str, torch.Tensor]]:
        if self._writes is None:
            yield from super()._get_weights_iterator(source)
            return
        if self._writes.real:
            for name, tensor in super()._get_weights_iterator(source):
                yield name, self._follow(self._writes, name, tensor, source.model_or_path)
            return
        folder, files = files_of(self, source)
        checkpoint.check_files(Path(folder))
        for file in map(Path, files):
            with _disable_current_modes():  # a call less for each tensor of a file
                found = list(stand_ins(file))
            for name, tensor in found:
                name = source.prefix + name
                yield name, self._follow(self._writes, name, tensor, file.name)

    def _follow(self, writes: Writes, name: str, tensor: torch.Tensor, file: str) -> torch.Tensor:
        self._current = Source(name, file, tuple(tensor.shape), tensor.dtype)
        return writes.follow(tensor, self._current)


def register() -> None:
    """Put the loader in the place of vLLM's default one, for each of its formats. Re-entrant."""
    model_loader._LOAD_FORMAT_TO_MODEL_LOADER.update(dict.fromkeys(FORMATS, KunlunModelLoader))


def _wants_numbers(error: BaseException) -> bool:
    """Whether a loader failed because a tensor has no numbers, and not because of its shape."""
    if error.__cause__ is not None:  # a layer's loader says which layer it was
        return _wants_numbers(error.__cause__)
    if isinstance(error, (NotImplementedError, TypeError, AttributeError)):
        return True
    return isinstance(error, RuntimeError) and any(
        word in str(error) for word in ("meta", "Meta", "set_data")
    )


def _at(source: Source, error: Exception) -> CheckpointError:
    """``error`` of a model's or layer's loader, with the tensor that it was raised for."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        text = f"the model has no parameter {text}"
    dtype = str(source.dtype).removeprefix("torch.")
    ending = (
        ""
        if isinstance(error, CheckpointError)
        else " The checkpoint is damaged, or config.json (architectures, sizes, "
        f"quantization_config) does not belong to it: fetch both again. {verdict.UNCHECKED}"
    )
    return CheckpointError(
        f"{source.name} in {source.file}, {dtype} of shape {list(source.shape)}, does not fit into "
        f"the model: {(text or 'its shape is another one').rstrip('.')}.{ending}"
    )


def _replaced(
    model: torch.nn.Module,
    parameters: dict[str, torch.nn.Parameter],
    data: dict[str, torch.Tensor],
) -> list[str]:
    """Parameters that ``load_weights`` filled by other means than writing to them."""
    return [
        name
        for name, parameter in parameters.items()
        if _holder(model, name)._parameters.get(name.rpartition(".")[2]) is not parameter
        or parameter.data.untyped_storage()._cdata != data[name].untyped_storage()._cdata
    ]


def _put_back(
    model: torch.nn.Module,
    parameters: dict[str, torch.nn.Parameter],
    data: dict[str, torch.Tensor],
) -> None:
    """Undo what :func:`_replaced` finds."""
    for name in _replaced(model, parameters, data):
        _holder(model, name)._parameters[name.rpartition(".")[2]] = parameters[name]
        parameters[name].data = data[name]


def _holder(model: torch.nn.Module, name: str) -> torch.nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _ranks(model: torch.nn.Module) -> dict[str, int]:
    """How many ranks read a tensor of each parameter together, where that can be said.

    The parts of an embedding and of experts may be padded, or be of several lengths; and experts
    are divided over data-parallel ranks, too.
    """
    ranks = get_tensor_model_parallel_world_size()
    if ranks == 1:
        divided = {
            f"{prefix}.{name}"
            for prefix, module in model.named_modules()
            if isinstance(module, ExpertLayer) and is_divided(module)
            for name, _ in module.named_parameters()
        }
        return {name: 1 for name, _ in model.named_parameters() if name not in divided}
    return {
        f"{prefix}.{name}": ranks
        for prefix, module in model.named_modules()
        if isinstance(module, LinearBase)
        for name, _ in module.named_parameters(recurse=False)
    }
