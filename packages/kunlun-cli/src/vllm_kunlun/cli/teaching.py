# SPDX-License-Identifier: Apache-2.0
"""What ``--help`` says below the options: examples, exit codes, where the JSON is described."""

from __future__ import annotations

import inspect
from typing import NamedTuple

__all__ = ["COULD_NOT", "TEACHING", "Teaching", "epilog", "flowing"]


class Teaching(NamedTuple):
    """Of one command.

    Attributes:
        examples: commands as they are typed.
        yes: what exit code 0 says.
        no: what exit code 1 says; empty where there is none.
    """

    examples: tuple[str, ...]
    yes: str
    no: str


COULD_NOT = "it could not be carried out; standard error says why"
"""What exit code 2 says, of every command."""

TEACHING = {
    "demo": Teaching(
        ("vllm-kunlun demo", "vllm-kunlun demo --prompt 'Name three colours.'"),
        "every token is that of HF transformers",
        "one differs",
    ),
    "serve": Teaching(
        (
            "vllm-kunlun serve /path/to/checkpoint --port 8000",
            "vllm-kunlun serve /path/to/checkpoint --explain",
        ),
        "the server was ended; with --explain or --dry-run: it was printed",
        "the server ended with an error",
    ),
    "doctor": Teaching(
        (
            "vllm-kunlun doctor",
            "vllm-kunlun doctor --log FILE",
            "vllm-kunlun doctor --symptom garbage /path/to/checkpoint",
        ),
        "nothing fails; with --symptom: none of its causes is seen",
        "something fails; with --symptom: a cause is seen",
    ),
    "env": Teaching(("vllm-kunlun env", "vllm-kunlun env --set"), "printed", ""),
    "models": Teaching(
        ("vllm-kunlun models", "vllm-kunlun models /path/to/checkpoint"),
        "every family loads; with MODEL: something runs it",
        "a family failed to load; with MODEL: nothing runs it",
    ),
    "assess": Teaching(
        (
            "vllm-kunlun assess /path/to/checkpoint",
            "vllm-kunlun assess config.json --length 8192 --report page.html",
        ),
        "it fits",
        "it fits none of the numbers of cards that were tried",
    ),
    "adapt": Teaching(
        ("vllm-kunlun adapt /path/to/checkpoint --out DIR",),
        "written, and its tests pass (or --no-prove)",
        "something is left to write, or a test fails",
    ),
    "lint": Teaching(
        ("vllm-kunlun lint src/", "vllm-kunlun lint src/ --fix", "vllm-kunlun lint --rules"),
        "nothing was found",
        "something was found",
    ),
    "weights": Teaching(
        (
            "vllm-kunlun weights /path/to/checkpoint",
            "vllm-kunlun weights /path/to/checkpoint -tp 8 --all",
        ),
        "every parameter is filled and every tensor fits",
        "something is missing or wrong, or the configuration is refused",
    ),
    "verify": Teaching(
        (
            "vllm-kunlun verify /path/to/checkpoint --report page.html",
            "vllm-kunlun verify --quantised /path/to/int8 --reference /path/to/floats",
        ),
        "equal; with --quantised: the perplexity grew by --limit at most",
        "different; with --quantised: it grew by more",
    ),
    "rehearse": Teaching(
        (
            "vllm-kunlun rehearse qwen3",
            "vllm-kunlun rehearse /path/to/checkpoint --report page.html",
        ),
        "measured",
        "",
    ),
    "ops list": Teaching(
        ("vllm-kunlun ops list", "vllm-kunlun ops list 'moe_*'"), "printed", ""
    ),
    "ops check": Teaching(
        ("vllm-kunlun ops check --report check.html", "vllm-kunlun ops check rmsnorm"),
        "no function fails, and none that is needed is missing",
        "one fails, or is missing",
    ),
    "ops bench": Teaching(
        ("vllm-kunlun ops bench --quick", "vllm-kunlun ops bench rmsnorm quant2d"),
        "every result is torch's",
        "one differs, or a function cannot run",
    ),
}  # fmt: skip
"""Command -> what its help teaches; ``docs/json-output.md`` shows the exit codes, too."""


def epilog(command: str) -> str:
    """The paragraphs below the options of ``command``."""
    taught = TEACHING[command]
    lines = ["For example:", *(f"  {example}" for example in taught.examples)]
    lines += ["", "Exit codes:", f"  0  {taught.yes}"]
    lines += [f"  1  {taught.no}"] if taught.no else []
    return "\n".join([*lines, f"  2  {COULD_NOT}", "", "What --json prints: docs/json-output.md"])


def flowing(docstring: str | None) -> str:
    """``docstring`` with each paragraph in one line, so that any terminal may break it."""
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
