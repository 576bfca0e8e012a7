# SPDX-License-Identifier: Apache-2.0
"""The page ``docs/vendor-contract.md``, from ``vllm_kunlun.ops.contract`` and the adapter.

python support/render_contract.py           # write it
python support/render_contract.py --check   # exit code 1 if it is not what would be written
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from importlib import resources

import written

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS
from vllm_kunlun.ops.contract.findings import FINDINGS
from vllm_kunlun.ops.contract.functions import VendorFunction, contract
from vllm_kunlun.ops.contract.limits import LIMITS

PAGE = "docs/vendor-contract.md"

HEAD = """\
# The vendor-op contract

What the closed functions of the P800 take and compute, as far as public evidence tells. Docstrings
cite it as "contract section N". Written by `python support/render_contract.py` from
`vllm_kunlun.ops.contract` (`contract.json`, `sections.md`, limits, assumptions, findings) and the
docstrings of `vllm_kunlun.ops.vendor_ops`: change those, not this page."""
TAGS = {"C": "certain", "H": "known from older releases or reports", "I": "inferred"}
LIVE = {True: "called by the vendor's own plugin", False: "not called by the vendor's own plugin"}


def main() -> None:
    written.command(
        __doc__,
        PAGE,
        page,
        why="differs from ops/contract: run `python support/render_contract.py`",
    )


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    notes: dict[str, str] = {}
    for number, title, text in sections():
        own, *blocks = re.split(r"^### (.+)\n", text, flags=re.MULTILINE)
        notes |= {name: note.strip() for name, note in zip(blocks[::2], blocks[1::2], strict=True)}
        parts += [f"## {number}. {title}", own.strip()]
        parts += limits(number)
        for each in contract():
            if each.section == number:
                parts += function(each, notes.pop(each.name, ""))
    if notes:
        sys.exit(
            f"sections.md describes what contract.json does not name there: {', '.join(notes)}"
        )
    return "\n\n".join(part for part in parts if part) + "\n"


def sections() -> list[tuple[int, str, str]]:
    """Number, title and text of each section of the prose."""
    text = resources.files("vllm_kunlun.ops.contract").joinpath("sections.md").read_text("utf-8")
    parts = re.split(r"^## (\d+)\. (.+)\n", text, flags=re.MULTILINE)[1:]
    return [
        (int(number), title, body)
        for number, title, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def limits(section: int) -> list[str]:
    """The table of the limits of a section."""
    rows = [
        f"| `{each.name}` | {_values(each.value)} {each.unit} | {each.tag} | {each.meaning} | "
        f"{', '.join(f'`{name}`' for name in each.functions) or '–'} |"
        for each in LIMITS
        if each.section == section
    ]
    head = ["| Limit | Value | Tag | Meaning | Functions |", "|---|---|---|---|---|"]
    return ["**Limits**", "\n".join(head + rows)] if rows else []


def _values(value: int | tuple[int, ...]) -> str:
    return str(value) if isinstance(value, int) else ", ".join(map(str, value))


def function(each: VendorFunction, note: str) -> list[str]:
    """A heading and all that is known of one function."""
    meaning = each.meaning[0].upper() + each.meaning[1:]
    parts = [
        f"### {each.name}",
        f"{meaning}. For: {each.layer}. {each.tag}: {TAGS[each.tag]}; {LIVE[each.live]}.",
    ]
    if each.call is None:
        parts.append("This plugin does not call it.")
    else:
        parts.append(f"```text\n{_signature(each)}\n```")
        parts.append(f"Adapter `vendor_ops.{each.adapter_name}`: {_docstring(each)}")
    points = [
        f"- Assumption `{point.id}` ({point.contract_tag}): {_line(point.statement)}. "
        f"Probe: {_line(point.probe)}."
        for point in ASSUMPTIONS
        if each.name in point.function.split(", ")
    ]
    points += [
        f"- Card finding `{finding.name}`: {finding.question} Default `{finding.default}`; forms: "
        + "; ".join(f"`{form}`, {meaning}" for form, meaning in finding.forms.items())
        + f". {finding.evidence}"
        for finding in FINDINGS
        if each.name == finding.function
    ]
    bounds = [limit.name for limit in LIMITS if each.name in limit.functions]
    if bounds:
        points.insert(0, f"- Limits: {', '.join(f'`{name}`' for name in bounds)}.")
    return [*parts, note, "\n".join(points)]


def _signature(each: VendorFunction) -> str:
    positional, named = each.arguments
    arguments = ", ".join([*positional, *(["*"] if named else []), *named])
    if len(each.name) + len(arguments) < 96:
        return f"{each.name}({arguments})"
    indent = " " * 4
    text = textwrap.fill(arguments, 96, initial_indent=indent, subsequent_indent=indent)
    return f"{each.name}(\n{text}\n)"


def _docstring(each: VendorFunction) -> str:
    """What the adapter says of formula and shapes, without its errors and its citation."""
    text = inspect.getdoc(getattr(vendor_ops, each.adapter_name)) or ""
    text = re.sub(r"^(Raises|Source):.*(?:\n(?!\w+:).+)*\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n[A-Z]\w+Error: .*(?:\n(?!\w+:).+)*", "", text)
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text)
    return text.replace("``", "`").strip()


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


if __name__ == "__main__":
    main()
