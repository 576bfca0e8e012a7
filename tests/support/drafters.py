# SPDX-License-Identifier: Apache-2.0
"""Draft heads for tiny checkpoints, made so that they often guess right.

A target whose layers are weak says what follows its last token, and so can a head without training:

- EAGLE (arXiv:2401.15077) reads ``W [embedding of the next token, the model's hidden state]``. Here
  ``W = [1, noise]``, and its layer is the target's first one.
- EAGLE-3 (arXiv:2503.01840) sees that embedding through attention alone. Here query and key are so
  large that a token attends to itself, and value and output hand its embedding on.
- Medusa (arXiv:2401.10774) has a head for each place, which reads the hidden state of the last
  token. Here row ``t`` of a head is the mean of the states after which ``t`` comes at its place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

__all__ = ["eagle", "eagle3", "medusa", "weaken"]

WEAK = 0.05
HEADS, KEY_HEADS, HEAD = 6, 3, 32
"""Of a head's attention; the keys' heads together are as wide as the tiny models are."""

AUXILIARY = [1, 2, 3]
"""Layers before which EAGLE-3 reads the target; vLLM's choice is for deep models."""

Weights = dict[str, torch.Tensor]


def weaken(target: Path) -> Path:
    """Let the last token decide, in a checkpoint that a head shall guess."""
    weights = load_file(target / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    # Rows of root mean square 1 pass a norm unchanged; the row of the padding is zero.
    embedding.div_(embedding.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6))
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] = weights[name] * WEAK
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def eagle(target: Path, folder: Path, *, noise: float = 0.02) -> Path:
    """A head for a Llama ``target``."""
    weights = load_file(target / "model.safetensors")
    hidden = weights["model.norm.weight"].shape[0]
    head = {
        name.removeprefix("model."): value
        for name, value in weights.items()
        if name.startswith("model.layers.0.") and "input_layernorm" not in name
    }
    head["fc.weight"] = torch.cat([torch.eye(hidden), noise * _random(hidden, hidden)], 1)
    described = json.loads((target / "config.json").read_text()) | {"num_hidden_layers": 1}
    return _saved(folder, described, head)


def eagle3(target: Path, folder: Path, *, noise: float = 0.02) -> Path:
    """A head for a ``target`` of four layers, 96 wide; it knows three tokens of four."""
    weights = load_file(target / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    hidden = embedding.shape[1]
    look = torch.cat([_random(KEY_HEADS * HEAD, hidden), torch.zeros(hidden, hidden)], 1)
    own = torch.cat([torch.eye(hidden), torch.zeros(hidden, hidden)], 1)
    hand_on = torch.zeros(hidden, HEADS, HEAD)
    for head in range(KEY_HEADS):
        first = head * HEAD
        hand_on[first : first + HEAD, head * HEADS // KEY_HEADS] = torch.eye(HEAD)
    spoken = torch.tensor([t for t in range(len(embedding)) if t % 4 != 3])
    layer = "midlayer."
    described = json.loads((target / "config.json").read_text())
    mlp = described["intermediate_size"]
    head_weights = {
        "fc.weight": noise * _random(hidden, 3 * hidden),
        f"{layer}input_layernorm.weight": torch.ones(hidden),
        f"{layer}hidden_norm.weight": torch.ones(hidden),
        f"{layer}post_attention_layernorm.weight": torch.ones(hidden),
        f"{layer}self_attn.q_proj.weight": look.view(KEY_HEADS, HEAD, -1)
        .repeat_interleave(HEADS // KEY_HEADS, 0)
        .reshape(HEADS * HEAD, -1),
        f"{layer}self_attn.k_proj.weight": look.clone(),
        f"{layer}self_attn.v_proj.weight": own,
        f"{layer}self_attn.o_proj.weight": hand_on.view(hidden, -1),
        f"{layer}mlp.gate_proj.weight": torch.zeros(mlp, hidden),
        f"{layer}mlp.up_proj.weight": torch.zeros(mlp, hidden),
        f"{layer}mlp.down_proj.weight": torch.zeros(hidden, mlp),
        "norm.weight": torch.ones(hidden),
        "lm_head.weight": weights["lm_head.weight"][spoken],
        "d2t": spoken - torch.arange(len(spoken)),
    }
    config = transformers.LlamaConfig(
        vocab_size=len(embedding),
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        head_dim=HEAD,
        max_position_embeddings=described["max_position_embeddings"],
        architectures=["LlamaForCausalLM"],
    ).to_dict()
    config |= {"draft_vocab_size": len(spoken), "eagle_aux_hidden_state_layer_ids": AUXILIARY}
    return _saved(folder, config, head_weights)


@torch.inference_mode()
def medusa(target: Path, folder: Path, *, places: int) -> Path:
    """Heads for the ``places`` tokens after the next one."""
    model = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    tokens = torch.arange(model.config.vocab_size)
    states = model.model(tokens[:, None]).last_hidden_state[:, 0]
    follower = model.lm_head(states).argmax(-1)
    heads: Weights = {}
    comes = follower
    for place in range(places):
        comes = follower[comes]
        heads[f"{place}.lm_head"] = torch.zeros_like(states).index_add_(0, comes, states)
    described = {
        "model_type": "medusa",
        "architectures": ["MedusaModel"],
        "hidden_size": states.shape[1],
        "vocab_size": len(tokens),
        "num_heads": places,
        "num_hidden_layers": 1,
        "torch_dtype": "float32",
    }
    weights = {}
    for place in range(places):
        weights[f"blocks.{place}.layers.0.weight"] = torch.zeros(states.shape[1], states.shape[1])
        weights[f"lm_heads.{place}.weight"] = heads[f"{place}.lm_head"]
    return _saved(folder, described, weights)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _saved(folder: Path, described: dict[str, Any], weights: Weights) -> Path:
    (folder / "config.json").write_text(json.dumps(described))
    save_file({n: w.contiguous().clone() for n, w in weights.items()}, folder / "model.safetensors")
    return folder
