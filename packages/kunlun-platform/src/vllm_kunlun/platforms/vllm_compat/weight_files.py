# SPDX-License-Identifier: Apache-2.0
"""The files that vLLM's loader would read a source of weights from.

In 0.33 a source may lie in a part of a repository, and may name tensors that nobody reads.
"""

from __future__ import annotations

from typing import Any

from vllm.model_executor.model_loader import weight_utils

__all__ = ["files_of"]


def files_of(loader: Any, source: Any) -> tuple[str, list[str]]:
    """Folder and files of ``source``, a source of vLLM's default loader.

    Raises: RuntimeError: there are none (vLLM's own error).
    """
    part = (source.subfolder,) if hasattr(source, "subfolder") else ()
    folder, files, *_ = loader._prepare_weights(
        source.model_or_path,
        *part,
        source.revision,
        source.fall_back_to_pt,
        source.allow_patterns_overrides,
    )
    unread = getattr(source, "is_unused_weight", None)
    if unread is not None and all(file.endswith(".safetensors") for file in files):
        files = weight_utils.filter_safetensors_files_by_weight_name(files, unread)
    return folder, files
