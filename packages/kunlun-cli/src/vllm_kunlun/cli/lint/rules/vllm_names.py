# SPDX-License-Identifier: Apache-2.0
"""Names that are imported from vLLM or from this project, and are not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libcst as cst

from vllm_kunlun.cli.lint.finding import Change, Hit, Rule
from vllm_kunlun.cli.lint.installed import defines, folders, module_file, of_same_wheel
from vllm_kunlun.cli.lint.source import Source

__all__ = ["RULE"]

_PACKAGES = ("vllm", "vllm_kunlun")
_MOVED = {
    "vllm.attention.Attention": "vllm_kunlun.ops.attention.layer",
    "vllm.attention.AttentionType": "vllm.v1.attention.backend",
    "vllm.attention.layer.Attention": "vllm_kunlun.ops.attention.layer",
    "vllm.attention.layers.encoder_only_attention.EncoderOnlyAttention": (
        "vllm.model_executor.layers.attention.encoder_only_attention"
    ),
    "vllm.sampling_metadata.SamplingMetadata": "vllm.v1.sample.metadata",
    "vllm.utils.cdiv": "vllm.utils.math_utils",
    "vllm.utils.direct_register_custom_op": "vllm.utils.torch_utils",
}
"""Name that older code imports -> the module that has it with each tested vLLM."""


def check(source: Source) -> Iterator[Hit]:
    """Imports from installed packages, held against the files of the packages."""
    for node in source.of(cst.ImportFrom):
        module = source.module_of(node)
        package = module.partition(".")[0]
        if (
            package not in _PACKAGES
            or not folders(package)
            or isinstance(node.names, cst.ImportStar)
            or source.is_guarded(node)
        ):
            continue
        file = module_file(module) or of_same_wheel(source.file, module)
        for alias in node.names:
            name = alias.evaluated_name
            missing = file is None or _lacks(file, module, name)
            if missing:
                place = _MOVED.get(f"{module}.{name}")
                what = f"{module} has no {name}" if file else f"there is no module {module}"
                yield Hit(
                    node,
                    f"{what}{f'; it is in {place}' if place else ''}",
                    (_moved(node, place),) if place and len(node.names) == 1 else (),
                )


def _lacks(file: Path, module: str, name: str) -> bool:
    if module_file(f"{module}.{name}") is not None:
        return False
    names = frozenset() if file.is_dir() else defines(file)
    return names is not None and name not in names


def _moved(node: cst.ImportFrom, place: str) -> Change:
    module = cst.parse_expression(place)
    assert isinstance(module, cst.Attribute)
    return Change(node, node.with_changes(module=module))


RULE = Rule(
    name="vllm-names",
    finds="imports of names that the installed vLLM or this project does not have",
    why="the module fails to import, so a model fails that vLLM's own class might have served",
    fix="import it from where each tested vLLM has it",
    check=check,
    mends=True,
)
