# SPDX-License-Identifier: Apache-2.0
"""A model that vLLM has no class for, measured by transformers' class on the device ``meta``.

What a card of several holds is about a share of everything: nobody has cut it yet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vllm_kunlun.cli.assess.fit import CARD_BYTES, RUNTIME_BYTES, Fit

__all__ = ["measure"]

_ITEMSIZE = 2
_USED = 0.9


def measure(folder: Path, length: int | None, longest: int) -> dict[str, Any]:
    """Ways to spread the model: weights and keys and values of float16, in equal shares.

    Keys and values take 2 x layers x heads x head size x 2 bytes a token. Where transformers has no
    class, either, nothing is known but the configuration, and there are no ways.

    Args:
        length: tokens of a request; None for the model's own, ``longest`` at most.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    found: dict[str, Any] = {
        "attention": [], "class": None, "length": length or longest, "dtype": "float16",
        "ways": [],
    }  # fmt: skip
    kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
    try:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    except (KeyError, OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        return {**found, "unknown": f"transformers cannot build model_type {kind!r}: {reason}"}
    weights = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values()) * _ITEMSIZE
    text = config.get_text_config()
    length = length or min(getattr(text, "max_position_embeddings", None) or longest, longest)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * heads * size * _ITEMSIZE
    found["attention"] = [
        f"{text.num_hidden_layers} layers: {heads} heads of {size} for keys and values"
    ]
    found["length"] = length
    found["class"] = f"{type(model).__module__}:{type(model).__qualname__}"
    found["ways"] = [
        _share(weights, per_token, heads, length, cards).as_json() for cards in (1, 2, 4, 8)
    ]
    return found


def _share(weights: int, per_token: int, heads: int, length: int, cards: int) -> Fit:
    left = max(0, int(CARD_BYTES * _USED) - weights // cards - RUNTIME_BYTES)
    own = per_token / min(cards, heads)
    tokens = int(left / own)
    return Fit(
        cards, cards, 1, weights={"rest": weights // cards}, runtime=RUNTIME_BYTES, cache=left,
        bytes_per_token=own, tokens=tokens, requests=tokens / length,
    )  # fmt: skip
