# SPDX-License-Identifier: Apache-2.0
"""A built wheel as users get it: alone in a new environment, and run beside vLLM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from members import META, Wheel, as_built

from releasing.artifacts import uv

__all__ = ["VLLM", "alone", "beside_vllm", "contents", "engine"]

VLLM = "vllm==0.15.1"
COMMAND = "kunlun-cli"
LOADS = """
import importlib, sys
from importlib.metadata import distribution
name, version, owns = sys.argv[1:]
found = distribution(name)
assert found.version == version, f"{found.version} is installed, and {version} was built"
if owns:
    assert "site-packages" in importlib.import_module(owns).__file__
for entry in found.entry_points:
    entry.load()
print(f"{name} {version}: imported, {len(found.entry_points)} entry points loaded")
"""


def _environment(folder: Path, root: Path, dist: Path, others: Path, *wanted: str) -> Path:
    """Python of a new environment; run in ``root``, so uv applies the exclusions written there."""
    uv("venv", "--quiet", "--python", sys.executable, folder, cwd=root)
    python = folder / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, "--no-sources", *as_built(root),
       "--find-links", dist, "--find-links", others, *wanted, cwd=root)  # fmt: skip
    return python


def alone(folder: Path, root: Path, wheel: Wheel, version: str, dist: Path, others: Path) -> Path:
    """Install the wheel and what it asks for, nothing else: what it asks for is there, and fits."""
    python = _environment(folder, root, dist, others, f"{wheel.name}=={version}")
    uv("pip", "check", "--quiet", "--python", python, cwd=root)
    return python


def beside_vllm(
    folder: Path, root: Path, wheel: Wheel, version: str, dist: Path, others: Path
) -> None:
    """Beside vLLM and the emulator: import it, load each entry point; the command runs doctor.

    The meta-package brings everything by its extra ``all``, the command too.
    """
    asked = f"{wheel.name}[all]" if wheel.name == META else wheel.name
    python = _environment(
        folder, root, dist, others, f"{asked}=={version}", "kunlun-emulator", VLLM
    )
    run = [[str(python), "-c", LOADS, wheel.name, version, wheel.owns]]
    if wheel.name in (COMMAND, META):
        run.append([str(python.with_name("vllm-kunlun")), "doctor"])
    for command in run:
        subprocess.run(command, cwd=folder, env=_bare(folder), check=True, timeout=600)


def _bare(home: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1", "VLLM_KUNLUN_DEVICE": "emulated"}  # fmt: skip


def contents(root: Path, built: Path) -> None:
    """What tests/wheels says of the files and the metadata of each built wheel."""
    _wheel_tests(root, built, "each_wheel or no_file_is or no_plugin_wheel")


def engine(root: Path, wheel: Wheel, built: Path) -> None:
    """The engine with this family alone answers as HF transformers does (a minute or two)."""
    _wheel_tests(root, built, f"one_family_alone and {wheel.folder.rpartition('/')[2]}")


def _wheel_tests(root: Path, built: Path, which: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/wheels", "--built", built, "-k", which],
        cwd=root, check=True,
    )  # fmt: skip
