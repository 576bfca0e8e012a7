# SPDX-License-Identifier: Apache-2.0
"""Models that cannot take what the stage before hands over."""

from __future__ import annotations

from collections.abc import Iterator

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.rules.pp_layers import embedding_classes
from vllm_kunlun.cli.lint.source import Source

__all__ = ["RULE"]

_HELPER = "make_empty_intermediate_tensors"


def check(source: Source) -> Iterator[Hit]:
    """Classes that divide their layers, in files that never make the tensors between stages."""
    if _HELPER in source.content:
        return
    embeds = embedding_classes(source)
    seen: set[str] = set()
    for call in source.calls("make_layers"):
        owner = source.class_of(call)
        if owner is not None and owner.name in embeds - seen and owner.is_module:
            seen.add(owner.name)
            yield Hit(call.func, f"{owner.name} has no {_HELPER}")


RULE = Rule(
    name="pp-tensors",
    finds="layers made by `make_layers` without `make_empty_intermediate_tensors`",
    why="with --pipeline-parallel-size the later stages have nothing to receive into",
    fix="self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory("
    '["hidden_states", "residual"], hidden_size)',
    check=check,
)
