# SPDX-License-Identifier: Apache-2.0
"""auto-round (arXiv:2309.05516): rounding that is learned, packed as GPTQ or AWQ pack."""

from __future__ import annotations

import re
from typing import Any

from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.quantization.inc import INCConfig

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.formats.awq import KunlunAWQConfig
from vllm_kunlun.quantization.formats.gptq import KunlunGPTQConfig

__all__ = ["KunlunINCConfig"]

_FLOAT_BITS = 16
_SPECIAL = "*+?^$()[]{}|\\"
"""A name with one of these is a regular expression, as vLLM reads it."""


class KunlunINCConfig(INCConfig):
    """The configuration of the format that the weights are packed in."""

    @classmethod
    def get_config_filenames(cls) -> list[str]:
        return ["quantization_config.json", "quantize_config.json"]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizationConfig:
        """GPTQ's or AWQ's configuration of the same weights.

        Raises:
            UnsupportedError: weights that are no integers, activations that are quantised, or
                another packing; and as GPTQ's and AWQ's.
        """
        data, activations = config.get("data_type", "int"), config.get("act_bits") or _FLOAT_BITS
        if data != "int" or activations < _FLOAT_BITS:
            raise UnsupportedError(
                f"auto-round with data_type={data!r} and act_bits={activations}: integer weights "
                "and float activations are implemented. Export W4A16 or W8A16, or W8A8 with "
                "--format llm_compressor."
            )
        packing = config.get("packing_format", "auto_round:auto_gptq")
        if packing == "auto_round:auto_gptq":
            return KunlunGPTQConfig.from_config(
                {**config, "desc_act": False, "lm_head": False, "checkpoint_format": "gptq",
                 "dynamic": _rules(config.get("extra_config") or {})}
            )  # fmt: skip
        if packing == "auto_round:auto_awq":
            _check_alike(config)
            return KunlunAWQConfig.from_config(
                {**config, "zero_point": True, "version": "gemm", "modules_to_not_convert": None}
            )
        raise UnsupportedError(
            f"auto-round packing_format={packing!r}: 'auto_round:auto_gptq' and "
            "'auto_round:auto_awq' are implemented. Export with --format auto_gptq or auto_awq."
        )


def _rules(layers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """GPTQModel's rules for what auto-round says of single layers, whole names first."""
    rules: dict[str, dict[str, Any]] = {}
    for name, settings in sorted(layers.items(), key=lambda item: _is_pattern(item[0])):
        bits = settings.get("bits")
        sign = "-:" if bits is not None and bits >= _FLOAT_BITS else "+:"
        pattern = f".*(?:{name})" if _is_pattern(name) else f"{re.escape(name)}$"
        changed = [key for key in ("bits", "group_size") if key in settings and sign == "+:"]
        rules[sign + pattern] = {key: settings[key] for key in changed}
    return rules


def _is_pattern(name: str) -> bool:
    return any(letter in _SPECIAL for letter in name)


def _check_alike(config: dict[str, Any]) -> None:
    """AWQ's configuration has no place for other bits or groups of single layers."""
    common = {"bits": config.get("bits"), "group_size": config.get("group_size")}
    for name, settings in (config.get("extra_config") or {}).items():
        own = {key: settings.get(key, value) for key, value in common.items()}
        if own != common and own["bits"] < _FLOAT_BITS:
            raise UnsupportedError(
                f"{name}: auto-round with {own} for this layer and {common} for the others is "
                "implemented for packing_format 'auto_round:auto_gptq'. Export with --format "
                "auto_gptq."
            )
