# SPDX-License-Identifier: Apache-2.0
"""Tables from ``support/matrix.json``: the page ``docs/support.md`` and a part of the README.

Another release of vLLM has a file and a page of its own, with its number in their names.

python support/render.py           # write them
python support/render.py --check   # exit code 1 if they are not what would be written
python support/render.py --add-report check.json   # of `ops check` or `verify`, from a card
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.features import FEATURES, USES  # noqa: E402
from support.matrix import FOLDER, Cell, Matrix  # noqa: E402

DOCS = ROOT / "docs"
README = ROOT / "README.md"
REPORTS = ROOT / "support" / "cards"
BEGIN, END = "<!-- support: begin -->", "<!-- support: end -->"
MARK = {"pass": "✓", "fail": "✗", "refused": "refused", "skipped": "skipped", "not applicable": "–"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--add-report", type=Path, metavar="FILE", help="a report from a card")
    options = parser.parse_args()
    if options.add_report:
        add_report(options.add_report)
    first = Matrix.load(FOLDER / "matrix.json")
    others = {
        f"{path.stem.replace('matrix', 'support')}.md": Matrix.load(path)
        for path in sorted(FOLDER.glob("matrix-*.json"))
    }
    old = README.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        sys.exit(f"README.md must hold {BEGIN} and {END} once each")
    new = {
        DOCS / "support.md": page(first, others),
        README: re.sub(
            f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{summary(first)}\n{END}", old, flags=re.DOTALL
        ),
        **{DOCS / name: page(matrix) for name, matrix in others.items()},
    }
    stale = [path for path, text in new.items() if not path.exists() or path.read_text() != text]
    if options.check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"{names} differ from support/matrix*.json: run `python support/render.py`")
    for path in () if options.check else stale:
        path.write_text(new[path])
        print(f"wrote {path.relative_to(ROOT)}")


def add_report(file: Path) -> None:
    """Keep a report of ``vllm-kunlun ops check`` or ``verify`` that was made on a card."""
    try:
        report = json.loads(file.read_text())
        around = report["surroundings"]
        device, emulated = around["device"], around["emulated"]
        _found(report)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{file} is no JSON report of `vllm-kunlun ops check` or `verify`: {error!r}")
    if emulated:
        sys.exit(f"{file} was made on {device}: only a report from a card is evidence")
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / file.name).write_text(json.dumps(report, indent=1) + "\n")
    print(f"added support/cards/{file.name} ({device})")


def summary(matrix: Matrix) -> str:
    """One line a feature: on how many of the architectures it passes."""
    lines = ["| Feature | Passes on | Refused | Skipped | Fails |", "|---|---|---|---|---|"]
    for name, feature in FEATURES.items():
        cells = [row.cells[name] for row in matrix.rows.values()]
        count = {status: sum(c.status == status for c in cells) for status in MARK}
        tried = len(cells) - count["not applicable"] - count["skipped"]
        lines.append(
            f"| {name}: {feature.meaning} | {count['pass']} of {tried} "
            + "".join(f"| {count[s] or '–'} " for s in ("refused", "skipped", "fail"))
            + "|"
        )
    return "\n".join(lines)


def page(matrix: Matrix, others: Mapping[str, Matrix] | None = None) -> str:
    """The whole page; that of the first release names the pages of the others."""
    links = [f"[{each.vllm}]({name})" for name, each in (others or {}).items()]
    families = {
        name: [row for row in matrix.rows.items() if row[1].family == name]
        for name in sorted({row.family for row in matrix.rows.values()}, key=str)
    }
    parts = [
        "# What was tried on which architecture",
        "Written by tests (`nox -s support`): tiny random models in float32 on the emulated "
        f"device, vLLM {matrix.vllm}, {_commits(matrix)}. Answers are held against a judge, "
        f"HF transformers {matrix.transformers} unless another is named. ✓ passes, ✗ fails, "
        "– does not apply; *skipped*: not tried, the tests lack a tool for it. "
        "Reasons stand below. **Untested on a card** until a report from one "
        "says otherwise.",
        *([f"Other releases of vLLM: {', '.join(links)}."] if links else []),
        "\n".join(
            ["| Column | What is tried | What is compared |", "|---|---|---|"]
            + [f"| {name} | {each.meaning} | {each.compared} |" for name, each in FEATURES.items()]
        ),
    ]
    for family, rows in families.items():
        title = family or "Without a family wheel: vLLM's class on our layers"
        head = f"| Architecture | {' | '.join(FEATURES)} | card |"
        table = [head, "|---" * (len(FEATURES) + 2) + "|"]
        table += [
            f"| {name} | {' | '.join(MARK[row.cells[f].status] for f in FEATURES)} | {row.card} |"
            for name, row in rows
        ]
        parts += [f"## {title}", "\n".join(table)]
    if matrix.others:
        parts += ["## Other decoders", *_decoders(matrix.others)]
    parts += [
        "## Uses, each on one model",
        "\n".join(
            ["| Use | What is tried | What is compared | |", "|---|---|---|---|"]
            + [
                f"| {name} | {each.meaning} | {each.compared} | {_outcome(matrix.uses.get(name))} |"
                for name, each in USES.items()
            ]
        ),
    ]
    reasons = [
        f"- {name}, {feature} {cell.status}: {cell.reason}"
        for name, row in matrix.rows.items()
        for feature, cell in row.cells.items()
        if cell.reason
    ]
    judges = [
        f"- {name}: judged by {row.judge}"
        for name, row in matrix.rows.items()
        if row.judge != "HF transformers"
    ]
    parts += ["## Reasons", "\n".join(judges + reasons) or "None.", "## Reports from cards"]
    reports = [_report(file) for file in sorted(REPORTS.glob("*.json"))]
    parts.append(
        "\n".join(reports)
        or "None yet. On a card: `vllm-kunlun ops check --report check.json`, then "
        "`python support/render.py --add-report check.json` in a clone of this repository."
    )
    return "\n\n".join(parts) + "\n"


def _decoders(cells: Mapping[str, Cell]) -> tuple[str, str]:
    tried = sum(cell.status in ("pass", "fail") for cell in cells.values())
    passed = [name for name, cell in cells.items() if cell.status == "pass"]
    return (
        "Generated: what vLLM registers and transformers can build tiny, eager only; 12 greedy "
        "tokens for each of ten prompts, equal, and their log-probabilities within 0.001. "
        f"{len(passed)} of {tried} pass: {', '.join(passed)}.",
        "\n".join(
            f"- {name} ({MARK[cell.status]}): {cell.reason}"
            for name, cell in cells.items()
            if cell.status != "pass"
        ),
    )


def _outcome(cell: Cell | None) -> str:
    if cell is None:
        return "skipped: no run came this far yet"
    return f"{MARK[cell.status]}: {cell.reason}" if cell.reason else MARK[cell.status]


def _commits(matrix: Matrix) -> str:
    others = {at: count for at, count in matrix.commits().items() if at != matrix.made_at}
    late = [f"{count} cell{'s' * (count > 1)} at {at}" for at, count in sorted(others.items())]
    return "; ".join([f"at commit {matrix.made_at}", *late])


def _report(file: Path) -> str:
    report = json.loads(file.read_text())
    around = report["surroundings"]
    where = f"on {around['device']}, {around['date'][:10]}"
    return f"- [{file.name}](../support/cards/{file.name}): {_found(report)} {where}"


def _found(report: dict[str, Any]) -> str:
    if "functions" in report:
        passed = sum(each["status"] == "pass" for each in report["functions"])
        return f"{passed} of {len(report['functions'])} functions pass"
    name = Path(report["quantised"]).name
    return f"perplexity of {name} grew by {report['increase']:.1%}"


if __name__ == "__main__":
    main()
