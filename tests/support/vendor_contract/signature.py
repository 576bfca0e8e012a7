# SPDX-License-Identifier: Apache-2.0
"""How the contract's call signatures are written down.

A shape is a row of sizes, ``"T KVH D"``. A name stands for one number throughout a call; the first
argument that shows it sets it. ``H*D`` and ``B+1`` are computed (one unknown factor of a product
is solved for), ``...`` is any number of leading sizes, ``|`` separates alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ANY_FLOAT",
    "FLOAT16",
    "FLOAT32",
    "HALF",
    "INT8",
    "INT32",
    "INT64",
    "MODEL",
    "REQUIRED",
    "SLOTS",
    "UINT8",
    "Dtypes",
    "Nothing",
    "Parameter",
    "Scalar",
    "Signature",
    "Tensor",
    "Tuple",
]

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()


@dataclass(frozen=True)
class Dtypes:
    """The dtypes an argument may have; with ``agree`` all such arguments of a call share one."""

    names: tuple[str, ...]
    agree: bool = False

    def __str__(self) -> str:
        return " or ".join(self.names)


MODEL = Dtypes(("float32", "float16", "bfloat16"), agree=True)
HALF = Dtypes(("float16", "bfloat16"), agree=True)
ANY_FLOAT = Dtypes(("float32", "float16", "bfloat16"))
FLOAT32 = Dtypes(("float32",))
FLOAT16 = Dtypes(("float16",))
INT8 = Dtypes(("int8",))
UINT8 = Dtypes(("uint8",))
INT32 = Dtypes(("int32",))
INT64 = Dtypes(("int64",))
SLOTS = Dtypes(("int64", "int32"))


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter: ``default`` is what stands for it where the caller leaves it out."""

    name: str = field(kw_only=False)
    default: Any = REQUIRED
    or_none: bool = False


@dataclass(frozen=True, kw_only=True)
class Tensor(Parameter):
    """A tensor.

    ``write``: ``in``, ``out`` (written) or ``inout``. ``layout``: ``contiguous``; ``pages`` (of a
    cache ``[blocks, a, b, c]``, where pages of another kind may lie between its own); or
    ``stride(0)`` (each row contiguous, the distance between rows free, or given by the scalar
    ``stride_from``). ``host_copy_of``: this one lies in host memory and holds the same values as
    that one on the device. ``same_as``: it is that very tensor.
    """

    dtypes: Dtypes = field(kw_only=False)
    shape: str = field(kw_only=False)
    write: str = "in"
    layout: str = "contiguous"
    stride_from: str | None = None
    host_copy_of: str | None = None
    same_as: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scalar(Parameter):
    """A ``bool``, ``int``, ``float`` or ``str``; ``size`` is the name that its value must equal."""

    kind: str = field(kw_only=False)
    size: str | None = None
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Nothing(Parameter):
    """A parameter that is None in every call that the contract knows."""


@dataclass(frozen=True, kw_only=True)
class Tuple(Parameter):
    """A tuple or list of tensors; an item is named ``name[i]`` in messages."""

    items: tuple[Tensor, ...] = field(kw_only=False)


@dataclass(frozen=True)
class Signature:
    """One function of the vendor.

    ``positional`` go by position in this order, ``named`` by name; ``either`` names those of
    ``positional`` that the contract shows both ways. Groups in ``together`` are passed whole or not
    at all. ``most`` bounds a size. ``returns`` are the types of the results.
    """

    function: str
    section: str
    positional: tuple[Parameter, ...] = ()
    named: tuple[Parameter, ...] = ()
    either: tuple[str, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    most: tuple[tuple[str, int], ...] = ()
    returns: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self.positional + self.named

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the signature, items of tuples by their own names."""
        found = {}
        for parameter in self.parameters:
            if isinstance(parameter, Tensor):
                found[parameter.name] = parameter
            elif isinstance(parameter, Tuple):
                found |= {item.name: item for item in parameter.items}
        return found
