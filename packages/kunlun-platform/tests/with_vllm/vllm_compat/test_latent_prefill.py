# SPDX-License-Identifier: Apache-2.0
"""Nothing of vLLM's stands in for a kernel of prompts."""

from __future__ import annotations

from vllm_kunlun.platforms.kunlun import KunlunPlatform
from vllm_kunlun.platforms.vllm_compat.latent_prefill import NoPrefillBackend


def test_it_takes_every_size_and_computes_nothing() -> None:
    assert KunlunPlatform.get_mla_prefill_backend_cls(object()) is NoPrefillBackend
    made = NoPrefillBackend(num_heads=2, scale=1.0, kv_lora_rank=4)
    assert [name for name in dir(made) if not name.startswith("_")] == ["get_name"]
    assert made.get_name() == "KUNLUN"
