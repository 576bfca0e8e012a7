# SPDX-License-Identifier: Apache-2.0
"""Models whose layers cannot be divided among stages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source, text

__all__ = ["RULE", "embedding_classes"]

_COUNT = re.compile(r"num_(hidden_)?layers|n_layers?|decoder_layers")


def check(source: Source) -> Iterator[Hit]:
    """A list of all layers in a class that also embeds the words."""
    if "draft_model_config" in source.content:
        return  # a drafting model, which is on the last stage as a whole
    embeds = embedding_classes(source)
    for values in source.attributes.values():
        for owner, value in values:
            if owner.name not in embeds or not isinstance(value, cst.Call):
                continue
            if not source.qualified(value).endswith("nn.ModuleList") or not value.args:
                continue
            made = value.args[0].value
            if isinstance(made, cst.ListComp | cst.GeneratorExp) and _COUNT.search(
                text(made.for_in.iter)
            ):
                yield Hit(value.func, f"{owner.name} makes all layers itself")


def embedding_classes(source: Source) -> set[str]:
    """Names of the classes that embed the words."""
    return {
        owner.name
        for values in source.attributes.values()
        for owner, value in values
        if source.qualified(value).endswith("VocabParallelEmbedding")
    }


RULE = Rule(
    name="pp-layers",
    finds="layers in an `nn.ModuleList` where `make_layers` would divide them",
    why="each stage of --pipeline-parallel-size makes and loads every layer, or the model is "
    "refused there",
    fix="self.start_layer, self.end_layer, self.layers = make_layers(count, make, prefix)",
    check=check,
)
