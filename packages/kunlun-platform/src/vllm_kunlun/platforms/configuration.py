# SPDX-License-Identifier: Apache-2.0
"""vLLM's configuration, checked and then completed for a Kunlun device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from vllm.logger import init_logger

from vllm_kunlun.platforms import families
from vllm_kunlun.platforms.checks import (
    cache,
    connectors,
    lora,
    model,
    parallel,
    weight_transfer,
)
from vllm_kunlun.platforms.settings import cache as cache_settings
from vllm_kunlun.platforms.settings import compilation, engine, hosts, quantisation
from vllm_kunlun.platforms.torch25 import refusals
from vllm_kunlun.platforms.vllm_compat import not_yet

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["check_and_update"]

logger = init_logger("vllm.kunlun.configuration")


def check_and_update(config: VllmConfig, *, on_card: bool) -> None:
    """Refuse what the device cannot do (``checks``), then fill in the rest (``settings``).

    Args:
        config: changed in place.
        on_card: False when the device is emulated in host memory.

    Raises:
        MissingWheelError: a wheel that the model or the device needs is not installed.
        UnsupportedError: naming the option, what came, and the alternative.
    """
    _say_what_serves(config)
    connectors.check(config)  # one that runs with no release is not said to run with an earlier one
    not_yet.check(config, on_card=on_card)
    model.check(config)
    quantisation.update(config)
    lora.check(config)
    cache.check(config)
    parallel.check(config)
    if on_card:
        parallel.check_cards(config)
    weight_transfer.check(config)
    cache_settings.update(config)
    engine.update(config, on_card=on_card)
    hosts.update(config)
    compilation.turn_off_what_does_not_fit(config.compilation_config)
    refusals.check(config.compilation_config)
    compilation.update(config.compilation_config, on_card=on_card)
    if not on_card:
        engine.update_for_emulation(config)


def _say_what_serves(config: VllmConfig) -> None:
    if config.model_config is None:
        return
    architecture = config.model_config.architecture
    logger.info_once("%s", families.served_by(architecture), scope="local")
    if config.model_config.dtype == torch.bfloat16:
        logger.warning(
            "dtype bfloat16: the card is reported to keep bfloat16 weights twice and to multiply "
            "at half of float16's speed. Use --dtype float16 unless the model needs bfloat16's "
            "range."
        )
