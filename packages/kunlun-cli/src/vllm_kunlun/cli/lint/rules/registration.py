# SPDX-License-Identifier: Apache-2.0
"""Where a file says which class serves which architecture."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.source import Source, argument

__all__ = ["registrations"]


def registrations(source: Source) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """Name and class of each: ``ModelRegistry.register_model`` and ``ModelFamily``."""
    for call in source.calls("register_model"):
        if not source.qualified(call.func).endswith("ModelRegistry.register_model"):
            continue
        name, model = argument(call, "model_arch", 0), argument(call, "model_cls", 1)
        if name is not None and model is not None:
            yield name, model
    for call in source.calls("ModelFamily"):
        for part in ("architectures", "drafts"):
            table = argument(call, part)
            if isinstance(table, cst.Dict):
                for each in table.elements:
                    if isinstance(each, cst.DictElement):
                        yield each.key, each.value
