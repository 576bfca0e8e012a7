# SPDX-License-Identifier: Apache-2.0
"""Replay ``docs/transcript.md`` with prysk, as a reader would: new wheels, a new environment.

python support/replay.py       # exits with prysk's code
python support/replay.py -v    # prysk's options
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from members import ROOT, as_built

from vllm_kunlun.platforms import envs

PRYSK = "prysk==0.20.0"
PLACE = ROOT / ".nox" / "transcript"
INSTALLED = ("vllm-kunlun", "kunlun-cli[lint]", "kunlun-emulator", "vllm==0.15.1", "pytest")
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false",
         "OMP_NUM_THREADS": "1"}  # fmt: skip


def main() -> None:
    environment, dist = PLACE / "env", PLACE / "dist"
    python = environment / "bin" / "python"
    uv("build", "-q", "--clear", "--all-packages", "--wheel", "--out-dir", dist)
    uv("venv", "-q", "--clear", "-p", sys.executable, environment)
    # In the tree's root, so that uv applies the pins and exclusions that are written there.
    uv("pip", "install", "-q", "-p", python, "--find-links", dist, *as_built(), "--no-sources",
       *INSTALLED)  # fmt: skip
    # Not by `uv tool run`, which would put a python of its own first on the path.
    uv("venv", "-q", "--clear", "-p", sys.executable, PLACE / "prysk")
    uv("pip", "install", "-q", "--no-config", "-p", PLACE / "prysk" / "bin" / "python", PRYSK)
    path = f"{environment / 'bin'}:{envs.with_values({})['PATH']}"
    done = subprocess.run(
        [PLACE / "prysk" / "bin" / "prysk", "--indent=4", *sys.argv[1:], "docs/transcript.md"],
        cwd=ROOT,
        env=envs.with_values({**QUIET, "PATH": path, "VIRTUAL_ENV": str(environment)}),
        check=False,
    )
    sys.exit(done.returncode)


def uv(*arguments: str | Path) -> None:
    subprocess.run(["uv", *map(str, arguments)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
