# SPDX-License-Identifier: Apache-2.0
"""A quantised checkpoint whose config.json does not say so: older quantisers wrote another file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm.logger import init_logger

from vllm_kunlun.platforms.checks import quantisation
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["FILES", "update"]

logger = init_logger("vllm.kunlun.configuration")

FILES = ("quantize_config.json", "quant_config.json")
"""Of AutoGPTQ, and of AutoAWQ, from before transformers read the configuration."""


def update(config: VllmConfig) -> None:
    """Take over the configuration that lies beside config.json, if no other one was named.

    Raises:
        UnsupportedError: the file is not JSON.
    """
    from vllm.config import VllmConfig

    model = config.model_config
    if model is None or model.quantization is not None:
        return
    for name in FILES:
        file = Path(model.model) / name
        if file.is_file() and (found := _read(file)) is not None:
            method = found["quant_method"]
            quantisation.check(method)
            logger.info("config.json names no quantisation; %s says %s.", file, method)
            model.hf_config.quantization_config = found
            model.quantization = method
            config.quant_config = VllmConfig.get_quantization_config(model, config.load_config)
            return


def _read(file: Path) -> dict[str, Any] | None:
    """What ``file`` says, with the name of the method; None if it is about something else."""
    try:
        found: Any = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnsupportedError(
            f"{file} is not JSON ({error}): copy or download it again, or remove it if the "
            "checkpoint's weights are floats."
        ) from error
    if not isinstance(found, dict) or not {"bits", "w_bit"} & found.keys():
        return None
    awq = bool({"w_bit", "q_group_size", "zero_point"} & found.keys())
    return {**found, "quant_method": found.get("quant_method") or ("awq" if awq else "gptq")}
