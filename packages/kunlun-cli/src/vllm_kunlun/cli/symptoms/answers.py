# SPDX-License-Identifier: Apache-2.0
"""Wrong answers: the weights' names, then HF transformers as the judge, then how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vllm_kunlun.cli.check import Check
from vllm_kunlun.cli.tensors import surveyed
from vllm_kunlun.cli.tensors.rows import as_result
from vllm_kunlun.cli.verify.run import Asked, judged
from vllm_kunlun.platforms.checks.checkpoint import check_files, read_json
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

__all__ = ["garbage", "repeated", "repeats", "weights"]

Say = Callable[[str], None]

_TOKENS = 48
_GRAM = 4
_OFTEN = 0.3


def weights(model: Path) -> Iterator[Check]:
    """Whether every parameter is filled and every tensor fits."""
    try:
        check_files(model)
        found = as_result(surveyed(model, 1, False))
    except (CheckpointError, UnsupportedError) as error:
        yield Check("weights", "fail", str(error), "do what the message says")
        return
    wrong = sum(row["detail"] is not None for row in found["tensors"])
    missing = [each["parameter"] for each in found["missing"]]
    if found["ok"]:
        ignored = found["counts"].get("ignored", 0)
        detail = f"{found['parameters']} parameters are filled, {ignored} tensors left out"
        yield Check("weights", "ok", detail)
        return
    detail = f"{len(missing)} parameters without a tensor, {wrong} tensors that do not fit"
    detail += f": {missing[0]} first" if missing else ""
    yield Check("weights", "fail", found["unread"] or detail, f"vllm-kunlun weights {model}")


def garbage(model: Path, say: Say) -> Iterator[Check]:
    """Names of weights; the answers and, where they differ, the module; how prompts are put."""
    for each in weights(model):
        yield each
        if each.status == "fail":
            return
    result = judged(_asked(model, 16), say)
    yield _answers(result, model)
    if result["ok"]:
        yield _template(model)


def repeats(model: Path, say: Say) -> Iterator[Check]:
    """The answers and, where they differ, the module; then whether transformers repeats, too."""
    result = judged(_asked(model, _TOKENS), say)
    yield _answers(result, model)
    if not result["ok"]:
        return
    rows = result["prompts"]
    theirs = sum(repeated(row["expected"]) for row in rows) / len(rows)
    if theirs > _OFTEN:
        yield Check(
            "greedy decoding", "warn",
            f"HF transformers repeats itself as much: {theirs:.0%} of the runs of {_GRAM} tokens",
            "sample: temperature 0.7, or a repetition_penalty, in the request",
        )  # fmt: skip
    file = model / "generation_config.json"
    defaults = read_json(file) if file.is_file() else {}
    sampled = defaults.get("do_sample") and defaults.get("temperature", 1) > 0
    named = {name: defaults[name] for name in ("temperature", "top_p", "repetition_penalty")
             if name in defaults}  # fmt: skip
    yield Check(
        "sampling", "ok" if sampled else "warn",
        f"generation_config.json gives {named or 'nothing'} where a request says nothing",
        "" if sampled else "name temperature and top_p in the request",
    )  # fmt: skip


def repeated(tokens: Sequence[int]) -> float:
    """Share of the runs of four tokens that came before in ``tokens``."""
    runs = [tuple(tokens[at : at + _GRAM]) for at in range(len(tokens) - _GRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _asked(model: Path, tokens: int) -> Asked:
    return Asked(model, model, (), tokens, "auto", http=False, trust_remote_code=False)


def _answers(result: dict[str, Any], model: Path) -> Check:
    if result["ok"]:
        return Check("answers", "ok", result["verdict"])
    return Check("answers", "fail", result["verdict"], result["next"])


def _template(model: Path) -> Check:
    file = model / "tokenizer_config.json"
    inside = file.is_file() and read_json(file).get("chat_template")
    if inside or (model / "chat_template.jinja").is_file():
        return Check(
            "prompt", "warn", "the model is right, so it is how it is asked",
            "ask through /v1/chat/completions, which puts the model's chat template around it",
        )  # fmt: skip
    return Check(
        "prompt", "warn", "the model is right, and the checkpoint has no chat template",
        "give one with --chat-template, or write the prompt as the model was trained on",
    )  # fmt: skip
