# SPDX-License-Identifier: Apache-2.0
"""Holds recorded calls against the contract's signatures; violations in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .binding import bind
from .signature import Nothing, Parameter, Scalar, Signature, Tensor
from .sizes import Sizes

__all__ = ["Violation", "check"]

Problem = tuple[str, str, str]


@dataclass(frozen=True)
class Violation:
    """What one function was sent and what the contract wants, in every call that did so."""

    function: str
    argument: str
    sent: str
    wanted: str
    section: str

    def __str__(self) -> str:
        return (
            f"{self.function}: argument {self.argument!r} was sent {self.sent}; the contract "
            f"(section {self.section}) wants {self.wanted}"
        )


def check(
    calls: Iterable[Mapping[str, Any]], contract: Mapping[str, Signature]
) -> dict[Violation, int]:
    """Every violation in ``calls`` (as :mod:`support.vendor_calls` records them), with its count.

    Held: that the function exists; each argument's name, order and way of passing; its type, dtype
    and shape, also against the other arguments'; contiguity; that host and device copies hold equal
    values; and, where the device is not the host, that each lies where it should.
    """
    found: dict[Violation, int] = {}
    for call in calls:
        function = call["function"]
        signature = contract.get(function)
        if signature is None:
            problems: Iterable[Problem] = [
                ("(the function)", "a call", "no such function: it is not in the contract")
            ]
            section = "all"
        else:
            problems, section = _problems(signature, call), signature.section
        for argument, sent, wanted in problems:
            violation = Violation(function, argument, sent, wanted, section)
            found[violation] = found.get(violation, 0) + 1
    return found


def _problems(signature: Signature, call: Mapping[str, Any]) -> Iterator[Problem]:
    bound = bind(signature, call["args"], call["kwargs"])
    yield from bound.problems
    values = bound.values
    sizes = Sizes()
    for parameter in signature.parameters:
        if isinstance(parameter, (Scalar, Nothing)) and parameter.name in values:
            yield from _scalar(parameter, values[parameter.name], sizes)
    tensors: dict[Tensor, dict[str, Any]] = {}
    for name, parameter in signature.tensors().items():
        if name not in values:
            continue
        problem = _kind(parameter, values[name])
        if problem:
            yield problem
        elif values[name]["type"] == "Tensor":
            tensors[parameter] = values[name]
    yield from _dtypes(tensors)
    yield from _shapes(tensors, sizes)
    for name, largest in signature.most:
        if sizes.known.get(name, 0) > largest:
            yield (f"(size {name})", str(sizes.known[name]), f"at most {largest}")
    for parameter, value in tensors.items():
        yield from _layout(parameter, value, values)
    yield from _copies(tensors, values, call["equal"])
    yield from _devices(tensors)


def _describe(value: Mapping[str, Any]) -> str:
    if value["type"] == "Tensor":
        return f"{value['dtype']} {value['shape']} with strides {value['stride']}"
    if value["type"] == "NoneType":
        return "None"
    return f"{value['type']} {value.get('value', '')}".strip()


def _scalar(parameter: Parameter, value: Mapping[str, Any], sizes: Sizes) -> Iterator[Problem]:
    if value["type"] == "NoneType":
        if isinstance(parameter, Scalar) and not parameter.or_none:
            yield parameter.name, "None", f"a number or text of type {parameter.kind}"
        return
    if isinstance(parameter, Nothing):
        yield parameter.name, _describe(value), "None"
        return
    assert isinstance(parameter, Scalar)
    if value["type"] != parameter.kind:
        yield parameter.name, _describe(value), f"a value of type {parameter.kind}"
    elif parameter.values and value["value"] not in parameter.values:
        yield parameter.name, _describe(value), " or ".join(map(repr, parameter.values))
    elif parameter.size and not sizes.equal(parameter.name, parameter.size, value["value"]):
        known = sizes.explain(parameter.size)
        yield parameter.name, _describe(value), f"{parameter.size} ({known})"


def _kind(parameter: Tensor, value: Mapping[str, Any]) -> Problem | None:
    if value["type"] == "Tensor":
        if value["dtype"] in parameter.dtypes.names:
            return None
        return parameter.name, value["dtype"], f"dtype {parameter.dtypes}"
    if value["type"] == "NoneType" and (parameter.or_none or parameter.default is None):
        return None
    return parameter.name, _describe(value), "a tensor" + " or None" * parameter.or_none


def _dtypes(tensors: Mapping[Tensor, Mapping[str, Any]]) -> Iterator[Problem]:
    first: dict[tuple[str, ...], tuple[str, str]] = {}
    for parameter, value in tensors.items():
        if not parameter.dtypes.agree:
            continue
        name, dtype = first.setdefault(parameter.dtypes.names, (parameter.name, value["dtype"]))
        if value["dtype"] != dtype:
            yield parameter.name, value["dtype"], f"{dtype}, the dtype of {name!r}"


def _shapes(tensors: Mapping[Tensor, Mapping[str, Any]], sizes: Sizes) -> Iterator[Problem]:
    # One shape before a choice of shapes, and twice: computed sizes may wait for later arguments.
    ordered = sorted(tensors.items(), key=lambda item: item[0].shape.count("|"))
    refused = set()
    for parameter, value in [*ordered, *ordered]:
        patterns = parameter.shape.split("|")
        if parameter.name in refused or any(
            sizes.match(parameter.name, pattern, value["shape"]) for pattern in patterns
        ):
            continue
        refused.add(parameter.name)
        wanted = " or ".join(f"[{', '.join(pattern.split())}]" for pattern in patterns)
        known = sizes.explain(parameter.shape)
        yield parameter.name, f"the shape {value['shape']}", wanted + f" ({known})" * bool(known)


def _layout(
    parameter: Tensor, value: Mapping[str, Any], values: Mapping[str, Any]
) -> Iterator[Problem]:
    given = values.get(parameter.stride_from or "")
    if given and value["shape"][0] > 1 and given["value"] != value["stride"][0]:
        yield (parameter.stride_from or "", str(given["value"]),
               f"{value['stride'][0]}, stride(0) of {parameter.name!r}")  # fmt: skip
    if value["contiguous"]:
        return
    strides = f"strides {value['stride']} for shape {value['shape']}"
    if parameter.layout == "stride(0)":
        if not _rows_are_contiguous(value):
            yield parameter.name, strides, "rows that are contiguous, at any distance"
    elif parameter.layout == "pages" and len(value["shape"]) == 4:
        page = value["shape"][1] * value["shape"][2] * value["shape"][3]
        if not _rows_are_contiguous(value) or value["stride"][0] != 2 * page:
            yield parameter.name, strides, "packed pages, or every second one of packed pages"
    else:
        yield parameter.name, strides, "a contiguous tensor"


def _rows_are_contiguous(value: Mapping[str, Any]) -> bool:
    expected = 1
    for size, stride in zip(value["shape"][:0:-1], value["stride"][:0:-1], strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _copies(
    tensors: Mapping[Tensor, Mapping[str, Any]],
    values: Mapping[str, Any],
    equal: Mapping[str, bool | None],
) -> Iterator[Problem]:
    for parameter, value in tensors.items():
        device = parameter.host_copy_of
        if device in values and equal.get(parameter.name) is False:
            yield parameter.name, f"other values than {device!r}", "a host copy of equal values"
        same = values.get(parameter.same_as or "")
        if same and (same.get("address"), same.get("stride")) != (
            value["address"], value["stride"],
        ):  # fmt: skip
            yield parameter.name, "another tensor", f"the very tensor of {parameter.same_as!r}"


def _devices(tensors: Mapping[Tensor, Mapping[str, Any]]) -> Iterator[Problem]:
    """Without a card everything lies in host memory, and nothing can be said."""
    host = {parameter for parameter in tensors if _on_host(parameter)}
    devices = {value["device"] for parameter, value in tensors.items() if parameter not in host}
    if devices <= {"cpu"} and all(tensors[parameter]["device"] == "cpu" for parameter in host):
        return
    for parameter, value in tensors.items():
        if (value["device"] == "cpu") != (parameter in host):
            where = "in host memory" if parameter in host else "on the device"
            yield parameter.name, f"a tensor on {value['device']}", f"it {where}"


def _on_host(parameter: Tensor) -> bool:
    return parameter.host_copy_of is not None or parameter.name.endswith("_cpu")
