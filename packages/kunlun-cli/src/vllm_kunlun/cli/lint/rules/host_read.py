# SPDX-License-Identifier: Apache-2.0
"""Values that a step reads on the host."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.source import Class, Source, text

__all__ = ["RULE"]

_READS = ("item", "cpu", "tolist", "numpy")
_ENCODER = re.compile(
    r"Vi[ts]|Visual|Image|Audio|Encoder|Patch|Resampler|Project|Merger|Tower|Connector|Whisper"
    r"|Siglip|Clip|Video|Embedder|Conformer|ForConditionalGeneration|Processor|Pool|Vit"
)
_LAYERS = ("Attention", "RMSNorm", "LayerNorm", "Linear", "FusedMoE", "Embedding", "AndMul",
           "MLP")  # fmt: skip
_START = ("forward", "forward_native", "forward_cuda", "forward_oot", "compute_logits")


def check(source: Source) -> Iterator[Hit]:
    """Reads in methods that a language model's forward goes through."""
    if not any(f".{name}(" in source.content for name in _READS):
        return
    for one in source.classes.values():
        if _ENCODER.search(one.name) or not _is_of_a_step(source, one):
            continue
        for function in _reached(source, one):
            for call in source.inside(function, cst.Call):
                if (
                    isinstance(call.func, cst.Attribute)
                    and call.func.attr.value in _READS
                    and not call.args
                    and not source.is_guarded(call)
                ):
                    yield Hit(call.func, f"{text(call.func)}() in {one.name}.{function.name.value}")


def _is_of_a_step(source: Source, one: Class) -> bool:
    if not any(name in one.methods for name in _START):
        return False
    if any("support_torch_compile" in name for name in one.decorators):
        return True
    return any(
        owner is one and source.qualified(value).endswith(_LAYERS)
        for values in source.attributes.values()
        for owner, value in values
    )


def _reached(source: Source, one: Class) -> list[cst.FunctionDef]:
    """Methods that ``forward`` calls, and those that they call."""
    waiting = [one.methods[name] for name in _START if name in one.methods]
    found: list[cst.FunctionDef] = []
    while waiting:
        function = waiting.pop()
        if any(function is each for each in found):
            continue
        found.append(function)
        for call in source.inside(function, cst.Call):
            name = text(call.func)
            if name.startswith("self.") and name[5:] in one.methods:
                waiting.append(one.methods[name[5:]])
    return found


RULE = Rule(
    name="host-read",
    finds="`.item()`, `.cpu()`, `.tolist()` or `.numpy()` on the path of a step",
    why="the host waits for the card at each step, and it cannot be captured in a graph",
    fix="keep the value on the card, or work it out once, before the step, in the metadata",
    check=check,
)
