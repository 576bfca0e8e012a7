# SPDX-License-Identifier: Apache-2.0
"""docs/compatibility.md: which versions were tried together, from support/tested.json.

python support/compatibility.py            # write the page
python support/compatibility.py --check    # exit code 1 if it is not what would be written
python support/compatibility.py --record PYTHON --set lowest --ran doctor unit   # add what passed
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import tomlkit
import written
from members import ROOT, Wheel, read_all
from packaging.requirements import Requirement
from packaging.version import Version

PAGE = "docs/compatibility.md"
TESTED = "support/tested.json"
SETS = {
    "pinned": "the pinned ones",
    "lowest": "the lowest that are allowed",
    "highest": "the newest that are allowed",
    "vendor": "the vendor's",
    "own": "those that this vLLM asks for",
}
"""Which versions of the dependencies an environment held."""
VERSIONS = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--record", type=Path, metavar="PYTHON", help="of what was tried")
    parser.add_argument("--set", choices=SETS, default="pinned", help="of the dependencies")
    parser.add_argument("--ran", nargs="+", default=[], help="what passed there")
    options = parser.parse_args()
    wheels = read_all()
    tested = json.loads((ROOT / TESTED).read_text())
    if options.record:
        if not options.ran:
            parser.error("--record wants --ran: name what passed")
        tested = added(tested, look(options.record, wheels), options.set, options.ran)
        (ROOT / TESTED).write_text(json.dumps(tested, indent=1) + "\n")
    text = page(wheels, asked(ROOT, wheels), tested)
    written.update({PAGE: text}, check=options.check,
                   why=f"differs from {TESTED}: run `python support/compatibility.py`")  # fmt: skip


def asked(root: Path, wheels: list[Wheel]) -> dict[str, list[Requirement]]:
    """Wheel -> what it asks for without an extra."""
    return {
        wheel.name: [
            Requirement(text)
            for text in tomlkit.parse((root / wheel.folder / "pyproject.toml").read_text())
            .unwrap()["project"]
            .get("dependencies", [])
        ]
        for wheel in wheels
    }


def look(python: Path, wheels: list[Wheel]) -> dict[str, str]:
    """Versions of Python, vLLM, torch, our wheels and what they ask for, in that environment."""
    needed = {each.name for some in asked(ROOT, wheels).values() for each in some}
    names = sorted({*needed, *(wheel.name for wheel in wheels), "vllm", "torch"})
    done = subprocess.run([python, "-c", VERSIONS, *names], check=True, stdout=subprocess.PIPE)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def added(
    tested: list[dict[str, Any]], versions: dict[str, str], which: str, ran: list[str]
) -> list[dict[str, Any]]:
    """``tested`` with one more; it takes the place of one with this Python, vLLM and set."""

    def key(each: dict[str, Any]) -> tuple[Any, ...]:
        held = each["versions"]
        minor = Version(held["python"]).release[:2]
        return (minor, held.get("vllm", ""), list(SETS).index(each["set"]))

    new = {"set": which, "ran": ran, "versions": versions}
    return sorted([*(old for old in tested if key(old) != key(new)), new], key=key)


def page(
    wheels: list[Wheel], needs: dict[str, list[Requirement]], tested: list[dict[str, Any]]
) -> str:
    """The page's text."""
    return "\n".join(
        [
            "# Which versions go together",
            "",
            "Written by `python support/compatibility.py` from `support/tested.json`, to which "
            "`nox -s python`, `bounds`, `vllm016`, `newest` and `vendor_stack -- whole` add what "
            "passed.",
            "",
            "## Tried together",
            "",
            "| Python | vLLM | torch | Dependencies | Wheels | Passed |",
            "|---|---|---|---|---|---|",
            *(_environment(each, wheels) for each in tested),
            "",
            "## What a wheel asks for of the others",
            "",
            "A wheel takes each bug fix of what it asks for. Neither vLLM nor torch is asked for: "
            "on a card both are the vendor's.",
            "",
            "| Wheel | Version | Asks for |",
            "|---|---|---|",
            *(_needs(wheel, needs[wheel.name], wheels) for wheel in wheels),
            "",
            "## Everything else that is asked for",
            "",
            "| Dependency | Allowed | Asked for by | Lowest tried | Newest tried |",
            "|---|---|---|---|---|",
            *_dependencies(wheels, needs, tested),
            "",
        ]
    )


def _environment(each: dict[str, Any], wheels: list[Wheel]) -> str:
    held = each["versions"]
    by_version: dict[str, list[str]] = {}
    for wheel in wheels:
        if wheel.name in held:
            by_version.setdefault(held[wheel.name], []).append(f"`{wheel.name}`")
    ours = "; ".join(
        f"{'all' if len(names) == len(wheels) else ', '.join(names)} {version}"
        for version, names in sorted(by_version.items())
    )
    return (
        f"| {held['python']} | {held.get('vllm', '–')} | {held.get('torch', '–')} "
        f"| {SETS[each['set']]} | {ours} | {', '.join(each['ran'])} |"
    )


def _needs(wheel: Wheel, needs: list[Requirement], wheels: list[Wheel]) -> str:
    names = {other.name for other in wheels}
    ours = [f"`{each.name}` {each.specifier}" for each in needs if each.name in names]
    return f"| `{wheel.name}` | {wheel.version} | {'; '.join(ours) or 'none of them'} |"


def _dependencies(
    wheels: list[Wheel], needs: dict[str, list[Requirement]], tested: list[dict[str, Any]]
) -> list[str]:
    by_name: dict[str, list[tuple[str, Requirement]]] = {}
    for wheel in wheels:
        for each in needs[wheel.name]:
            if each.name not in needs:
                by_name.setdefault(each.name, []).append((wheel.name, each))
    rows = []
    for name, askers in sorted(by_name.items()):
        tried = sorted(
            (each["versions"][name] for each in tested if name in each["versions"]), key=Version
        )
        allowed = sorted({str(each.specifier) for _, each in askers})
        rows.append(
            f"| {name} | {', '.join(allowed)} | {', '.join(f'`{who}`' for who, _ in askers)} "
            f"| {tried[0] if tried else '–'} | {tried[-1] if tried else '–'} |"
        )
    return rows


if __name__ == "__main__":
    main()
