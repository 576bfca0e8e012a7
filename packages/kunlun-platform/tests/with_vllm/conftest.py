# SPDX-License-Identifier: Apache-2.0
"""Engine configurations of small models, made by vLLM's own ``EngineArgs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vllm.engine.arg_utils import EngineArgs

DENSE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "torch_dtype": "float16",
}
LATENT = {
    **DENSE,
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 0,
}
# 4 heads of states 32 x 32 and the convolution's: 9.5 KiB in float16, as 76 tokens of attention.
HYBRID = {
    **DENSE,
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "head_dim": 32,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "num_experts": 4,
}


class Build:
    """``build(option=...)``: the engine configuration of a small model with these options."""

    dense, latent, hybrid = DENSE, LATENT, HYBRID

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, model: dict[str, Any] = DENSE, **options: Any) -> Any:
        (self.folder / "config.json").write_text(json.dumps(model))
        arguments = {"model": str(self.folder), "skip_tokenizer_init": True, **options}
        return EngineArgs(**arguments).create_engine_config()

    def refusal(self, model: dict[str, Any] = DENSE, **options: Any) -> str:
        """The message under which these options are refused."""
        # vLLM's own validation may wrap the error; the sentence has to reach the user all the same.
        with pytest.raises(ValueError) as caught:
            self(model, **options)
        return str(caught.value)


@pytest.fixture(scope="session")
def dense() -> dict[str, Any]:
    """The configuration of a small dense model."""
    return dict(DENSE)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    for name in ("VLLM_WORKER_MULTIPROC_METHOD", "VLLM_DISABLE_SHARED_EXPERTS_STREAM"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores what the platform sets
        monkeypatch.delenv(name)
    return Build(tmp_path)
