# SPDX-License-Identifier: Apache-2.0
"""InternLM2, which transformers has not: a Llama under other names.

Queries, keys and values are one matrix, head group by head group: the queries that share a key,
that key, its value. Source: InternLM2, arXiv:2403.17297, section 2.2.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from support import checkpoints

_NAMES = {
    "model.embed_tokens.": "model.tok_embeddings.",
    "lm_head.": "output.",
    ".self_attn.o_proj.": ".attention.wo.",
    ".mlp.gate_proj.": ".feed_forward.w1.",
    ".mlp.up_proj.": ".feed_forward.w3.",
    ".mlp.down_proj.": ".feed_forward.w2.",
    ".input_layernorm.": ".attention_norm.",
    ".post_attention_layernorm.": ".ffn_norm.",
}


def write_pair(folder: Path) -> tuple[Path, Path]:
    """A tiny Llama, and the same as an InternLM2."""
    # An InternLM2's heads are as wide as the hidden size divides.
    config = copy.deepcopy(checkpoints.EVEN_CONFIGURATIONS["llama-even"])
    config.hidden_size = config.num_attention_heads * config.head_dim
    llama = checkpoints.write_configuration(config, folder / "llama")
    return llama, write(llama, folder / "internlm2")


def write(llama: Path, folder: Path) -> Path:
    """The checkpoint ``llama`` as an InternLM2, with a configuration class of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    described = json.loads((llama / "config.json").read_text())
    groups = described["num_key_value_heads"]
    weights, packed = load_file(llama / "model.safetensors"), {}
    for name, value in weights.items():
        if ".self_attn.q_proj." in name:
            parts = [
                weights[name.replace("q_proj", f"{part}_proj")].unflatten(0, (groups, -1))
                for part in "qkv"
            ]
            renamed = name.replace(".self_attn.q_proj.", ".attention.wqkv.")
            packed[renamed] = torch.cat(parts, 1).flatten(0, 1).contiguous()
        elif ".k_proj." not in name and ".v_proj." not in name:
            for old, new in _NAMES.items():
                name = name.replace(old, new)
            packed[name] = value
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    described |= {
        "architectures": ["InternLM2ForCausalLM"],
        "model_type": "internlm2",
        "bias": False,
        "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"},
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "configuration_internlm2.py").write_text(
        "from transformers import LlamaConfig\n"
        "class InternLM2Config(LlamaConfig):\n    model_type = 'internlm2'\n"
    )
    return folder
