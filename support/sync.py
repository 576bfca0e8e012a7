# SPDX-License-Identifier: Apache-2.0
"""What is said of each wheel outside of its folder, written from the wheels' own pyproject.toml.

python support/sync.py           # write the blocks (`nox -s sync`)
python support/sync.py --check   # exit code 1 if they are not what would be written

A block lies between a line that holds ``NAME: written by`` and one that holds ``NAME: end``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import written
from members import ROOT, Wheel, read_all

CATALOGUE = "packages/kunlun-platform/src/vllm_kunlun/platforms/wheels.json"
"""What the platform reads to name the wheel to install where none answers."""
ASKED_BY_ALL = {
    *("vllm_kunlun.module_redirects", "vllm_kunlun.patches"),
    "vllm_kunlun.model_families",
}
"""Groups in which every provider is called, and none is asked for by its name."""
BESIDE_THE_WHEELS = ["examples/my-kunlun-op/src", "support"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    bring_up_to_date(check=options.check)


def bring_up_to_date(*, check: bool = False) -> None:
    """Write every file that is not as the wheels want it; with ``check`` exit instead."""
    written.update(
        texts(ROOT, read_all(ROOT)),
        check=check,
        why="differ from the wheels' own pyproject.toml: run `nox -s sync`",
    )


def texts(root: Path, wheels: list[Wheel]) -> dict[str, str]:
    """File -> its text with every block as the wheels want it."""
    found = {CATALOGUE: catalogue(wheels)}
    for file, blocks in {
        "pyproject.toml": {
            "extras": extras(wheels),
            "wheels": array("wheels", (wheel.name for wheel in wheels)),
            "sources": "".join(f"{wheel.name} = {{ workspace = true }}\n" for wheel in wheels),
            "mypy_path": array(
                "mypy_path", [*(f"{wheel.folder}/src" for wheel in wheels), *BESIDE_THE_WHEELS]
            ),
            "root_packages": array("root_packages", (wheel.owns for wheel in wheels)),
        },
        "README.md": {"packages": table(wheels)},
    }.items():
        text = (root / file).read_text()
        for name, inside in blocks.items():
            text = replaced(file, text, name, inside)
        found[file] = text
    return found


def replaced(file: str, text: str, name: str, inside: str) -> str:
    """``text`` with another inside of the block ``name``."""
    begin, end = (rf"^[^\w\n]*{name}: {word}.*$" for word in ("written by", "end"))
    block = re.compile(rf"({begin}\n)(?:.*\n)*?({end})", re.MULTILINE)
    if len(block.findall(text)) != 1:
        sys.exit(f"{file} must hold one block from '{name}: written by' to '{name}: end'")
    return block.sub(lambda found: f"{found[1]}{inside}{found[2]}", text)


def array(key: str, values: Iterable[str]) -> str:
    """A TOML array, one value a line."""
    return f"{key} = [\n" + "".join(f'  "{value}",\n' for value in values) + "]\n"


def extras(wheels: list[Wheel]) -> str:
    """[xpu] and the extras that bring one wheel alone."""
    by_name = {wheel.name: wheel for wheel in wheels}
    written = array("xpu", (wheel.requirement for wheel in wheels if wheel.card))
    for wheel in wheels:
        around = ("kunlun-quant", "kunlun-cli") if wheel.is_family else ()
        if wheel.extra:
            brought = [wheel, *(by_name[name] for name in around)]
            written += array(wheel.extra, (each.requirement for each in brought))
    return written


def table(wheels: list[Wheel]) -> str:
    """The README's table of packages."""
    rows = [
        f"| [`{wheel.name}`]({wheel.folder}) | `{wheel.owns}` | {wheel.description} |\n"
        for wheel in wheels
    ]
    return "\n| Distribution | Owns | What it is |\n|---|---|---|\n" + "".join(rows) + "\n"


def catalogue(wheels: list[Wheel]) -> str:
    """JSON: wheel -> what it alone provides by name, and how its architectures' names begin."""
    provided = {
        wheel.name: {
            **{
                group: names
                for group, names in wheel.entry_points.items()
                if group.startswith("vllm_kunlun.") and group not in ASKED_BY_ALL
            },
            **({"architectures": wheel.architectures} if wheel.is_family else {}),
        }
        for wheel in wheels
    }
    # An architecture takes the first that fits: longer beginnings come before shorter ones.
    longest_first = sorted(
        wheels, key=lambda wheel: (-max(map(len, wheel.architectures), default=0), wheel.name)
    )
    kept = {w.name: provided[w.name] for w in longest_first if provided[w.name]}
    return json.dumps(kept, indent=2) + "\n"


if __name__ == "__main__":
    main()
