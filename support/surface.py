# SPDX-License-Identifier: Apache-2.0
"""What this project uses of vLLM: ``support/vllm_surface.json`` and the vLLMs that differ from it.

python support/surface.py write                 # the file, from our sources and the installed vLLM
python support/surface.py check                 # exit code 1 if it is not what would be written
python support/surface.py compare 0.16.0        # what a release changed, by file of ours
python support/surface.py compare some/folder   # the same of sources on the disk
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from vllm_surface import compare, vllm_sources
from vllm_surface.compare import Difference
from vllm_surface.entries import Surface, load, save
from vllm_surface.module import SurfaceError
from vllm_surface.uses import collect

ROOT = Path(__file__).parents[1]
PATH = ROOT / "support" / "vllm_surface.json"
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
    options = parser.parse_args()
    if (options.command == "compare") != (options.vllm is not None):
        parser.error("compare takes a folder or a version of vLLM, write and check take nothing")
    try:
        if options.command == "write":
            _write()
        elif options.command == "check":
            _check()
        else:
            _compare(options.vllm)
    except SurfaceError as error:
        sys.exit(str(error))


def against_installed() -> list[Difference]:
    """What of the file is not so for our sources and the installed vLLM."""
    held, folder = load(PATH), vllm_sources.installed()
    found, _ = collect(folder, SOURCES, ROOT)
    return [*compare.changes(held.entries, found), *compare.unlisted(held.entries, found)]


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


def _compare(name: str) -> None:
    held = load(PATH)
    with vllm_sources.sources(name) as folder:
        found, moved = collect(folder, SOURCES, ROOT, follow_moves=True)
        other = vllm_sources.version(folder)
    differences = [
        *compare.changes(held.entries, found, moved),
        *compare.arrivals(held.entries, found),
    ]
    print(f"vLLM {held.vllm} -> {other}")
    print(compare.counts(held.entries, differences))
    for change, meaning in compare.CHANGES.items():
        print(f"  {change}: {meaning}")
    _print(differences)


def _print(differences: Iterable[Difference]) -> None:
    for line in compare.by_file(differences):
        print(line)


if __name__ == "__main__":
    main()
