# SPDX-License-Identifier: Apache-2.0
"""Models that are refused before anything of them is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vllm_kunlun.platforms import families, wheels
from vllm_kunlun.platforms.checks import model
from vllm_kunlun.platforms.errors import KunlunError


def test_sleep_mode(build: Any) -> None:
    assert "Sleep mode is not supported" in build.refusal(enable_sleep_mode=True)


def test_an_encoder_with_a_decoder(build: Any) -> None:
    whisper = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "vocab_size": 128,
        "d_model": 64,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_target_positions": 64,
        "pad_token_id": 0,
        "torch_dtype": "float16",
    }
    message = build.refusal(whisper)
    assert "WhisperForConditionalGeneration is an encoder with a decoder" in message


PICTURES = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 1},
    "vision_config": {"model_type": "siglip_vision_model", "num_hidden_layers": 1},
    "torch_dtype": "bfloat16",
}


def test_pictures_that_attend_in_both_directions(build: Any) -> None:
    message = build.refusal(PICTURES)
    assert "Gemma3ForConditionalGeneration lets image tokens attend each other" in message
    build(PICTURES, limit_mm_per_prompt={"image": 0})


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("MambaForCausalLM", {"model_type": "mamba", "state_size": 8, "expand": 2}),
        (
            "GraniteMoeHybridForCausalLM",
            {"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"]},
        ),
    ],
)
def test_layers_of_a_state_space(build: Any, architecture: str, more: dict[str, Any]) -> None:
    message = build.refusal({**build.dense, "architectures": [architecture], **more})
    assert f"{architecture} has layers of a state space" in message
    assert "run the model on another platform" in message


def test_linear_attention_without_its_familys_wheel(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "GROUP", "planted.nobody")
    assert "pip install kunlun-models-qwen" in build.refusal(build.hybrid)


@pytest.mark.parametrize(
    ("more", "kind"),
    [({}, "mla"), ({"index_topk": 64}, "mla_sparse")],
    ids=["mla", "mla_sparse"],
)
def test_latent_attention_without_its_wheel_names_it(
    build: Any, more: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "entry_points", lambda **_: [])
    with pytest.raises(Exception, match=f"'{kind}'.*pip install kunlun-mla"):
        build({**build.latent, **more})


def test_a_damaged_file(build: Any) -> None:
    file = build.folder / "model.safetensors"
    save_file({"weight": torch.ones(64)}, file)
    assert build().model_config.model == str(build.folder)
    file.write_bytes(file.read_bytes()[:-1])
    assert "model.safetensors" in build.refusal()


def test_a_tokenizer_is_asked_of_a_target_and_of_no_draft(tmp_path: Path) -> None:
    described = SimpleNamespace(
        enable_sleep_mode=False,
        is_encoder_decoder=False,
        is_mm_prefix_lm=False,
        is_hybrid=False,
        is_attention_free=False,
        use_mla=False,
        model=str(tmp_path),
        tokenizer=str(tmp_path),
        skip_tokenizer_init=False,
    )
    config = SimpleNamespace(
        model_config=described,
        load_config=SimpleNamespace(load_format="dummy"),
        speculative_config=SimpleNamespace(draft_model_config=described),
    )
    model.check(config)
    config.speculative_config = SimpleNamespace(draft_model_config=None)
    with pytest.raises(KunlunError, match="holds no tokenizer"):
        model.check(config)
