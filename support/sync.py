# SPDX-License-Identifier: Apache-2.0
"""What is said of each wheel outside of its folder, written from the wheels' own pyproject.toml.

python support/sync.py           # write the blocks (`nox -s sync`)
python support/sync.py --check   # exit code 1 if they are not what would be written

A block lies between a line that holds ``NAME: written by`` and one that holds ``NAME: end``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from members import ROOT, Wheel, read_all

HINTS = "packages/kunlun-platform/src/vllm_kunlun/platforms/family_wheels.py"
EXAMPLE = "examples/my-kunlun-op/src"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    if options.check and (files := ", ".join(stale())):
        sys.exit(f"{files} differ from the wheels' own pyproject.toml: run `nox -s sync`")
    if not options.check:
        write()


def stale() -> dict[str, str]:
    """The files that are not what would be written, with what would be."""
    return {
        file: text
        for file, text in texts(ROOT, read_all(ROOT)).items()
        if (ROOT / file).read_text() != text
    }


def write() -> None:
    """Bring every file up to date."""
    for file, text in stale().items():
        (ROOT / file).write_text(text)
        print(f"wrote {file}")


def texts(root: Path, wheels: list[Wheel]) -> dict[str, str]:
    """File -> its text with every block as the wheels want it."""
    written = {}
    for file, blocks in {
        "pyproject.toml": {
            "extras": extras(wheels),
            "wheels": array("wheels", (wheel.name for wheel in wheels)),
            "sources": "".join(f"{wheel.name} = {{ workspace = true }}\n" for wheel in wheels),
            "mypy_path": array("mypy_path", [*(f"{w.folder}/src" for w in wheels), EXAMPLE]),
            "root_packages": array("root_packages", (wheel.owns for wheel in wheels)),
        },
        "README.md": {"packages": table(wheels)},
        HINTS: {"wheels": hints(wheels)},
    }.items():
        text = (root / file).read_text()
        for name, inside in blocks.items():
            text = replaced(file, text, name, inside)
        written[file] = text
    return written


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


def hints(wheels: list[Wheel]) -> str:
    """How an architecture's name begins -> the wheel to install for it."""
    longest_first = sorted(wheels, key=lambda w: (-len(w.architectures), w.architectures))
    rows = (f'    "{w.architectures}": "{w.name}",\n' for w in longest_first if w.is_family)
    return "WHEELS = {\n" + "".join(rows) + "}\n"


if __name__ == "__main__":
    main()
