# SPDX-License-Identifier: Apache-2.0
"""What this project uses of vLLM: ``support/vllm_surface.json`` and the vLLMs that differ from it.

python support/surface.py write                 # the file, from our sources and the installed vLLM
python support/surface.py check                 # exit code 1 if it is not what would be written
python support/surface.py compare 0.16.0        # what a release changed, by file of ours
python support/surface.py compare some/folder   # the same of sources on the disk

A release that is supported beside that of the file has a file of explanations of its own,
``support/vllm_differences/RELEASE.toml``: what it changed, and where that is dealt with.
``compare`` leaves those out (``--all`` shows them) and ends with exit code 1 if one is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from vllm_surface import compare, explanations, vllm_sources
from vllm_surface.compare import Difference
from vllm_surface.entries import Surface, load, save
from vllm_surface.module import SurfaceError
from vllm_surface.uses import collect

ROOT = Path(__file__).parents[1]
PATH = ROOT / "support" / "vllm_surface.json"
DIFFERENCES = ROOT / "support" / "vllm_differences"
SOURCES = [
    *sorted(ROOT.glob("packages/*/src")),
    *sorted(ROOT.glob("packages/*/*/src")),
    *sorted(ROOT.glob("examples/*/src")),
]
NEXT = (
    "Where vLLM is another one, change the files named above: docs/vllm-surface.md says how. "
    "Where our sources use something else, or when they are changed, run "
    "`python support/surface.py write` and commit the file."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("write", "check", "compare"))
    parser.add_argument("vllm", nargs="?", help="compare: a folder or a version of vLLM")
    parser.add_argument("--all", action="store_true", help="compare: what is explained, too")
    options = parser.parse_args()
    if (options.command == "compare") != (options.vllm is not None):
        parser.error("compare takes a folder or a version of vLLM, write and check take nothing")
    try:
        if options.command == "write":
            _write()
        elif options.command == "check":
            _check()
        else:
            _compare(options.vllm, everything=options.all)
    except SurfaceError as error:
        sys.exit(str(error))


def against_installed() -> list[Difference]:
    """What of the file is not so for our sources and the installed vLLM, explanations apart."""
    held, folder = load(PATH), vllm_sources.installed()
    release = vllm_sources.version(folder)
    if (file := _explanations(release)) is not None:
        differences, _ = _differences(held, folder)
        unexplained, _, _ = explanations.sort(differences, explanations.load(file, ROOT))
        return unexplained
    found, _ = collect(folder, SOURCES, ROOT)
    return [*compare.changes(held.entries, found), *compare.unlisted(held.entries, found)]


def _explanations(release: str) -> Path | None:
    file = DIFFERENCES / f"{release.partition('+')[0]}.toml"
    return file if file.is_file() else None


def _differences(held: Surface, folder: Path) -> tuple[list[Difference], str]:
    """What the vLLM in ``folder`` changed, and its version."""
    found, moved = collect(folder, SOURCES, ROOT, follow_moves=True)
    differences = [
        *compare.changes(held.entries, found, moved),
        *compare.arrivals(held.entries, found),
    ]
    return differences, vllm_sources.version(folder)


def _write() -> None:
    folder = vllm_sources.installed()
    found, _ = collect(folder, SOURCES, ROOT)
    save(Surface(vllm_sources.version(folder), found), PATH)
    print(f"wrote {PATH.relative_to(ROOT)}: {len(found)} uses of vLLM")


def _check() -> None:
    differences = against_installed()
    _print(differences)
    if differences:
        sys.exit(f"Differences from {PATH.relative_to(ROOT)}: {len(differences)}. {NEXT}")
    print(f"{PATH.relative_to(ROOT)} holds for the installed vLLM and for our sources")


def _compare(name: str, *, everything: bool) -> None:
    held = load(PATH)
    with vllm_sources.sources(name) as folder:
        differences, other = _differences(held, folder)
    print(f"vLLM {held.vllm} -> {other}")
    print(compare.counts(held.entries, differences))
    file = _explanations(other)
    unexplained: list[Difference] = []
    unused: list[str] = []
    shown = differences
    if file is not None:
        known = explanations.load(file, ROOT)
        unexplained, explained, unused = explanations.sort(differences, known)
        shown = differences if everything else unexplained
        print(f"{file.relative_to(ROOT)} explains {len(explained)}; {len(unexplained)} are open")
    if shown:
        for change, meaning in compare.CHANGES.items():
            print(f"  {change}: {meaning}")
    _print(shown)
    for pattern in unused:
        print(f"explains nothing: {pattern}")
    if unexplained or unused:
        sys.exit(f"Correct {DIFFERENCES.relative_to(ROOT)}: docs/vllm-surface.md says how.")


def _print(differences: Iterable[Difference]) -> None:
    for line in compare.by_file(differences):
        print(line)


if __name__ == "__main__":
    main()
