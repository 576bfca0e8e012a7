# SPDX-License-Identifier: Apache-2.0
"""What ends an answer early, and what a card holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vllm_kunlun.cli.assess.text import gigabytes
from vllm_kunlun.cli.check import Check
from vllm_kunlun.platforms.checks.checkpoint import read_json

__all__ = ["memory", "truncated"]

Say = Callable[[str], None]

_COMPLETION_TOKENS = 16
"""What OpenAI's completions give where a request names no max_tokens."""


def truncated(model: Path, say: Say) -> Iterator[Check]:
    """The model's length against the cache of the cards, the ends of a text, max_tokens."""
    found = _assessed(model, say)
    config = read_json(model / "config.json")
    longest = _text(config).get("max_position_embeddings")
    best = next((way for way in found["ways"] if way["fits"]), None)
    if best is None:
        yield Check(
            "max_model_len", "fail", f"no number of cards holds one request of {found['length']} "
            "tokens", f"a shorter --max-model-len; vllm-kunlun assess {model}",
        )  # fmt: skip
    else:
        yield Check(
            "max_model_len", "ok", f"the model ends at {longest} tokens, prompt and answer; "
            f"{best['cards']} card(s) hold {best['tokens']:,} at once",
        )  # fmt: skip
    yield _ends(model, config)
    yield Check(
        "max_tokens", "warn", f"/v1/completions gives {_COMPLETION_TOKENS} tokens where a request "
        "names no max_tokens; finish_reason is length then, and stop at an end of text",
        "name max_tokens in the request",
    )  # fmt: skip


def memory(model: Path, say: Say) -> Iterator[Check]:
    """What one card of 1, 2, 4, 8 would hold, and what doubles it."""
    found = _assessed(model, say)
    config = read_json(model / "config.json")
    ways = [way for way in found["ways"] if not way["refused"]]
    best = next((way for way in ways if way["fits"]), None)
    if ways:
        shown = best or ways[-1]
        detail = (
            f"{shown['cards']} card(s) of {gigabytes(found['card_bytes'])} GiB: weights "
            f"{gigabytes(shown['weight_bytes'])}, steps "
            f"{gigabytes(shown['activations'] + shown['runtime'])}, cache "
            f"{gigabytes(shown['cache'])} GiB on each, {shown['requests']:,.1f} requests of "
            f"{found['length']:,} tokens"
        )
        fix = "" if best else "a quantised checkpoint, a shorter --max-model-len, or more cards"
        yield Check("memory", "ok" if best else "fail", detail, fix)
    else:
        said = found.get("unknown") or "; ".join(way["refused"] for way in found["ways"])
        yield Check("memory", "fail", said, f"vllm-kunlun assess {model}")
    kept = str(_text(config).get("dtype") or config.get("torch_dtype") or config.get("dtype"))
    if kept == "bfloat16" and ways:
        size = gigabytes(2 * ways[0]["weight_bytes"])
        yield Check(
            "bfloat16", "warn", f"the checkpoint is in bfloat16, which the card is reported to "
            f"keep twice: {size} GiB of weights on one card", "--dtype float16",
        )  # fmt: skip
    if "kv_lora_rank" in _text(config):
        yield Check(
            "latent attention", "warn", "some matrices are held in floats for decoding",
            "VLLM_KUNLUN_ENABLE_INT8_BMM=1 holds them in int8, about 0.1 GB less",
        )  # fmt: skip


def _assessed(model: Path, say: Say) -> dict[str, Any]:
    from vllm_kunlun.cli.assess.assessment import assess

    return assess(str(model), None, {}, say)


def _ends(model: Path, config: dict[str, Any]) -> Check:
    """vLLM ends at the tokenizer's end of text and at those of generation_config.json."""
    file = model / "generation_config.json"
    said = {
        "config.json": _ids(_text(config).get("eos_token_id")),
        "generation_config.json": _ids(
            read_json(file).get("eos_token_id") if file.is_file() else None
        ),
    }
    given = {name: ids for name, ids in said.items() if ids}
    detail = "; ".join(f"{name}: {sorted(ids)}" for name, ids in given.items())
    if not given:
        return Check(
            "end of text", "warn", "no file names one", "name its id in generation_config.json"
        )
    if len(given) == 2 and not set.intersection(*given.values()):
        return Check(
            "end of text", "fail", f"the files name others ({detail}), and both end an answer",
            "correct the one that is wrong, or serve with --generation-config vllm",
        )  # fmt: skip
    return Check("end of text", "ok", detail)


def _ids(value: Any) -> set[int]:
    return {value} if isinstance(value, int) else set(value or ())


def _text(config: dict[str, Any]) -> dict[str, Any]:
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config
