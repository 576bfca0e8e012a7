# SPDX-License-Identifier: Apache-2.0
"""vLLM's ``reload_weights`` from 0.16 on, for models whose ``load_weights`` does all of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from vllm.logger import init_logger
from vllm.model_executor.model_loader import get_model_loader

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["reload_weights"]

logger = init_logger("vllm.kunlun.loading")


def reload_weights(
    self: Any,
    weights_iterator: Iterable[tuple[str, Tensor]] | None = None,
    weights_path: str | None = None,
    is_checkpoint_format: bool = True,
) -> None:
    """Stands for ``GPUModelRunner.reload_weights``: the model's layers keep their parameters.

    vLLM puts others in their place and processes each layer again when all of it has come; here
    :class:`~vllm_kunlun.platforms.loading.renewal.Renewal` does both, for a part of a layer, too.

    Args:
        weights_iterator: tensors by a checkpoint's names; without it, those of the files.
        weights_path: folder of the files, from now on; without it, the one of the start.

    Raises:
        CheckpointError: the files do not fit the model, which keeps its weights.
        UnsupportedError: the weights are not those of a checkpoint.
    """
    if not is_checkpoint_format:
        raise UnsupportedError(
            "reload_weights: is_checkpoint_format=False would write over weights that lie as this "
            "device reads them. Give the tensors of a checkpoint, by its names."
        )
    model = self.get_model()
    if weights_iterator is not None:
        model.load_weights(weights_iterator)
        return
    if weights_path is not None:
        self.model_config.model = weights_path
    get_model_loader(self.load_config).load_weights(model, model_config=self.model_config)
