# SPDX-License-Identifier: Apache-2.0
"""What an op declares, held against what one real call of it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["OpDeclarationError", "check_op"]


class OpDeclarationError(KunlunError):
    """An op does not do what its declaration says."""


def check_op(op: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Run ``op`` once on copies of the arguments and hold its declaration against the outcome.

    Checked: exactly the arguments of ``mutates_args`` are written; no result shares memory with an
    argument; the fake returns the shapes, dtypes, strides and devices of the real results; and
    what ``torch.library.opcheck`` tests (schema, autograd registration, fake, AOT dispatch).

    Args:
        op: what :func:`vllm_kunlun.ops.custom_op` returned.
        args, kwargs: of a typical call, such that every declared argument changes its value. They
            are not modified.

    Raises:
        OpDeclarationError: naming the op, the argument or result, and what to correct.
    """
    name = str(op._schema).split("(", 1)[0]  # type: ignore[attr-defined]
    args, kwargs = _copy((args, kwargs))
    called_args, called_kwargs = _copy((args, kwargs))
    returned = op(*called_args, **called_kwargs)
    _check_mutations(op, name, (args, kwargs), (called_args, called_kwargs))
    _check_aliases(name, returned, (called_args, called_kwargs))
    _check_fake(op, name, (args, kwargs), returned)
    try:
        torch.library.opcheck(op, args, kwargs)
    except Exception as error:
        raise OpDeclarationError(f"{name} fails torch's own check of ops: {error}") from error


def _copy(values: Any) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), values)


def _check_mutations(op: Any, name: str, before: Any, after: Any) -> None:
    for argument, old, new in _by_argument(op, before, after):
        written = argument.alias_info is not None and argument.alias_info.is_write
        pairs = zip(tree_leaves(old), tree_leaves(new), strict=True)
        changed = any(isinstance(a, Tensor) and not _same_bits(a, b) for a, b in pairs)
        if changed and not written:
            raise OpDeclarationError(
                f"{name} writes its argument {argument.name!r}, which mutates_args does not name. "
                "A compiled graph would reorder or drop the write: add it to mutates_args, or "
                "write a copy."
            )
        if written and not changed:
            raise OpDeclarationError(
                f"{name} declares in mutates_args that it writes {argument.name!r}, but this call "
                "left it as it was. Take it out of mutates_args (a compiled graph copies it for "
                "nothing), or check with arguments for which the op has something to write."
            )


def _by_argument(op: Any, before: Any, after: Any) -> Iterator[tuple[Any, Any, Any]]:
    (args, kwargs), (called_args, called_kwargs) = before, after
    for position, argument in enumerate(op._schema.arguments):
        if position < len(args):
            yield argument, args[position], called_args[position]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name], called_kwargs[argument.name]


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(
        a.contiguous().view(torch.uint8) if a.dim() else a.reshape(1).view(torch.uint8),
        b.contiguous().view(torch.uint8) if b.dim() else b.reshape(1).view(torch.uint8),
    )


def _check_aliases(name: str, returned: Any, arguments: Any) -> None:
    owners = {
        tensor.untyped_storage().data_ptr()
        for tensor in tree_leaves(arguments)
        if isinstance(tensor, Tensor) and tensor.numel()
    }
    for position, result in enumerate(tree_leaves(returned)):
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() in owners:
            raise OpDeclarationError(
                f"{name} returns as result {position} a view of one of its arguments, which an op "
                "may not: return a copy, or return nothing and name the argument in mutates_args."
            )


def _check_fake(op: Any, name: str, arguments: Any, returned: Any) -> None:
    with FakeTensorMode() as mode:
        args, kwargs = tree_map_only(Tensor, mode.from_tensor, arguments)
        try:
            faked = op(*args, **kwargs)
        except Exception as error:
            raise OpDeclarationError(
                f"the fake of {name} raises {type(error).__name__}: {error}. It gets tensors "
                "without values and may read shapes and dtypes only."
            ) from error
    real_results, fake_results = tree_leaves(returned), tree_leaves(faked)
    if len(real_results) != len(fake_results):
        raise OpDeclarationError(
            f"the fake of {name} returns {len(fake_results)} results, the op {len(real_results)}."
        )
    for position, (real, fake) in enumerate(zip(real_results, fake_results, strict=True)):
        if not isinstance(real, Tensor):
            continue
        for what in ("shape", "dtype", "device"):
            came, expected = getattr(fake, what), getattr(real, what)
            if came != expected:
                raise OpDeclarationError(
                    f"the fake of {name} gives result {position} the {what} {came}, the op "
                    f"{expected}: correct the fake."
                )
        if real.stride() != fake.stride() and real.numel():
            raise OpDeclarationError(
                f"the fake of {name} gives result {position} strides {fake.stride()}, the op "
                f"{real.stride()}: correct the fake, or return a contiguous tensor."
            )
