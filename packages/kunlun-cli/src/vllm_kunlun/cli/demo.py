# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun demo``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TextIO

import platformdirs
import typer
from rich.console import Console

from vllm_kunlun.cli import chat, reference, weights
from vllm_kunlun.cli.console import JsonFlag, err, own_stdout, print_json, quiet_vllm
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import DeviceUnavailableError, UnsupportedError
from vllm_kunlun.platforms.version import check_vllm

__all__ = ["demo"]

PROMPTS = (
    "What is the capital of France?",
    "Give me three tips for sleeping better.",
    "Write a two-line poem about the sea.",
)


def demo(
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="What to ask; repeat it for several. Three by default."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens for each answer.")] = 48,
    model: Annotated[
        Path | None,
        typer.Option(help="A checkpoint folder of your own instead of SmolLM2-135M-Instruct."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Use this to see the whole thing work: a real model answers, and HF transformers agrees.

    SmolLM2-135M-Instruct answers through vLLM's engine on this machine's device, in float32. Then
    HF transformers answers the same prompts, and the tokens are compared.
    """
    if model is not None and not (model / "config.json").is_file():
        raise UnsupportedError(
            f"--model {model} holds no config.json: give the folder of a checkpoint in Hugging "
            "Face's layout, or leave it out for SmolLM2."
        )
    quiet_vllm()
    check_vllm()
    chosen = device.detect()
    if chosen.kind == "none":
        raise DeviceUnavailableError(chosen.reason)
    if json:
        with own_stdout(others=2) as stdout:
            result = _run(chosen, tuple(prompt or PROMPTS), max_tokens, model, err)
            print_json(result, stdout)
    else:
        with _chatter_file() as chatter, own_stdout(others=chatter.fileno()) as stdout:
            out = Console(file=stdout, highlight=False, soft_wrap=True)
            result = _run(chosen, tuple(prompt or PROMPTS), max_tokens, model, out)
            _print(result, out)
    raise typer.Exit(0 if result["parity"] else 1)


def _chatter_file() -> TextIO:
    """Where libraries' own prints go, so that they do not fall in between the answers."""
    folder = platformdirs.user_log_path("vllm-kunlun", ensure_exists=True)
    return (folder / "demo.log").open("w", encoding="utf-8")


def _run(
    chosen: device.Device,
    prompts: tuple[str, ...],
    max_tokens: int,
    model: Path | None,
    say: Console,
) -> dict[str, Any]:
    from vllm.platforms import current_platform

    name = current_platform.get_device_name()
    say.print(f"device: {name} ({chosen.reason})", markup=False)
    folder = model or weights.smollm2(say=lambda text: say.print(text, markup=False))
    say.print(f"model:  {folder}", markup=False)
    say.print("loading vLLM's engine (its imports take most of a minute) ...")
    found = asyncio.run(
        chat.answers(
            folder,
            prompts,
            max_tokens,
            started=lambda text: say.print(f"\n\n> {text}", markup=False),
            show=lambda text: say.print(text, end="", markup=False),
        )
    )
    say.print("\n\nasking HF transformers the same ...")
    expected = reference.greedy(folder, [each.prompt_tokens for each in found], max_tokens)
    differences = [
        reference.first_difference(each.tokens, tokens)
        for each, tokens in zip(found, expected, strict=True)
    ]
    # The first token belongs to the prefill; the rate is that of the tokens after it.
    decoded = sum(len(each.tokens) - 1 for each in found)
    decode_ms = sum(each.total_ms - each.first_token_ms for each in found)
    return {
        "device": chosen.kind,
        "device_name": name,
        "device_reason": chosen.reason,
        "model": str(folder),
        "parity": all(position is None for position in differences),
        "ttft_ms": round(median(each.first_token_ms for each in found), 1),
        "tokens_per_s": round(1000 * decoded / decode_ms, 1) if decoded and decode_ms else None,
        "answers": [
            {
                "prompt": each.prompt,
                "text": each.text,
                "tokens": each.tokens,
                "ttft_ms": round(each.first_token_ms, 1),
                "first_difference": position,
                "expected_tokens": tokens,
            }
            for each, tokens, position in zip(found, expected, differences, strict=True)
        ],
    }


def _print(result: dict[str, Any], out: Console) -> None:
    out.print(f"time to first token: {result['ttft_ms']} ms (median)")
    if result["tokens_per_s"] is not None:
        out.print(f"tokens/s, one request at a time: {result['tokens_per_s']}")
    count = sum(len(answer["tokens"]) for answer in result["answers"])
    if result["parity"]:
        out.print(f"parity: all {count} greedy tokens equal HF transformers'")
        return
    for answer in result["answers"]:
        at = answer["first_difference"]
        if at is not None:
            out.print(
                f"parity: NO, {answer['prompt']!r} differs from token {at} on: "
                f"{answer['tokens'][at : at + 5]} against {answer['expected_tokens'][at : at + 5]}",
                markup=False,
            )
