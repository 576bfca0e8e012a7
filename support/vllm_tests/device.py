# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin that names our device to a process of vLLM's tests (`-p vllm_tests.device`)."""

from __future__ import annotations

import gc

import pytest

__all__ = ["ATTENTION", "LATENT_ATTENTION", "prepare"]

ATTENTION = "vllm_kunlun.ops.attention.backend.KunlunAttentionBackend"
"""What vLLM's tests find under CUSTOM, its name for the backends of others."""

LATENT_ATTENTION = "vllm_kunlun.mla.flashmla.FlashMLABackend"
"""What they find under FLASHMLA, vLLM's own of that name being CUDA's."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    prepare()


def pytest_collection_finish() -> None:
    """Keep what is there out of the collection of garbage after each test: vLLM thaws it again."""
    gc.collect()
    gc.freeze()
    gc.unfreeze = lambda: None


def prepare() -> None:
    """Load the platform, its layers and its attention; calls that wait for CUDA return at once.

    Raises:
        AssertionError: the platform is not ours.
    """
    import torch
    from vllm.model_executor.models import registry
    from vllm.platforms import current_platform
    from vllm.plugins import load_general_plugins
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    load_general_plugins()
    assert type(current_platform).__name__ == "KunlunPlatform", current_platform
    register_backend(AttentionBackendEnum.CUSTOM, ATTENTION)
    register_backend(AttentionBackendEnum.FLASHMLA, LATENT_ATTENTION)
    if current_platform.device_type == "cpu":  # the rehearsed card has a torch.cuda of its own
        for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", "set_device"):
            setattr(torch.cuda, name, lambda *_args, **_kwargs: None)
        torch.cuda.current_device = lambda: 0
    # vLLM looks at a model's class in a process of its own, as CUDA may have been initialised.
    registry._run_in_subprocess = lambda function: function()
