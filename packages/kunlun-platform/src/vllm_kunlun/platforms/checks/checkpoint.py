# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's files are looked at before anything is built from them."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["check_file", "check_files", "read_json"]

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_INDEXES = ("model.safetensors.index.json", "consolidated.safetensors.index.json")
_ORIGINAL = "consolidated"
_NUMBERED = re.compile(r"(.+-)(\d+)(-of-)(\d+)(\.safetensors|\.bin)")
_AGAIN = "copy or download it again."
_SHOWN = 3


def check_files(folder: Path) -> None:
    """Refuse a local checkpoint with missing or damaged files of weights. Reads headers only.

    Raises:
        UnsupportedError: naming the file, its size, what is wrong with it and what to do.
    """
    files = sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))
    indexes = [folder / name for name in _INDEXES if _is_there(folder / name)]
    for file in (*files, *indexes):
        check_file(file)
    safetensors = [file for file in files if file.suffix == ".safetensors"]
    for file in safetensors:
        _check_header(file)
    if read := [index for index in indexes if not files or _is_read(index, safetensors)]:
        for index in read:
            _check_index(index)
    else:
        _check_numbers(safetensors or files)


def check_file(file: Path) -> None:
    """Refuse what is no file that can be read: a link that leads nowhere, a pipe, a folder.

    Raises:
        UnsupportedError: naming it, and where it leads.
    """
    try:
        kind = file.stat().st_mode
    except OSError as error:
        leads = f", a link to {file.readlink()}," if file.is_symlink() else ""
        raise UnsupportedError(
            f"{file}{leads} cannot be read: {error.strerror}. Copy the file itself here, or "
            "download it again."
        ) from error
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a pipe, a socket or a device"
        raise UnsupportedError(f"{file} is {what} and no file: put the checkpoint's own there.")


def read_json(file: Path) -> Any:
    """What ``file`` holds.

    Raises:
        UnsupportedError: it is not JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnsupportedError(f"{file} is not JSON ({error}): {_AGAIN}") from error


def _is_there(file: Path) -> bool:
    return file.is_symlink() or file.exists()


def _is_read(index: Path, files: Iterable[Path]) -> bool:
    """Whether an index has files of its own: many repositories hold a model in two forms, each
    with its index, of which one is downloaded."""
    return any(
        file.name.startswith(_ORIGINAL) == index.name.startswith(_ORIGINAL) for file in files
    )


def _check_header(file: Path) -> None:
    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise UnsupportedError(
            f"{file} ({file.stat().st_size} bytes) is not a whole safetensors file: {error}. "
            f"It was cut off or damaged on its way: {_AGAIN}"
        ) from error


def _check_index(index: Path) -> None:
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise UnsupportedError(
            f'{index} has no "weight_map" of tensors and their files, as an index must: {_AGAIN}'
        )
    for tensor, name in places.items():
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise UnsupportedError(
                f"{index} says that {tensor} is in {name!r}, which is no name of a file beside it: "
                f"{_AGAIN}"
            )
    first = {name: tensor for tensor, name in reversed(places.items())}
    _refuse_missing(
        index.parent,
        sorted(name for name in first if not _is_there(index.parent / name)),
        lambda name: f"{index.name} names it, for {first[name]} among others",
    )


def _check_numbers(files: Iterable[Path]) -> None:
    """Without an index, the names of the files say how many there are."""
    found = [(file.parent, match) for file in files if (match := _NUMBERED.fullmatch(file.name))]
    present = {match[0] for _, match in found}
    for folder, match in found:
        stem, number, of, count, suffix = match.groups()
        width = len(number)
        wanted = [f"{stem}{n:0{width}}{of}{count}{suffix}" for n in range(1, int(count) + 1)]
        if match[0] in wanted:
            _refuse_missing(
                folder,
                [name for name in wanted if name not in present],
                lambda _, count=count: f"the names of the others say that there are {int(count)}",
            )


def _refuse_missing(folder: Path, names: list[str], why: Any) -> None:
    if not names:
        return
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    raise UnsupportedError(
        f"{folder} lacks {len(names)} of its files of weights, {shown}: {why(names[0])}. Copy or "
        "download the whole checkpoint again."
    )
