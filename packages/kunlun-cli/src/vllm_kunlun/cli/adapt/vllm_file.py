# SPDX-License-Identifier: Apache-2.0
"""A vLLM model file in a wheel: what the manual would replace in it, and what has to be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from vllm_kunlun.cli.adapt.adapting import Adapted, tiny_config
from vllm_kunlun.cli.adapt.naming import name_of
from vllm_kunlun.cli.adapt.wheel import Wheel
from vllm_kunlun.platforms.errors import MissingWheelError, UnsupportedError
from vllm_kunlun.platforms.families import family_for

if find_spec("libcst") is None:
    raise MissingWheelError(
        "a model file is read with libcst, which is not installed: run "
        "pip install 'kunlun-cli[lint]'."
    )

import libcst as cst

from vllm_kunlun.cli.lint import registry, run
from vllm_kunlun.cli.lint.source import Source

__all__ = ["absolute", "from_file", "manual"]

_HOME = "vllm.model_executor.models"
"""Where vLLM's own model files stand, which their relative imports begin from."""

_PLATFORM = "the platform names the attention behind vLLM's layer"
_BY_CLASS = "the platform puts its own class in the place of vLLM's when the layer is made"
_MANUAL = {
    "Attention": ("vllm_kunlun.ops.attention.layer", _PLATFORM),
    "SiluAndMul": ("vllm_kunlun.ops.activation", _BY_CLASS),
    "GeluAndMul": ("vllm_kunlun.ops.activation", _BY_CLASS),
    "QuickGELU": ("vllm_kunlun.ops.activation", _BY_CLASS),
    "VocabParallelEmbedding": ("vllm_kunlun.ops.vocab_parallel_embedding", _BY_CLASS),
    "ParallelLMHead": ("vllm_kunlun.ops.vocab_parallel_embedding", _BY_CLASS),
    "get_rope": (
        "vllm_kunlun.ops.rotary_embedding",
        "the rotary layers that it makes are replaced by class",
    ),
    "FusedMoE": ("an import hook", "the method that computes its experts is replaced by class"),
}
"""Name -> where the manual's table takes it from, and why an edit is not needed here."""


def from_file(path: Path, name: str | None, architecture: str | None) -> Adapted:
    """The wheel around a vLLM model file; comments and format are kept.

    Args:
        architecture: the class to register, where the file has several.

    Raises:
        UnsupportedError: there is no such file, it is not Python, or has no such class.
    """
    if not path.is_file():
        raise UnsupportedError(f"FILE {path} is not there: correct the path.")
    text = path.read_text(encoding="utf-8")
    try:
        module = cst.parse_module(text)
    except cst.ParserSyntaxError as error:
        raise UnsupportedError(f"FILE {path} is not Python: {error.message}.") from error
    chosen = _chosen(module, path, architecture)
    said = [
        f"line {line}: {each} stays as it is, where the manual takes it from {_MANUAL[each][0]}: "
        f"{_MANUAL[each][1]}"
        for line, each in manual(text)
    ]
    new, count = absolute(text)
    if count:
        said.append(f"{count} relative imports are written in full: the file stands elsewhere now")
    known = [rule.name for rule in registry.RULES]
    new, mended = run.mend_text(path, new, registry.RULES, known)
    if mended:
        said.append(f"{mended} findings of `vllm-kunlun lint` are mended")
    if (family := family_for(chosen)) is not None:
        said.append(f"{family.distribution} has {chosen}, too: uninstall one of the two wheels")
    if not said:
        said = ["nothing in it is what the manual replaces"]
    todo = [
        f"line {each.line}: {each.message} ({each.rule}); {each.fix}"
        for each in run.lint_text(path, new, registry.RULES, known)
    ]
    name = name or name_of(chosen)
    file = path.name if path.stem not in ("family", "plugin", "__init__") else f"{path.stem}_.py"
    wheel = Wheel(
        name, chosen, "FusedMoE" in text, file, new, chosen, f"taken from {path.name}",
        tiny_config(None, chosen),
    )  # fmt: skip
    return Adapted(wheel, "file", said, todo)


def manual(text: str) -> list[tuple[int, str]]:
    """Line and name of each import that the manual's table replaces."""
    source = Source(Path("model.py"), text)
    return sorted(
        (source.place(node).start.line, alias.evaluated_name)
        for node in source.of(cst.ImportFrom)
        if not isinstance(node.names, cst.ImportStar)
        and source.module_of(node).startswith(("vllm.", "."))
        for alias in node.names
        if alias.evaluated_name in _MANUAL
    )


def absolute(text: str) -> tuple[str, int]:
    """``text`` with relative imports written from vLLM's folder of models, and how many."""
    change = _Absolute()
    return cst.parse_module(text).visit(change).code, change.count


class _Absolute(cst.CSTTransformer):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom:
        if not updated_node.relative:
            return updated_node
        home = _HOME.split(".")
        parts = home[: len(home) - len(updated_node.relative) + 1]
        if updated_node.module is not None:
            parts.append(cst.Module([]).code_for_node(updated_node.module))
        self.count += 1
        module = cst.parse_expression(".".join(parts))
        assert isinstance(module, cst.Attribute | cst.Name)
        return updated_node.with_changes(relative=[], module=module)


def _chosen(module: cst.Module, path: Path, asked: str | None) -> str:
    found = list(_models(module))
    if asked is not None:
        if asked not in found:
            raise UnsupportedError(
                f"--architecture {asked}: {path} has {', '.join(found) or 'no model class'}."
            )
        return asked
    if len(found) != 1:
        raise UnsupportedError(
            f"FILE {path} has {', '.join(found) or 'no class whose name says ForCausalLM'}: name "
            "the class to register with --architecture."
        )
    return found[0]


def _models(module: cst.Module) -> Iterator[str]:
    for each in module.body:
        if isinstance(each, cst.ClassDef) and re.search(
            r"For(CausalLM|ConditionalGeneration)$|LMHeadModel$", each.name.value
        ):
            yield each.name.value
