# SPDX-License-Identifier: Apache-2.0
"""A wheel's own tests, run before it is installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from vllm_kunlun.cli.adapt.wheel import Wheel
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import MissingWheelError

__all__ = ["check", "prove"]


def check() -> None:
    """Whether tests can be run.

    Raises:
        MissingWheelError: pytest is not installed.
    """
    if find_spec("pytest") is None:
        raise MissingWheelError(
            "a wheel is proved by its tests, and pytest is not installed: run pip install pytest, "
            "or leave the proof out with --no-prove."
        )


def prove(folder: Path, wheel: Wheel) -> tuple[bool, str]:
    """Whether the tests of ``wheel``, written to ``folder``, pass, and what pytest printed.

    Its entry points are found as if it were installed: a folder on the path has its metadata.
    """
    name = f"kunlun-models-{wheel.name}"
    with tempfile.TemporaryDirectory() as path:
        info = Path(path) / f"{name.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        groups = [
            "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in each.items())])
            for group, each in wheel.entry_points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups) + "\n")
        before = envs.with_values({}).get("PYTHONPATH")
        paths = [str(folder.resolve() / "src"), path, *([before] if before else [])]
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
            cwd=folder, capture_output=True, text=True, check=False,
            env=envs.with_values({"PYTHONPATH": ":".join(paths)}),
        )  # fmt: skip
    return done.returncode == 0, done.stdout + done.stderr
