# SPDX-License-Identifier: Apache-2.0
"""Release one wheel: version, changelog, bounds of its dependents, files that were tried, a tag.

python support/release.py kunlun-quant minor --dry-run   # everything, then leave all as it was
python support/release.py kunlun-quant minor             # commit and tag; `git push` is yours
python support/release.py kunlun-quant minor --candidate # a tag on this commit, no commit
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from members import META, ROOT, Wheel
from releasing import edits, tree, versions
from releasing.making import make, named, prepare


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", help="such as kunlun-quant")
    parser.add_argument("part", choices=versions.PARTS, help="of the version, which goes up by one")
    parser.add_argument("--candidate", action="store_true", help="the next rc of that version")
    parser.add_argument("--dry-run", action="store_true", help="no commit, no tag")
    parser.add_argument("--no-engine", action="store_true", help="do not run a family's model")
    parser.add_argument("--out", type=Path, help="keep the files in this new folder")
    options = parser.parse_args()
    release(
        ROOT, options.wheel, options.part, candidate=options.candidate, dry_run=options.dry_run,
        engine=not options.no_engine, out=options.out,
    )  # fmt: skip


def release(
    root: Path, name: str, part: str, *, candidate: bool, dry_run: bool, engine: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """Release wheel ``name`` of the repository ``root``; exits before anything of it changed."""
    wheel, wheels = named(root, name)
    tree.check_clean(root)
    is_meta = wheel.name == META
    version = (versions.next_post if is_meta else versions.next_version)(wheel.version, part)
    if candidate and is_meta:
        sys.exit(f"{META} has no candidates: its extras take those of the wheels")
    if candidate:
        version = versions.candidate(name, version, tree.tags(root))
    tag = versions.tag(name, version)
    if tag in tree.tags(root):
        sys.exit(f"the tag {tag} exists: this version is released")
    print(f"{name} {wheel.version} -> {version}")
    with tempfile.TemporaryDirectory() as folder:
        clone = tree.clone(root, Path(folder) / "clone")
        moved = prepare(clone, wheel, wheels, version)
        make(clone, wheel, version, out or Path(folder) / "out", engine=engine)
        if dry_run:
            print(f"dry run: no commit, no tag {tag}")
            return
        # A candidate is built from its tag, which names the version: the branch stays.
        tree.adopt(root, root if candidate else clone, tag, message(clone, wheel, version))
    print(f"tagged {tag}; next: `git push origin HEAD {tag}`, and the workflow publishes it")
    for dependent in moved if not candidate else ():
        print(f"  then release {dependent}: the one that users have refuses {name} {version}")


def message(clone: Path, wheel: Wheel, version: str) -> str:
    """What the tag says: the changelog's entry."""
    if versions.is_candidate(version):
        return f"{wheel.name} {version}\n"
    return f"{wheel.name} {version}\n\n{edits.entry(clone, wheel, version)}\n"


if __name__ == "__main__":
    main()
