# SPDX-License-Identifier: Apache-2.0
"""Stands in for the vendor's ``xspeedgate_ops``: importing it registers ``torch.ops`` of that name.

The schemas are the contract's, so torch's dispatcher checks each call as it would on a card. The
dispatcher hides which arguments came by name; so what is recorded is the call of the op's Python
handle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from support.other_forms import in_its_form
from support.vendor_calls import recorded
from support.vendor_contract import CONTRACT, Signature
from support.vendor_contract.signature import REQUIRED, Nothing, Parameter, Scalar, Tensor

from vllm_kunlun.emulator import xspeedgate_ops as _emulator

_library = torch.library.Library("xspeedgate_ops", "FRAGMENT")


def _schema(name: str, signature: Signature) -> str:
    written = (f"(a{number}!)" for number in range(len(signature.parameters)))
    arguments = [_argument(parameter, written) for parameter in signature.positional]
    if signature.named:
        arguments += ["*", *(_argument(parameter, written) for parameter in signature.named)]
    return f"{name}({', '.join(arguments)}) -> ({', '.join(signature.returns)})"


def _argument(parameter: Parameter, written: Any) -> str:
    if isinstance(parameter, Tensor):
        kind = "Tensor" + (next(written) if parameter.write != "in" else "")
    else:
        assert isinstance(parameter, (Scalar, Nothing))
        kind = parameter.kind if isinstance(parameter, Scalar) else "Tensor?"
    kind += "?" * (parameter.or_none and not kind.endswith("?"))
    default = "" if parameter.default is REQUIRED else f"={parameter.default}"
    return f"{kind} {parameter.name}{default}"


def _register(name: str, answer: Callable[..., Any]) -> None:
    function = f"xspeedgate_ops.{name}"
    signature = CONTRACT.get(function)
    if signature is None:  # there is no schema to register: the check reports such a call
        handle: Callable[..., Any] = answer
    else:
        _library.define(_schema(name, signature))
        _library.impl(name, answer, "CompositeExplicitAutograd")
        handle = getattr(torch.ops.xspeedgate_ops, name)
    setattr(torch.ops.xspeedgate_ops, name, recorded(function, handle))


for _name in _emulator.__all__:
    _register(_name, in_its_form(f"xspeedgate_ops.{_name}", getattr(_emulator, _name)))
