# SPDX-License-Identifier: Apache-2.0
"""Decoders that embed, classify and reward, against HF's last hidden states."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.engine import engine

Prompts = Sequence[list[int]]


@pytest.fixture(scope="module")
def prompts(prompts):
    return prompts[1:8:2]


@torch.inference_mode()
def hidden_states(folder: Path, prompts: Prompts) -> list[torch.Tensor]:
    """HF's, ``[T, N]`` of each prompt."""
    model = transformers.AutoModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return [model(torch.tensor([prompt])).last_hidden_state[0] for prompt in prompts]


def as_tokens(prompts: Prompts) -> list[dict[str, list[int]]]:
    return [{"prompt_token_ids": prompt} for prompt in prompts]


def near(came: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for each, other in zip(came, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(each), other, rtol=1e-4, atol=2e-5)


def test_embeddings(checkpoint, prompts):
    """The last token's, of length 1."""
    folder = checkpoint("qwen3")
    last = [states[-1] for states in hidden_states(folder, prompts)]
    with engine(folder, runner="pooling") as llm:
        outputs = llm.embed(as_tokens(prompts), use_tqdm=False)
    near(
        [torch.tensor(output.outputs.embedding) for output in outputs],
        [torch.nn.functional.normalize(each, dim=0) for each in last],
    )


@pytest.mark.slow
def test_the_classes_of_a_head_and_a_reward_for_each_token(checkpoint, prompts, tmp_path):
    """The head is a linear layer ``score`` beside a decoder, as HF has it."""
    source = checkpoint("qwen3")
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    score = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))
    tensors = {
        n: e for n, e in load_file(source / "model.safetensors").items() if "lm_head" not in n
    }
    save_file({**tensors, "score.weight": score}, tmp_path / "model.safetensors", {"format": "pt"})
    described = json.loads((source / "config.json").read_text())
    described |= {
        "architectures": ["Qwen3ForSequenceClassification"],
        "id2label": {"0": "a", "1": "b", "2": "c"},
    }
    (tmp_path / "config.json").write_text(json.dumps(described))
    with torch.inference_mode():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        expected = [model(torch.tensor([prompt])).logits[0].softmax(-1) for prompt in prompts]
    with engine(tmp_path, runner="pooling") as llm:
        outputs = llm.classify(as_tokens(prompts), use_tqdm=False)
        of_tokens = llm.encode(as_tokens(prompts), pooling_task="token_classify", use_tqdm=False)
    near([torch.tensor(output.outputs.probs) for output in outputs], expected)
    states = hidden_states(source, prompts)
    near([o.outputs.data for o in of_tokens], [(each @ score.T).softmax(-1) for each in states])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2-tied", "llama", "qwen3-moe", "gemma2", "deepseek-v2-lite"])
def test_other_decoders_embed(name, checkpoint, prompts):
    folder = checkpoint(name)
    states = hidden_states(folder, prompts)
    with engine(folder, runner="pooling") as llm:
        outputs = llm.embed(as_tokens(prompts), use_tqdm=False)
        every = llm.encode(as_tokens(prompts), pooling_task="token_embed", use_tqdm=False)
    normalised = [torch.nn.functional.normalize(each, dim=-1) for each in states]
    near(
        [torch.tensor(output.outputs.embedding) for output in outputs], [n[-1] for n in normalised]
    )
    near([output.outputs.data for output in every], normalised)


@pytest.mark.slow
@pytest.mark.parametrize("architectures", [[], None], ids=["empty", "missing"])
def test_a_configuration_without_architectures(architectures, checkpoint, prompts, tmp_path):
    """vLLM takes the base model of its ``model_type``, which has no head."""
    source = checkpoint("qwen3")
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    described = json.loads((source / "config.json").read_text())
    del described["architectures"]
    if architectures is not None:
        described["architectures"] = architectures
    (tmp_path / "config.json").write_text(json.dumps(described))
    last = [states[-1] for states in hidden_states(source, prompts)]
    with engine(tmp_path) as llm:
        outputs = llm.embed(as_tokens(prompts), use_tqdm=False)
    near(
        [torch.tensor(output.outputs.embedding) for output in outputs],
        [torch.nn.functional.normalize(each, dim=0) for each in last],
    )
