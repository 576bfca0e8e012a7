# SPDX-License-Identifier: Apache-2.0
"""Embeddings and classes, of decoders and of an encoder."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from support import characters, checkpoints
from support.engine import engine
from support.tried import judged
from vllm.config import PoolerConfig

__all__ = ["TRIED"]


def _pooling(folder: Path, task: str):
    """An engine for ``task``, with a tokenizer.

    vLLM 0.33 asks for one though prompts are tokens, and for the task at its start.
    """
    characters.add(folder)
    named = {"task": task} if "task" in {each.name for each in fields(PoolerConfig)} else {}
    return engine(
        folder, runner="pooling", skip_tokenizer_init=False, pooler_config=PoolerConfig(**named)
    )


def _pooled(task: str):
    def tried(folder: Path, prompts: judged.Prompts) -> None:
        source = checkpoints.write("qwen3", folder)
        model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32).eval()
        score = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))
        if "class" in task:
            tensors = load_file(source / "model.safetensors")
            tensors = {name: each for name, each in tensors.items() if "lm_head" not in name}
            save_file({**tensors, "score.weight": score}, source / "model.safetensors")
            file = source / "config.json"
            described = {"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 3}
            described["id2label"] = {str(n): str(n) for n in range(3)}
            file.write_text(json.dumps(json.loads(file.read_text()) | described))
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        with _pooling(source, task) as llm:
            outputs = llm.encode(asked, pooling_task=task, use_tqdm=False)
        for prompt, output in zip(prompts, outputs, strict=True):
            with torch.inference_mode():
                states = model(torch.tensor([prompt])).last_hidden_state[0]
            if "class" in task:
                wanted = (states @ score.T).softmax(-1)
            else:
                wanted = torch.nn.functional.normalize(states, dim=-1)
            if not task.startswith("token"):
                wanted = wanted[-1]
            torch.testing.assert_close(output.outputs.data, wanted, rtol=1e-4, atol=2e-5)

    return tried


def _encoder(folder: Path, prompts: judged.Prompts) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=checkpoints.VOCABULARY,
        hidden_size=96,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=3,
        initializer_range=0.15,
    )
    model = transformers.BertModel(config).eval()
    model.save_pretrained(folder)
    with _pooling(folder, "embed") as llm:
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs = llm.encode(asked, pooling_task="embed", use_tqdm=False)
    for prompt, output in zip(prompts, outputs, strict=True):
        with torch.inference_mode():
            state = model(torch.tensor([prompt])).last_hidden_state[0, 0]
        wanted = torch.nn.functional.normalize(state, dim=0)
        torch.testing.assert_close(output.outputs.data, wanted, rtol=1e-4, atol=2e-5)


TRIED = {
    "embeddings": _pooled("embed"),
    "token embeddings": _pooled("token_embed"),
    "classification": _pooled("classify"),
    "rewards": _pooled("token_classify"),
    "encoders": _encoder,
}
