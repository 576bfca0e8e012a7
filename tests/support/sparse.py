# SPDX-License-Identifier: Apache-2.0
"""DeepSeek-V3.2, which transformers has not: its V3 with an indexer written from the formulas.

For query ``t`` and key ``s <= t``, ``I[t, s] = sum over h of w[t, h] relu(q[t, h] . k[s])``; the
query attends the ``index_topk`` keys of largest ``I``. Source: DeepSeek-V3.2-Exp, section 2.1.
Queries and keys of the indexer are rounded to int8 by their largest magnitude, where the paper
rounds to fp8; all else is float64.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from support import checkpoints
from support.reference import Reference
from torch import Tensor, nn

LOGPROB_TOLERANCE = 3e-4
HEADS, WIDTH = 16, 128  # with few heads, keys tie at 0: every product is negative
ARCHITECTURE = "DeepseekV32ForCausalLM"


def write(folder: Path, topk: int, *, name: str = "deepseek-v3-sparse", seed: int = 0) -> Path:
    """The checkpoint ``name``, a DeepSeek-V3, with a random indexer in each layer."""
    checkpoints.write(name, folder, seed=seed)
    described = json.loads((folder / "config.json").read_text())
    described |= {
        "architectures": [ARCHITECTURE],
        "model_type": "deepseek_v32",
        "index_topk": topk,
        "index_n_heads": HEADS,
        "index_head_dim": WIDTH,
    }
    (folder / "config.json").write_text(json.dumps(described))
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "wq_b.weight": (HEADS * WIDTH, described["q_lora_rank"]),
        "wk.weight": (WIDTH, described["hidden_size"]),
        "k_norm.weight": (WIDTH,),
        "k_norm.bias": (WIDTH,),
        "weights_proj.weight": (HEADS, described["hidden_size"]),
    }
    weights = load_file(folder / "model.safetensors")
    for layer in range(described["num_hidden_layers"]):
        for name, shape in shapes.items():
            value = torch.randn(shape, generator=generator) * 0.15 + (name == "k_norm.weight")
            weights[f"model.layers.{layer}.self_attn.indexer.{name}"] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class DenseReference(Reference):
    """HF's DeepSeek-V3 on the weights of a V3.2 checkpoint: every query sees every earlier key."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = transformers.DeepseekV3ForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        ).eval()


class SparseReference(DenseReference):
    """HF's DeepSeek-V3 whose attention layers see the keys that the formula chooses."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(checkpoint)
        topk = json.loads((checkpoint / "config.json").read_text())["index_topk"]
        weights = load_file(checkpoint / "model.safetensors")
        self.hidden_pairs = 0
        """Pairs of a query and an earlier key that some layer left out, so far."""
        for number, layer in enumerate(self.model.model.layers):
            prefix = f"model.layers.{number}.self_attn.indexer."
            indexer = {
                name.removeprefix(prefix): value.double()
                for name, value in weights.items()
                if name.startswith(prefix)
            }
            self._restrict(layer.self_attn, indexer, topk)

    def _restrict(self, attention: nn.Module, indexer: dict[str, Tensor], topk: int) -> None:
        dense = attention.forward

        def forward(hidden_states: Tensor, position_embeddings: tuple, attention_mask, **rest):
            scores = index_scores(attention, indexer, hidden_states[0], position_embeddings)
            length = scores.shape[0]
            causal = torch.ones(length, length, dtype=torch.bool).tril()
            best = scores.masked_fill(~causal, -torch.inf).topk(min(topk, length)).indices
            seen = torch.zeros_like(causal).scatter_(1, best, True) & causal
            self.hidden_pairs += int((causal & ~seen).sum())
            mask = torch.zeros(1, 1, length, length).masked_fill_(~seen, -torch.inf)
            return dense(hidden_states, position_embeddings, mask, **rest)

        attention.forward = forward

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """As the base class says, by ``count`` whole passes: the formula keeps no cache."""
        tokens = list(prompt)
        for _ in range(count):
            with torch.inference_mode():
                tokens.append(int(self.model(torch.tensor([tokens])).logits[0, -1].argmax()))
        return tokens[len(prompt) :]


def assert_agrees(
    judge: Reference,
    prompts: Sequence[list[int]],
    answers: Sequence[tuple[list[int], list[float]]],
    *,
    edges: int,
) -> None:
    """Tokens and log-probabilities are the judge's, but at ``edges`` places at the most.

    Rounding in float32 may put a number of the indexer on either side of an int8 step, and then one
    key at the edge of the chosen ones for another: of hundreds of places it happens at a few.
    """
    others = 0
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        best, expected = judge.judge(prompt, tokens)
        far = (torch.tensor(logprobs) - expected).abs() > LOGPROB_TOLERANCE
        others += int((far | (torch.tensor(best) != torch.tensor(tokens))).sum())
    assert others <= edges


def index_scores(
    attention: nn.Module, indexer: dict[str, Tensor], hidden: Tensor, rotation: tuple[Tensor, ...]
) -> Tensor:
    """``I``, float64 ``[T, T]``, of hidden states ``[T, hidden]``."""
    compressed = attention.q_a_layernorm(attention.q_a_proj(hidden)).double()
    hidden = hidden.double()
    cos, sin = (part[0].double().unsqueeze(1) for part in rotation)
    q = (compressed @ indexer["wq_b.weight"].T).view(-1, HEADS, WIDTH)
    k = hidden @ indexer["wk.weight"].T
    k = nn.functional.layer_norm(
        k, (WIDTH,), indexer["k_norm.weight"], indexer["k_norm.bias"], eps=1e-6
    ).unsqueeze(1)
    q, k = (rounded_to_int8(_rotated(part, cos, sin)) for part in (q, k))
    weights = hidden @ indexer["weights_proj.weight"].T * (WIDTH * HEADS) ** -0.5
    return torch.einsum("th,hts->ts", weights, torch.relu(torch.einsum("thd,sgd->hts", q, k)))


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first part of each head turned, halves against halves."""
    width = cos.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    low, high = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-high, low], -1) * sin, rest], -1)


def rounded_to_int8(x: Tensor) -> Tensor:
    """Rounded to 127 steps of the largest magnitude of each row."""
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale
