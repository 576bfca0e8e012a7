# SPDX-License-Identifier: Apache-2.0
"""``load_weights`` that ends with a KeyError on a stage that has not all layers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Source, text

__all__ = ["RULE"]

_ASKED = re.compile(r"is_pp_missing_parameter|\bnot in \w*params|\bin \w*params_dict\b|"
                    r"params_dict\.get|KeyError|AutoWeightsLoader")  # fmt: skip


def check(source: Source) -> Iterator[Hit]:
    """Loops over weights in files whose layers are divided, that never ask what is here."""
    if not any(source.calls("make_layers")):
        return
    for function in source.of(cst.FunctionDef):
        if function.name.value != "load_weights" or not source.class_of(function):
            continue
        content = text(function)
        if "named_parameters" in content and not _ASKED.search(content):
            yield Hit(function.name, "a weight of another stage's layer is looked up")


RULE = Rule(
    name="pp-weights",
    finds="`load_weights` that never asks whether a parameter is on this stage",
    why="with --pipeline-parallel-size loading ends with a KeyError at the first layer of another "
    "stage",
    fix="if is_pp_missing_parameter(name, self): continue",
    check=check,
)
