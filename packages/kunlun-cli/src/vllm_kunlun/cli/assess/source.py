# SPDX-License-Identifier: Apache-2.0
"""Where a model's configuration is: a checkpoint folder, a config.json, or a name on the hub."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vllm_kunlun.cli.configuration import architecture_of
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading.headers import described

__all__ = ["folder_of", "weight_bytes_on_disk"]

_SMALL_FILES = ("*.json", "*.py", "*.txt")
"""Of a model on the hub, what is fetched: everything but weights."""


@contextlib.contextmanager
def folder_of(model: str) -> Iterator[tuple[Path, Path]]:
    """The folder of ``model``, and one for vLLM: a copy of its small files, which says a dtype.

    vLLM looks for the weights where config.json names no dtype, and reports that as an error.

    Args:
        model: a checkpoint folder, a file such as config.json, or a name on the hub (owner/name).

    Raises:
        UnsupportedError: there is no such folder or file, the hub does not give it, or its
            config.json is not a model's.
    """
    path = Path(model)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        if path.is_file():
            shutil.copyfile(path, copy / "config.json")
            path = copy
        else:
            path = path if path.is_dir() else _fetched(model)
            for pattern in _SMALL_FILES:
                for file in path.glob(pattern):
                    if file.is_file():
                        shutil.copyfile(file, copy / file.name)
        architecture_of(str(path))
        config = json.loads((copy / "config.json").read_bytes())
        if not config.get("dtype") and not config.get("torch_dtype"):
            (copy / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
        yield path, copy


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_SMALL_FILES)))
    except HFValidationError:
        raise UnsupportedError(
            f"MODEL {name!r} is neither a folder, a config.json nor a name on the hub "
            "(owner/name): correct it."
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UnsupportedError(
            f"the hub does not give {name} ({type(error).__name__}): fetch its config.json on a "
            f"machine that reaches the hub (hf download {name} config.json) and name that file."
        ) from error


def weight_bytes_on_disk(folder: Path) -> int | None:
    """Bytes of the checkpoint's tensors by its headers, else by its index; None without both.

    Raises:
        UnsupportedError: a header or the index cannot be read.
    """
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    try:
        if files:
            return sum(map(_tensor_bytes, files))
        if index.is_file():
            return int(json.loads(index.read_bytes())["metadata"]["total_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"the headers of the weights in {folder} cannot be read ({error}): fetch the "
            "checkpoint again, or name its config.json alone."
        ) from error
    return None


def _tensor_bytes(file: Path) -> int:
    """Bytes of the tensors of a safetensors file, whose header gives each one's place."""
    return max((each["data_offsets"][1] for each in described(file).values()), default=0)
