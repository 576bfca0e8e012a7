# SPDX-License-Identifier: Apache-2.0
"""MiMo-V2-Flash, which transformers has not: a random checkpoint, and its formulas in float64.

Layers of full attention and of a sliding window with a sink a head (a logit that takes part in the
softmax and has no value), the first part of each head rotated, values narrower than keys and
scaled; experts chosen by a biased sigmoid. Source: the model's published configuration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from support.checkpoints import VOCABULARY
from torch import Tensor

CONFIG: dict[str, Any] = {
    "architectures": ["MiMoV2FlashForCausalLM"],
    "model_type": "mimo_v2_flash",
    "auto_map": {"AutoConfig": "configuration_mimo.MiMoConfig"},
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 5,
    "hybrid_layer_pattern": [0, 1, 1, 0, 1],
    "moe_layer_freq": [0, 1, 1, 1, 1],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "v_head_dim": 32,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_head_dim": 64,
    "swa_v_head_dim": 32,
    "sliding_window_size": 9,
    "sliding_window": 9,
    "add_swa_attention_sink_bias": True,
    "attention_value_scale": 0.7,
    "attention_bias": False,
    "rope_theta": 5000.0,
    "swa_rope_theta": 1000.0,
    "partial_rotary_factor": 0.5,
    "max_position_embeddings": 512,
    "layernorm_epsilon": 1e-5,
    "hidden_act": "silu",
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "norm_topk_prob": True,
    "n_group": 1,
    "topk_group": 1,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def write(folder: Path, seed: int = 0) -> Path:
    """Save a random checkpoint, with the configuration class that real ones bring."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, mean: float = 0.0, std: float = 0.15) -> Tensor:
        return mean + std * torch.randn(*shape, generator=generator)

    c, weights = CONFIG, {}
    hidden = c["hidden_size"]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = random(VOCABULARY, hidden)
    weights["model.norm.weight"] = random(hidden, mean=1.0)
    for layer in range(c["num_hidden_layers"]):
        at, windowed = f"model.layers.{layer}.", c["hybrid_layer_pattern"][layer]
        kind = "swa_" if windowed else ""
        heads, groups = c[f"{kind}num_attention_heads"], c[f"{kind}num_key_value_heads"]
        key, value = c[f"{kind}head_dim"], c[f"{kind}v_head_dim"]
        rows = {"q": heads * key, "k": groups * key, "v": groups * value}
        for part, count in rows.items():
            weights[f"{at}self_attn.{part}_proj.weight"] = random(count, hidden)
        weights[f"{at}self_attn.o_proj.weight"] = random(hidden, heads * value)
        if windowed:
            weights[f"{at}self_attn.attention_sink_bias"] = random(heads, std=1.0)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}{norm}.weight"] = random(hidden, mean=1.0)
        places = [f"{at}mlp."]
        width = c["intermediate_size"]
        if c["moe_layer_freq"][layer]:
            experts = c["n_routed_experts"]
            weights[f"{at}mlp.gate.weight"] = random(experts, hidden)
            weights[f"{at}mlp.gate.e_score_correction_bias"] = random(experts)
            places = [f"{at}mlp.experts.{e}." for e in range(experts)]
            width = c["moe_intermediate_size"]
        for place in places:
            weights[f"{place}gate_proj.weight"] = random(width, hidden)
            weights[f"{place}up_proj.weight"] = random(width, hidden)
            weights[f"{place}down_proj.weight"] = random(hidden, width)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(c))
    (folder / "configuration_mimo.py").write_text(
        "from transformers import PretrainedConfig\n"
        "class MiMoConfig(PretrainedConfig):\n    model_type = 'mimo_v2_flash'\n"
    )
    return folder


def of_qwen2(folder: Path) -> Path:
    """Rename the checkpoint ``folder``, a Qwen2, to a MiMo (7B), which differs by draft layers."""
    described = json.loads((folder / "config.json").read_text())
    described |= {
        "architectures": ["MiMoForCausalLM"],
        "model_type": "mimo",
        "num_nextn_predict_layers": 1,
        "auto_map": {"AutoConfig": "configuration_mimo.MiMoConfig"},
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "configuration_mimo.py").write_text(
        "from transformers import Qwen2Config\n"
        "class MiMoConfig(Qwen2Config):\n    model_type = 'mimo'\n"
    )
    return folder


class MimoReference:
    """Greedy decoding by the formulas; nothing is cached."""

    def __init__(self, folder: Path) -> None:
        self.weights = {n: t.double() for n, t in load_file(folder / "model.safetensors").items()}

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self._logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]

    def _logits(self, tokens: Sequence[int]) -> Tensor:
        w = self.weights
        x = w["model.embed_tokens.weight"][list(tokens)]
        for layer in range(CONFIG["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            x = x + self._attention(layer, self._norm(x, f"{at}input_layernorm"))
            y = self._norm(x, f"{at}post_attention_layernorm")
            x = x + (self._experts if CONFIG["moe_layer_freq"][layer] else self._dense)(at, y)
        return self._norm(x, "model.norm") @ w["lm_head.weight"].T

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale = (x.square().mean(-1, keepdim=True) + CONFIG["layernorm_epsilon"]).rsqrt()
        return x * scale * self.weights[f"{name}.weight"]

    def _attention(self, layer: int, x: Tensor) -> Tensor:
        windowed = CONFIG["hybrid_layer_pattern"][layer]
        kind, at = "swa_" if windowed else "", f"model.layers.{layer}.self_attn."
        theta = CONFIG[f"{kind}rope_theta"]
        heads, groups = CONFIG[f"{kind}num_attention_heads"], CONFIG[f"{kind}num_key_value_heads"]
        q, k, v = (x @ self.weights[f"{at}{part}_proj.weight"].T for part in "qkv")
        q, k = (
            _rotate(q.unflatten(1, (heads, -1)), theta),
            _rotate(k.unflatten(1, (groups, -1)), theta),
        )
        v = v.unflatten(1, (groups, -1)) * CONFIG["attention_value_scale"]
        k, v = (t.repeat_interleave(heads // groups, 1) for t in (k, v))
        logits = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        behind = torch.arange(len(x)).unsqueeze(1) - torch.arange(len(x))
        seen = behind >= 0
        if windowed:
            seen &= behind < CONFIG["sliding_window_size"]
        logits = logits.masked_fill(~seen, -torch.inf)
        if windowed:
            sink = self.weights[f"{at}attention_sink_bias"].view(-1, 1, 1)
            logits = torch.cat([logits, sink.expand(-1, len(x), 1)], -1)
        weight = logits.softmax(-1)[..., : len(x)]
        return (
            torch.einsum("hqk,khd->qhd", weight, v).flatten(1)
            @ self.weights[f"{at}o_proj.weight"].T
        )

    def _dense(self, at: str, x: Tensor) -> Tensor:
        return self._swiglu(f"{at}mlp.", x)

    def _swiglu(self, at: str, x: Tensor) -> Tensor:
        gate, up, down = (
            self.weights[f"{at}{name}_proj.weight"] for name in ("gate", "up", "down")
        )
        return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T

    def _experts(self, at: str, x: Tensor) -> Tensor:
        scores = (x @ self.weights[f"{at}mlp.gate.weight"].T).sigmoid()
        biased = scores + self.weights[f"{at}mlp.gate.e_score_correction_bias"]
        chosen = biased.topk(CONFIG["num_experts_per_tok"]).indices
        share = torch.zeros_like(scores).scatter(1, chosen, scores.gather(1, chosen))
        share /= share.sum(1, keepdim=True)
        outputs = [self._swiglu(f"{at}mlp.experts.{e}.", x) for e in range(scores.shape[1])]
        return (torch.stack(outputs, 1) * share.unsqueeze(2)).sum(1)


def _rotate(x: Tensor, theta: float) -> Tensor:
    """Rotary embedding of the first part of each head, halves against halves."""
    rotated = int(x.shape[-1] * CONFIG["partial_rotary_factor"])
    angle = torch.outer(
        torch.arange(len(x), dtype=torch.float64),
        theta ** -(torch.arange(0, rotated, 2, dtype=torch.float64) / rotated),
    ).unsqueeze(1)
    first, second = x[..., :rotated].chunk(2, -1)
    turned = [
        first * angle.cos() - second * angle.sin(),
        second * angle.cos() + first * angle.sin(),
    ]
    return torch.cat([*turned, x[..., rotated:]], -1)
