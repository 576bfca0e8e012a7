# SPDX-License-Identifier: Apache-2.0
"""What ``versus.py`` measured: kept in a file figure by figure, and written as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Results:
    """The figures of every dtype and number of threads, saved as each is ready.

    A run over all of them takes hours. What was broken off goes on where it stopped.

    Args:
        path: JSON file that holds them.
        head: what every figure has in common (processor, clock, repeats).
        resume: begin with what the file has. Raises: ValueError: it has another head.
    """

    def __init__(self, path: Path, head: dict[str, Any], resume: bool) -> None:
        self._path = path
        self.content = {**head, "runs": []}
        if not resume or not path.is_file():
            return
        self.content = json.loads(path.read_text())
        found = {name: value for name, value in self.content.items() if name != "runs"}
        if found != head:
            raise ValueError(f"{path} holds figures of {found}, not of {head}: go on without it")

    def run(self, dtype: str, threads: int) -> dict[str, Any]:
        """The figures of one dtype and number of threads, with none at first."""
        for run in self.content["runs"]:
            if (run["dtype"], run["threads"]) == (dtype, threads):
                return run
        run = {
            "dtype": dtype, "threads": threads, "figures": {}, "absent": {}, "versions": {},
            "resident_mib": {},
        }  # fmt: skip
        self.content["runs"].append(run)
        return run

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.content, indent=1))


def processor() -> str:
    """The processor's name and what it multiplies with."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {name.strip(): value.strip() for name, value in fields.items()}
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")
    have = [flag for flag in known if flag in values.get("flags", "").split()]
    return f"{values.get('model name', 'unknown')} ({', '.join(have)})"


def tables(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    clock = "processor" if result["clock"] == "cpu" else "wall"
    text = [
        f"Measured on {result['processor']}. Tokens per second of {clock} time, of a start its "
        f"seconds: median (min to max) of {result['repeats']} repeats that took turns."
    ]
    for run in result["runs"]:
        names = list(dict.fromkeys(n for f in run["figures"].values() for n in f["values"]))
        text += ["", f"## {run['dtype']}, {run['threads']} thread(s)", ""]
        text += [f"| figure | {' | '.join(names)} | ours beside the best of the others |"]
        text += ["|---" * (len(names) + 2) + "|"]
        for figure, summary in run["figures"].items():
            cells = [_cell(summary["values"].get(name)) for name in names]
            ratio = "–" if summary["ratio"] is None else f"{summary['ratio']:.2f}"
            text.append(f"| {figure} | {' | '.join(cells)} | {ratio} |")
        if held := run["resident_mib"]:
            cells = [f"{held[name]:.0f}" if name in held else "–" for name in names]
            text.append(f"| resident, MiB | {' | '.join(cells)} | |")
        text += [""]
        for name, versions in run["versions"].items():
            text.append(f"- {name}: {', '.join(f'{k} {v}' for k, v in versions.items())}")
        failed = {f"{n}, {f}": e for f, s in run["figures"].items() for n, e in s["errors"].items()}
        for name, reason in {**run["absent"], **failed}.items():
            text.append(f"- {name}: {reason.splitlines()[0]}")
    return "\n".join(text) + "\n"


def _cell(values: dict[str, float] | None) -> str:
    if values is None:
        return "–"
    if values["repeats"] == 1:
        return f"{values['median']:.1f} (once)"
    return f"{values['median']:.1f} ({values['min']:.1f} to {values['max']:.1f})"


def write_page(result: dict[str, Any], page: Path) -> None:
    """The page with the result's tables below its mark.

    Raises: ValueError: the page has no such mark.
    """
    mark = "<!-- written by benchmarks/versus.py -->\n"
    head, found, _ = page.read_text().partition(mark)
    if not found:
        raise ValueError(f"{page} has no line {mark.strip()}")
    page.write_text(f"{head}{mark}\n{tables(result)}")
