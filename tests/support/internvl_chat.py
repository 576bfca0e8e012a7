# SPDX-License-Identifier: Apache-2.0
"""InternVL in the chat format of its own repository, made of one in transformers' layout.

The two differ in names, in q, k and v being one matrix, and in how a picture stands in a prompt.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from support import vision
from torch import Tensor

_NAMES = {
    "model.vision_tower.embeddings.cls_token": "vision_model.embeddings.class_embedding",
    "model.vision_tower.embeddings.position_embeddings": (
        "vision_model.embeddings.position_embedding"
    ),
    "model.vision_tower.embeddings.patch_embeddings.projection": (
        "vision_model.embeddings.patch_embedding"
    ),
    "model.vision_tower.encoder.layer.": "vision_model.encoder.layers.",
    ".attention.projection_layer.": ".attn.proj.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".lambda_1": ".ls1",
    ".lambda_2": ".ls2",
    "model.multi_modal_projector.layer_norm.": "mlp1.0.",
    "model.multi_modal_projector.linear_1.": "mlp1.1.",
    "model.multi_modal_projector.linear_2.": "mlp1.3.",
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}
_CLASS = """from transformers import PretrainedConfig, Qwen2Config


class InternVLChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    has_no_defaults_at_init = True

    def __init__(self, vision_config=None, llm_config=None, **rest):
        super().__init__(**rest)
        self.vision_config = PretrainedConfig(**(vision_config or {}))
        self.llm_config = Qwen2Config(**(llm_config or {}))
"""


def write(source: Path, folder: Path) -> Path:
    """The checkpoint ``source`` of :mod:`support.vision` (``internvl``) in the chat format."""
    folder.mkdir(parents=True, exist_ok=True)
    model = transformers.AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
    weights = model.state_dict()
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if ".attention.q_proj." in name:
            parts = [weights[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            name, value = name.replace(".attention.q_proj.", ".attn.qkv."), torch.cat(parts)
        elif "vision_tower" in name and (".k_proj." in name or ".v_proj." in name):
            continue
        for old, new in _NAMES.items():
            name = name.replace(old, new)
        renamed[name] = value.contiguous()
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    config = model.config
    tower = config.vision_config
    described = {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "llm_config": {**config.text_config.to_dict(), "architectures": ["Qwen2ForCausalLM"]},
        "vision_config": {
            "hidden_size": tower.hidden_size,
            "intermediate_size": tower.intermediate_size,
            "num_hidden_layers": tower.num_hidden_layers,
            "num_attention_heads": tower.num_attention_heads,
            "image_size": tower.image_size[0],
            "patch_size": tower.patch_size[0],
            "layer_norm_eps": tower.layer_norm_eps,
            "hidden_act": tower.hidden_act,
            "norm_type": "layer_norm",
            "qkv_bias": False,
            "qk_normalization": False,
            "initializer_factor": 1.0,
            "dropout": 0.0,
        },
        "force_image_size": tower.image_size[0],
        "downsample_ratio": config.downsample_ratio,
        "ps_version": "v2",
        "select_layer": -1,
        "dynamic_image_size": True,
        "use_thumbnail": False,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 4,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "configuration_internvl_chat.py").write_text(_CLASS)
    vision.tokenizer().save_pretrained(folder)
    return folder
