# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's files are looked at before anything is built from them."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["check_files"]


def check_files(folder: Path) -> None:
    """Refuse a local checkpoint with a damaged safetensors file. Reads headers only.

    Raises:
        UnsupportedError: naming the file, its size, what is wrong with it and what to do.
    """
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise UnsupportedError(
                f"{file} ({file.stat().st_size} bytes) is not a whole safetensors file: {error}. "
                "It was cut off or damaged on its way: copy or download it again."
            ) from error
