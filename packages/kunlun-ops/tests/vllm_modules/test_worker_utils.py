# SPDX-License-Identifier: Apache-2.0
"""Caches of a target and its drafter are bound, layer by layer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.v1.worker import gpu_model_runner, utils

from vllm_kunlun.ops.vllm_modules import worker_utils
from vllm_kunlun.ops.vllm_modules.redirects import redirects
from vllm_kunlun.platforms.ledger import import_hook

[REDIRECT] = [each for each in redirects() if each.target == "vllm.v1.worker.utils"]
redirected = pytest.mark.skipif(
    REDIRECT.out_of_range() is not None, reason="this vLLM binds them itself, on any platform"
)

NAMES = ["model.layers.1.attn", "draft_model.model.layers.0.attn", "model.layers.0.attn"]


class Layer(SimpleNamespace):
    """A layer that is given its cache; 0.33 asks it to take it."""

    def bind_kv_cache(self, cache: torch.Tensor) -> None:
        self.kv_cache = [cache]


def test_layers_of_one_index_are_bound() -> None:
    caches = {name: torch.full((1,), float(place)) for place, name in enumerate(NAMES)}
    layers = {name: Layer() for name in NAMES}
    of_the_runner: list[torch.Tensor] = []
    gpu_model_runner.bind_kv_cache(caches, layers, of_the_runner)
    assert [int(cache) for cache in of_the_runner] == [1, 2, 0]
    for name in NAMES:
        (bound,) = layers[name].kv_cache
        assert bound is caches[name]


@redirected
def test_vllms_own_refuses_them() -> None:
    """The redirect's reason: when this fails, vLLM does it itself and the redirect can go."""
    own = import_hook.import_original("vllm.v1.worker.utils")
    caches = dict.fromkeys(NAMES, torch.zeros(1))
    layers = {name: SimpleNamespace() for name in NAMES}
    with pytest.raises(NotImplementedError):
        own.bind_kv_cache(caches, layers, [])


@redirected
def test_every_other_name_of_the_module_is_vllms() -> None:
    own = import_hook.import_original("vllm.v1.worker.utils")
    assert utils is worker_utils
    assert utils.AttentionGroup is own.AttentionGroup
    with pytest.raises(AttributeError, match="no_such_name"):
        utils.no_such_name  # noqa: B018
