# SPDX-License-Identifier: Apache-2.0
"""The three pieces of a custom op (implementation, fake, registration), written once.

An op is a plain function over tensors and numbers plus a fake that gives the outputs' shapes.
:func:`custom_op` infers the schema from the annotations, registers both for every device and hands
back the ``torch.ops`` callable, so that there is one definition and no copy per dispatch key.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.library import Library

__all__ = ["NAMESPACE", "custom_op", "direct_register_custom_op", "register"]

NAMESPACE = "vllm_kunlun"

_libraries: dict[str, Library] = {}
_registered: dict[str, Callable[..., Any]] = {}


def custom_op(
    *,
    mutates_args: Sequence[str] = (),
    fake: Callable[..., Any] | None = None,
    name: str | None = None,
    namespace: str = NAMESPACE,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate an implementation to make it ``torch.ops.<namespace>.<name>``.

    The schema comes from the annotations: tensors, numbers, strings, ``list[T]``, ``T | None`` and
    tuples of tensors as the result, also on torch 2.5. What cannot be inferred (what is written,
    the shapes of what is returned) is declared, and :func:`vllm_kunlun.ops.check_op` holds the
    declaration against a real call: put one such call into a test of every op.

    Args:
        mutates_args: the arguments that the implementation writes; functionalisation and dead
            code elimination rely on the list being complete.
        fake: returns empty tensors of the right shape. It takes, under the same names, those of
            the op's arguments that it needs. An op that returns nothing needs none.
        name: the op's name; default the function's own.
        namespace: of ``torch.ops``; a wheel of your own takes a name of its own.

    Returns:
        The op. Calling it costs one dispatch; the implementation stays reachable as
        ``op.implementation``.

    Raises:
        ValueError: another function is already registered under the name, an argument named in
            ``mutates_args`` does not exist, or an op that returns a value has no fake.
    """

    def decorate(implementation: Callable[..., Any]) -> Callable[..., Any]:
        return register(
            name or implementation.__name__,
            implementation,
            mutates_args=mutates_args,
            fake=fake,
            namespace=namespace,
        )

    return decorate


def register(
    name: str,
    implementation: Callable[..., Any],
    *,
    mutates_args: Sequence[str] = (),
    fake: Callable[..., Any] | None = None,
    namespace: str = NAMESPACE,
) -> Callable[..., Any]:
    """Register one op; see :func:`custom_op`. Registering the same function again is a no-op.

    Raises: ValueError: as :func:`custom_op`.
    """
    qualified = f"{namespace}::{name}"
    if (known := _registered.get(qualified)) is not None:
        if _same_code(known, implementation):
            return _overload(namespace, name, implementation)
        raise ValueError(
            f"custom op {qualified} is already registered by {known.__module__}; "
            f"{implementation.__module__} must choose another name."
        )
    signature = _portable_signature(implementation)
    if unknown := set(mutates_args) - set(signature.parameters):
        raise ValueError(
            f"custom op {qualified}: mutates_args names {sorted(unknown)}, but the arguments are "
            f"{list(signature.parameters)}."
        )
    if fake is None and signature.return_annotation not in (None, type(None)):
        raise ValueError(
            f"custom op {qualified} returns {signature.return_annotation} and has no fake: pass "
            "fake=, a function that takes the arguments it needs and returns empty tensors."
        )
    schema = torch.library.infer_schema(
        _with_signature(implementation, signature), mutates_args=tuple(mutates_args)
    )
    library = _libraries.setdefault(namespace, Library(namespace, "FRAGMENT"))
    library.define(name + schema)
    library.impl(name, implementation, "CompositeExplicitAutograd")
    library._register_fake(name, _by_name(fake or _returns_nothing, signature))
    _registered[qualified] = implementation
    return _overload(namespace, name, implementation)


def direct_register_custom_op(
    op_name: str,
    op_func: Callable[..., Any],
    mutates_args: Sequence[str] = (),
    fake_impl: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Register ``torch.ops.vllm_kunlun.<op_name>``, called as vLLM's function of this name."""
    return register(op_name, op_func, mutates_args=mutates_args, fake=fake_impl)


def _overload(namespace: str, name: str, implementation: Callable[..., Any]) -> Callable[..., Any]:
    overload = getattr(getattr(torch.ops, namespace), name).default
    overload.implementation = implementation
    return typing.cast("Callable[..., Any]", overload)


def _returns_nothing() -> None:
    return None


def _by_name(fake: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """``fake``, given those arguments of an op of this signature that it names.

    One with names of its own gets all arguments, in the op's order.
    """
    wanted = inspect.signature(fake).parameters
    if not wanted.keys() <= signature.parameters.keys():
        return fake

    def called_as_the_op(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return fake(**{name: bound.arguments[name] for name in wanted})

    return called_as_the_op


def _same_code(known: Callable[..., Any], new: Callable[..., Any]) -> bool:
    return (known.__module__, known.__qualname__) == (new.__module__, new.__qualname__)


def _portable_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature with annotations that ``infer_schema`` of torch 2.5 also understands."""
    hints = typing.get_type_hints(function)
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_portable(hints.get(name, parameter.annotation)))
        for name, parameter in signature.parameters.items()
    ]
    return signature.replace(
        parameters=parameters, return_annotation=_portable(hints.get("return"))
    )


def _portable(annotation: Any) -> Any:
    """``list[T]`` as ``List[T]``, ``tuple[..]`` as ``Tuple[..]``, ``T | None`` as Optional."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_portable(each) for each in arguments)]  # noqa: UP007
    if origin in (list, Sequence):
        return typing.List[_portable(arguments[0])]  # type: ignore[misc]  # noqa: UP006
    if origin is tuple:
        return typing.Tuple[tuple(_portable(each) for each in arguments)]  # type: ignore[misc]  # noqa: UP006
    return None if annotation is type(None) else annotation


def _with_signature(
    function: Callable[..., Any], signature: inspect.Signature
) -> Callable[..., Any]:
    """A stand-in that shows ``signature``; only ``infer_schema`` ever looks at it."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    stand_in.__signature__ = signature  # type: ignore[attr-defined]
    stand_in.__name__ = function.__name__
    return stand_in
