# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's config.json, as far as it is on this disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vllm_kunlun.platforms.checks import checkpoint
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["architecture_of", "check_folder", "configuration_of"]


def architecture_of(model: str) -> str | None:
    """First of ``architectures`` in the checkpoint's config.json; None if that is not on this disk.

    Raises:
        UnsupportedError: as :func:`configuration_of`.
    """
    configuration = configuration_of(model)
    return None if configuration is None else str(configuration["architectures"][0])


def check_folder(folder: Path) -> None:
    """Whether ``folder`` is that of a checkpoint; what its config.json says is not read.

    Raises:
        UnsupportedError: it holds no config.json.
    """
    path = folder / "config.json"
    # A link to nowhere is named as such by what reads it.
    if not path.is_symlink() and not path.exists():
        raise UnsupportedError(
            f"{folder} holds no config.json: MODEL must be the folder of a checkpoint in Hugging "
            "Face's layout."
        )


def configuration_of(model: str) -> dict[str, Any] | None:
    """The checkpoint's config.json; None if that is not on this disk.

    Raises:
        UnsupportedError: the folder has no config.json, it cannot be read, or names no
            architecture.
    """
    path = Path(model) / "config.json"
    if not Path(model).is_dir():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(model, "config.json")
        except HFValidationError:  # a path, and no folder is there
            raise UnsupportedError(
                f"MODEL {model!r} is neither a folder nor a name on the hub (owner/name): "
                "correct the path."
            ) from None
        if not isinstance(cached, str):
            return None
        path = Path(cached)
    check_folder(path.parent)
    checkpoint.check_file(path)
    try:
        configuration: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnsupportedError(
            f"{path} is not JSON ({error}): the file is damaged, fetch the checkpoint again."
        ) from error
    names = configuration.get("architectures") if isinstance(configuration, dict) else None
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        found = names if isinstance(configuration, dict) else configuration
        raise UnsupportedError(
            f'{path} must hold "architectures", a list of names such as ["Qwen3ForCausalLM"], and '
            f"has {json.dumps(found)[:80]}: the file is damaged or not a model's. Fetch the "
            "checkpoint again, or add the name of its class in Hugging Face's transformers."
        )
    return dict(configuration)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""
