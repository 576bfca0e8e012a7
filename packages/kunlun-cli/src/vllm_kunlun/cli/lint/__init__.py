# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun lint``."""

from __future__ import annotations

import textwrap
from enum import Enum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from vllm_kunlun.cli.console import JsonFlag, err, out, print_json
from vllm_kunlun.platforms.errors import MissingWheelError, UnsupportedError

if TYPE_CHECKING:
    from vllm_kunlun.cli.lint.finding import Finding, Rule

__all__ = ["lint"]


class Format(str, Enum):
    """How findings are printed."""

    text = "text"
    json = "json"
    sarif = "sarif"


def lint(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Python files, or folders.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without changing anything else.")
    ] = False,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This rule only; may be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="REV", help="Also the commits REV..HEAD, and the branch's name."),
    ] = None,
    message: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also a commit's message, as a commit-msg hook gets it."),
    ] = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="List the rules: what each finds, why, the fix.")
    ] = False,
    format: Annotated[
        Format, typer.Option(help="sarif is what code hosts and editors read.")
    ] = Format.text,
    json: JsonFlag = False,
) -> None:
    """Use this on a model, a custom op or a wheel of yours, before you send it.

    Looks for what the adaptation manual's checklist names and a program can
    decide. Nothing is imported or run; the installed vLLM's files are read
    to see which names exist.

    A comment silences a finding in its line, or alone in the line before:
    "kunlun: ignore", the rule's name in square brackets, "because" and the
    reason, without which it does not.
    """
    if find_spec("libcst") is None:
        raise MissingWheelError(
            "lint reads Python with libcst, which is not installed: run "
            "pip install 'kunlun-cli[lint]'."
        )
    from vllm_kunlun.cli.lint import commits, registry, run

    style = Format.json if json else format
    tried = registry.chosen(rule or ())
    known = [each.name for each in registry.RULES]
    if rules:
        _list(style, tried)
        return
    if not paths and message is None:
        raise UnsupportedError("lint wants files or folders: write `vllm-kunlun lint PATH`.")
    found: list[Finding] = []
    mended = 0
    files = run.files(paths or ())
    for file in track(files, "Looking", console=err, transient=True, disable=not err.is_terminal):
        if fix:
            mended += _mend(file, tried, known)
        found += run.lint_file(file, tried, known)
    if since is not None:
        found += commits.lint_commits((paths or [Path()])[0], since, tried)
    if message is not None:
        found += commits.lint_message(message, tried)
    _show(style, found, len(files), mended, tried)
    raise typer.Exit(1 if found else 0)


def _mend(file: Path, tried: tuple[Rule, ...], known: list[str]) -> int:
    from vllm_kunlun.cli.lint import run

    try:
        content = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return 0  # said when it is looked at
    new, count = run.mend_text(file, content, tried, known)
    if new != content:
        file.write_bytes(new.encode())
    return count


def _list(style: Format, tried: tuple[Rule, ...]) -> None:
    if style is not Format.text:
        names = ("name", "finds", "why", "fix", "mends")
        print_json({"rules": [{name: getattr(each, name) for name in names} for each in tried]})
        return
    for each in tried:
        out.print(f"[bold]{each.name}[/bold]{' (--fix)' if each.mends else ''}")
        for title, text in (("finds", each.finds), ("why", each.why), ("write", each.fix)):
            _wrapped(f"{title}: {text}")


def _show(
    style: Format, found: list[Finding], count: int, mended: int, tried: tuple[Rule, ...]
) -> None:
    if style is Format.sarif:
        from vllm_kunlun.cli.lint.sarif import as_sarif

        print_json(as_sarif(found, tried, metadata.version("kunlun-cli")))
        return
    if style is Format.json:
        print_json(
            {"findings": [each.as_json() for each in found], "files": count, "mended": mended}
        )
        return
    for each in found:
        place = f"{each.file}:{each.line}:{each.column}"
        out.print(f"{place}: {each.rule}", markup=False)
        _wrapped(each.message + (" (--fix mends it)" if each.fixable else ""))
    explained = {each.rule: each for each in found}
    if explained:
        out.print()
    for name, one in explained.items():
        number = sum(each.rule == name for each in found)
        out.print(f"[bold]{name}[/bold] ({number})")
        _wrapped(f"why: {one.why}")
        _wrapped(f"write: {one.fix}")
    done = f", {mended} mended" if mended else ""
    err.print(f"{count} files, {len(found)} findings{done}", markup=False)


def _wrapped(text: str) -> None:
    """A paragraph that stands under its heading, in 80 columns."""
    for line in textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False):
        out.print(f"  {line}", markup=False)
