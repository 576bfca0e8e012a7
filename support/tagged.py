# SPDX-License-Identifier: Apache-2.0
"""Make the files of a tag again, from the tag alone: what the release workflow runs.

python support/tagged.py kunlun-quant-v0.2.0 OUT   # OUT/dist and OUT/sbom.cdx.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from members import ROOT
from releasing import edits, tree, versions
from releasing.making import make, named, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tag", help="such as kunlun-quant-v0.2.0, or ...rc1 on any commit")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--no-engine", action="store_true", help="do not run a family's model")
    options = parser.parse_args()
    again(ROOT, options.tag, options.out, engine=not options.no_engine)


def again(root: Path, tag: str, out: Path, *, engine: bool) -> None:
    """Build and try what ``tag`` names; exits unless the tag's own commit says that version."""
    name, version = versions.of_tag(tag)
    with tempfile.TemporaryDirectory() as folder:
        clone = tree.clone(root, Path(folder) / "clone")
        tree.git(clone, "checkout", "--quiet", tag)
        wheel, wheels = named(clone, name)
        if versions.is_candidate(version):
            prepare(clone, wheel, wheels, version)
        elif wheel.version != version:
            sys.exit(f"{tag} stands on a commit whose {wheel.folder} says {wheel.version}: "
                     "`nox -s release` makes the commit and its tag")  # fmt: skip
        else:
            edits.entry(clone, wheel, version)  # exits without one
        make(clone, wheel, version, out, engine=engine)


if __name__ == "__main__":
    main()
