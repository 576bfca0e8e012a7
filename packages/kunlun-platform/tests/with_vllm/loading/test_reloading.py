# SPDX-License-Identifier: Apache-2.0
"""What reload_weights of newer releases asks of the loader and of the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import reloading


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A runner that notes what its model is given, and what its loader is asked for."""
    given: list[Any] = []
    made = SimpleNamespace(
        given=given,
        load_config="as at the start",
        model_config=SimpleNamespace(model="first"),
        get_model=lambda: SimpleNamespace(load_weights=lambda weights: given.extend(weights)),
    )

    def loader(configuration: object) -> Any:
        return SimpleNamespace(
            load_weights=lambda _, model_config: given.append((configuration, model_config.model))
        )

    monkeypatch.setattr(reloading, "get_model_loader", loader)
    return made


def test_without_a_source_it_is_the_files_of_the_start(runner: Any) -> None:
    reloading.reload_weights(runner)
    assert runner.given == [("as at the start", "first")]


def test_a_folder_is_the_models_from_now_on(runner: Any) -> None:
    reloading.reload_weights(runner, weights_path="second")
    reloading.reload_weights(runner)
    assert runner.given == [("as at the start", "second")] * 2


def test_tensors_go_to_the_model(runner: Any) -> None:
    weights = [("a", torch.ones(1))]
    reloading.reload_weights(runner, iter(weights))
    assert runner.given == weights


def test_weights_of_a_device_are_refused(runner: Any) -> None:
    with pytest.raises(UnsupportedError, match="is_checkpoint_format=False"):
        reloading.reload_weights(runner, iter([]), is_checkpoint_format=False)
    assert runner.given == []
