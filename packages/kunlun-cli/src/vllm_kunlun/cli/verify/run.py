# SPDX-License-Identifier: Apache-2.0
"""``verify MODEL``: registration, both answers, what a server answers, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from rich.console import Console

from vllm_kunlun.cli import report_file
from vllm_kunlun.cli.console import print_json
from vllm_kunlun.cli.reference import first_difference
from vllm_kunlun.cli.verify import verdict
from vllm_kunlun.cli.verify.model_report import as_html
from vllm_kunlun.cli.verify.text import show
from vllm_kunlun.platforms import device

__all__ = ["Asked", "judged", "run"]


class Asked(NamedTuple):
    """What the user gave."""

    model: Path
    reference: Path
    prompts: tuple[str, ...]
    max_tokens: int
    dtype: str
    http: bool
    trust_remote_code: bool
    judge: Literal["auto", "transformers", "vllm"] = "auto"


def run(
    asked: Asked, report: Path | None, json: bool, stdout: TextIO, say: Callable[[str], None]
) -> bool:
    """Print and write the result; whether all is equal."""
    result = judged(asked, say)
    if report is not None:
        report_file.write(report, result, lambda: as_html(result))
    if json:
        print_json(result, stdout)
    else:
        show(result, Console(file=stdout, highlight=False, soft_wrap=True))
    return bool(result["ok"])


def judged(asked: Asked, say: Callable[[str], None]) -> dict[str, Any]:
    """The object of ``--json``; ``say`` is told what takes long.

    Raises:
        KunlunError: nothing runs the model, nothing judges it, or no server starts.
    """
    from vllm_kunlun.cli.verify.model import compare_models, vocabulary_of
    from vllm_kunlun.cli.verify.prompts import prompts_of
    from vllm_kunlun.cli.verify.registration import registration
    from vllm_kunlun.ops.conformance.provenance import surroundings

    say("importing vLLM")
    class_of = registration(asked.model)
    prompts = prompts_of(asked.model, asked.prompts, vocabulary_of(asked.model))
    # Without a card memory and time are not what is asked about; a difference shows best so.
    dtype = "float32" if asked.dtype == "auto" and device.detect().kind != "xpu" else asked.dtype
    result: dict[str, Any] = {
        "ok": False,
        "verdict": "",
        "next": "",
        "model": str(asked.model),
        "reference": str(asked.reference),
        "surroundings": vars(surroundings()),
        "registration": class_of,
        **compare_models(
            asked.model,
            asked.reference,
            prompts,
            max_tokens=asked.max_tokens,
            dtype=dtype,
            judge=asked.judge,
            trust_remote_code=asked.trust_remote_code,
            say=say,
        ),
        "http": None,
    }
    if asked.http:
        result["http"] = _over_http(asked, result, say)
        result["ok"] = result["ok"] and result["http"]["ok"]
    return result | verdict.of(result)


def _over_http(asked: Asked, result: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    from vllm_kunlun.cli.verify.server import ask_server

    say("vllm serve starts")
    prompts = [row["prompt_tokens"] for row in result["prompts"]]
    told = ask_server(
        asked.model, prompts, asked.max_tokens, result["dtype"],
        trust_remote_code=asked.trust_remote_code,
    )  # fmt: skip
    differences = [
        first_difference(tokens, row["tokens"])
        for tokens, row in zip(told, result["prompts"], strict=True)
    ]
    return {
        "ok": all(each is None for each in differences),
        "tokens": told,
        "first_differences": differences,
    }
