# SPDX-License-Identifier: Apache-2.0
"""Mappings of fused weights that do not fit the modules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.installed import module_file
from vllm_kunlun.cli.lint.source import Source, argument, strings, text

__all__ = ["RULE"]

_ASSIGNED = re.compile(r"self\.(\w+)\s*(?:=|:|,)|add_module\(\s*[\"'](\w+)|^class (\w+)", re.M)
_LATER = ("init_vllm_registered_model", "language_model")
"""Words of a file whose model is chosen when it is served."""
_QKV = ("q", "k", "v")
_QKV_LAYER, _MERGED_LAYER = "QKVParallelLinear", "MergedColumnParallelLinear"
_ALIKE = 0.85
_MODELS = "vllm.model_executor.models"
_ABSOLUTE = re.compile(
    r"^ *from ((?:vllm\.model_executor|vllm_kunlun)\.models\.[\w.]+) import", re.M
)
_LAYERS = re.compile(r"^ *from (vllm\.model_executor\.layers\.[\w.]+) import", re.M)
_RELATIVE = re.compile(r"^ *from \.(\w+) import", re.M)


def check(source: Source) -> Iterator[Hit]:
    """``stacked_params_mapping`` and ``packed_modules_mapping`` against what classes assign."""
    for name, value in _assigned(source):
        if name == "stacked_params_mapping" and isinstance(value, cst.List):
            yield from _stacked(source, value)
        if name == "packed_modules_mapping" and isinstance(value, cst.Dict):
            for each in value.elements:
                if isinstance(each, cst.DictElement):
                    for key in strings(each.key):
                        if meant := _meant(source, key, set()):
                            yield Hit(each.key, f"there is no module {key}, but {meant}")


def _assigned(source: Source) -> Iterator[tuple[str, cst.BaseExpression]]:
    for node in source.of(cst.Assign):
        yield text(node.targets[0].target).rpartition(".")[2], node.value
    for one in source.of(cst.AnnAssign):
        if one.value is not None:
            yield text(one.target).rpartition(".")[2], one.value


def _stacked(source: Source, mapping: cst.List) -> Iterator[Hit]:
    parts: dict[str, list[tuple[str, cst.CSTNode]]] = {}
    for each in mapping.elements:
        row = each.value
        if isinstance(row, cst.Tuple) and len(row.elements) == 3:
            for name in strings(row.elements[0].value):
                shard = text(row.elements[2].value).strip("\"'")
                parts.setdefault(_last(name), []).append((shard, row))
    named = set(parts)
    for name, found in parts.items():
        ids = {shard for shard, _ in found}
        fused = _QKV_LAYER if ids & set(_QKV) else _MERGED_LAYER
        unmapped = {
            attribute
            for attribute in source.attributes
            if attribute not in named and _kinds(source, attribute) == {fused}
        }
        if meant := _meant(source, name, unmapped):
            yield Hit(found[0][1], f"there is no module {name}, but {meant}")
            continue
        if said := _wrong_parts(source, name, ids):
            yield Hit(found[0][1], said)


def _wrong_parts(source: Source, name: str, ids: set[str]) -> str | None:
    """What is wrong with the parts that a mapping fills of one layer."""
    kinds = _kinds(source, name)
    if kinds == {_QKV_LAYER} and not _without_queries(source, name):
        if strange := sorted(ids - set(_QKV)):
            return f"{name} is a {_QKV_LAYER}, which has no part {strange[0]}"
        lacks = [part for part in _QKV if part not in ids]
    elif kinds == {_MERGED_LAYER}:
        if strange := sorted(ids & set(_QKV)):
            return f"{name} counts its parts, and has no part {strange[0]}"
        if not all(each.isdecimal() for each in ids):
            return None  # several parts in one row, or a name for them
        numbers = {int(each) for each in ids}
        count = max(2, max(numbers) + 1)
        lacks = [str(n) for n in range(count) if n not in numbers]
    else:
        return None
    return f"nothing fills part {', '.join(lacks)} of {name}" if lacks else None


def _meant(source: Source, name: str, unmapped: set[str]) -> str | None:
    """The module that a name which no class has may stand for; None if there is none."""
    known = _names(source)
    if known is None or name in known:
        return None
    near = difflib.get_close_matches(name, known, 1, _ALIKE)
    return next(iter([*near, *sorted(unmapped)]), None)


def _kinds(source: Source, name: str) -> set[str]:
    """The classes of which the attribute is made."""
    values = source.attributes.get(name, [])
    return {
        source.qualified(value).rpartition(".")[2] if isinstance(value, cst.Call) else ""
        for _, value in values
    }


def _without_queries(source: Source, name: str) -> bool:
    """Whether the layer is made for keys and values alone, as cross attention does."""
    return any(
        isinstance(value, cst.Call) and text(argument(value, "total_num_heads")) == "0"
        for _, value in source.attributes[name]
    )


def _last(name: str) -> str:
    """The attribute in a row's first name, which may be a path, with dots at its ends."""
    parts = [each for each in name.split(".") if each and each not in ("weight", "bias")]
    return parts[-1] if parts else name


def _names(source: Source) -> frozenset[str] | None:
    """Attributes of the classes here and of the models imported; None where those are not found."""
    if any(word in source.content for word in _LATER):
        return None
    found = set(_read(source.content))
    for module in _LAYERS.findall(source.content):
        layers = module_file(module)
        if layers is not None and layers.suffix == ".py":
            found |= _read(layers.read_text(encoding="utf-8"))
    waiting = _models(source.content, source.file.as_posix())
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        file = module_file(module)
        if file is None or file.suffix != ".py":
            return None
        content = file.read_text(encoding="utf-8")
        found |= _read(content)
        waiting |= _models(content, file.as_posix())
    return frozenset(found)


def _read(content: str) -> set[str]:
    return {one or two or three for one, two, three in _ASSIGNED.findall(content)}


def _models(content: str, file: str) -> set[str]:
    """The model files that a file imports from; None can be said of a package of one's own."""
    found = set(_ABSOLUTE.findall(content))
    if "vllm/model_executor/models/" in file:
        return found | {f"{_MODELS}.{each}" for each in _RELATIVE.findall(content)}
    return found | {f"of.another.{each}" for each in _RELATIVE.findall(content)}


RULE = Rule(
    name="stacked-params",
    finds="`stacked_params_mapping` and `packed_modules_mapping` that do not fit the modules",
    why="a part of a fused layer keeps the random numbers it was made with, or loading ends with a "
    "KeyError",
    fix="name the attribute as the class assigns it, and each of its parts once: q, k, v of a "
    "QKVParallelLinear, 0, 1, ... of a MergedColumnParallelLinear",
    check=check,
)
