# SPDX-License-Identifier: Apache-2.0
"""What is entered into vLLM's registries: each table once, before vLLM's own, without a warning."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from vllm.model_executor.layers import linear, quantization
from vllm.platforms import PlatformEnum

from vllm_kunlun.quantization import registry
from vllm_kunlun.quantization.vllm_compat.linear_kernels import mixed_precision, scaled_mm

pytestmark = pytest.mark.usefixtures("registries")
LOGGER = logging.getLogger("vllm.model_executor.layers.quantization")


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What vLLM says of methods that are replaced: a warning, in 0.33 a line for debugging."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    level = LOGGER.level
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.addHandler(handler)
    yield messages
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(level)


def packed_kernels() -> list[object]:
    """Those that vLLM chooses among on our platform."""
    possible = mixed_precision._POSSIBLE_KERNELS
    return list(possible.get(PlatformEnum.OOT, ()) if isinstance(possible, dict) else possible)


@pytest.mark.parametrize("name", registry.CONFIGS)
def test_a_config_takes_the_place_of_vllms(name: str) -> None:
    ours = registry.CONFIGS[name]
    theirs = quantization.get_quantization_config(name)
    assert theirs is not ours
    assert issubclass(ours, theirs)
    registry.register()
    assert quantization.get_quantization_config(name) is ours


def test_kernels_are_asked_before_vllms() -> None:
    theirs = packed_kernels()
    others = dict(scaled_mm._POSSIBLE_INT8_KERNELS)
    registry.register()
    assert [*registry.MIXED_PRECISION_KERNELS, *theirs] == packed_kernels()
    assert {**others, PlatformEnum.OOT: registry.INT8_KERNELS} == scaled_mm._POSSIBLE_INT8_KERNELS
    assert scaled_mm._POSSIBLE_INT8_KERNELS[PlatformEnum.OOT] is not registry.INT8_KERNELS


def test_linear_methods_load_their_parameters_themselves() -> None:
    theirs = list(linear.WEIGHT_LOADER_V2_SUPPORTED)
    registry.register()
    ours = [method.__name__ for method in registry.LINEAR_METHODS]
    assert "KunlunAWQLinearMethod" in ours
    assert theirs + ours == linear.WEIGHT_LOADER_V2_SUPPORTED


def test_registering_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def tables() -> tuple[object, ...]:
        return (
            dict(quantization._CUSTOMIZED_METHOD_TO_QUANT_CONFIG),
            list(linear.WEIGHT_LOADER_V2_SUPPORTED),
            packed_kernels(),
            dict(scaled_mm._POSSIBLE_INT8_KERNELS),
        )

    registry.register()
    before = tables()
    entered: list[str] = []
    monkeypatch.setattr(registry, "register_quantization_config", entered.append)
    registry.register()
    assert tables() == before
    assert entered == []


def test_vllm_warns_of_the_methods_of_others_only(warnings: list[str]) -> None:
    level = LOGGER.level
    registry.register()
    assert warnings == []
    assert LOGGER.level == level
    quantization.register_quantization_config("awq")(registry.CONFIGS["awq"])
    (message,) = warnings
    assert "'awq' already exists" in message


def test_warnings_come_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    level = LOGGER.level
    monkeypatch.setattr(registry, "CONFIGS", {"no such method": registry.CONFIGS["awq"]})
    with pytest.raises(ValueError, match="no such method"):
        registry.register()
    assert LOGGER.level == level
