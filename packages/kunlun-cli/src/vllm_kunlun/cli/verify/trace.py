# SPDX-License-Identifier: Apache-2.0
"""What goes into each module of a model and what comes out, in the order of one forward pass."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Event", "record", "recorded_attention", "taken_rows"]


class Event(NamedTuple):
    """A module was entered (``input``) or left (``output``).

    Of attention also ``query``, ``key`` and ``value``, rotated, and ``attended``, what it returns.
    """

    module: str
    what: str
    tensors: tuple[Tensor, ...]
    """Float32 on the host, ``[tokens, numbers]`` wherever the shape allows it."""


def record(
    model: nn.Module,
    events: list[Event],
    tokens: int,
    attention: tuple[type[nn.Module], ...] = (),
) -> list[Any]:
    """Note every call of every module of ``model`` in ``events``, until the handles are removed.

    Args:
        tokens: how many tokens the pass reads.
        attention: classes that are called with query, key and value.
    """

    def entered(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        found = _tensors((*args, *kwargs.values()), tokens)
        if isinstance(module, attention):
            for what, tensor in zip(("query", "key", "value"), found, strict=False):
                events.append(Event(name, what, (tensor,)))
        else:
            events.append(Event(name, "input", found))

    def left(name: str, module: nn.Module, output: Any) -> None:
        what = "attended" if isinstance(module, attention) else "output"
        events.append(Event(name, what, _tensors((output,), tokens)))

    handles: list[Any] = []
    for name, module in model.named_modules():
        handles.append(
            module.register_forward_pre_hook(
                lambda module, args, kwargs, name=name: entered(name, module, args, kwargs),
                with_kwargs=True,
            )
        )
        handles.append(
            module.register_forward_hook(
                lambda module, _inputs, output, name=name: left(name, module, output)
            )
        )
    return handles


@contextlib.contextmanager
def recorded_attention(model: nn.Module, events: list[Event], tokens: int) -> Iterator[None]:
    """In this block, also note what the attention of one of transformers' models is called with.

    Its eager form is one function of the model's file; a model without it is left as it is.
    """
    names = {id(module): name for name, module in model.named_modules()}
    files = [sys.modules[name] for name in {type(each).__module__ for each in model.modules()}]
    kept = {file: vars(file)["eager_attention_forward"] for file in files
            if "eager_attention_forward" in vars(file)}  # fmt: skip

    def wrapped(compute: Callable[..., Any]) -> Callable[..., Any]:
        def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any,
                   **kwargs: Any) -> Any:  # fmt: skip
            name = names[id(module)]
            for what, tensor in (("query", query), ("key", key), ("value", value)):
                events.append(Event(name, what, _tensors((tensor.transpose(1, 2),), tokens)))
            result = compute(module, query, key, value, *args, **kwargs)
            events.append(Event(name, "attended", _tensors((result[0],), tokens)))
            return result

        return attend

    for file, compute in kept.items():
        setattr(file, "eager_attention_forward", wrapped(compute))  # noqa: B010 -- no attribute of a module's type
    try:
        yield
    finally:
        for file, compute in kept.items():
            setattr(file, "eager_attention_forward", compute)  # noqa: B010


def taken_rows(tensor: Tensor, tokens: int) -> Tensor:
    """``tensor`` as ``[tokens, numbers]``: without a batch of one, heads side by side, no padding.

    One that has no row for each token keeps its first dimension.
    """
    if tensor.dim() >= 3 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.dim() >= 3 and tensor.shape[0] != tokens and tensor.shape[1] == tokens:
        tensor = tensor.transpose(0, 1)
    if tensor.shape[0] > tokens and tensor.shape[0] % tokens:
        tensor = tensor[:tokens]
    if tensor.numel() % tokens:
        return tensor.reshape(tensor.shape[0], -1)
    return tensor.reshape(tokens, -1)


def _tensors(values: Iterable[Any], tokens: int) -> tuple[Tensor, ...]:
    import torch

    found: list[Tensor] = []
    for each in values:
        if isinstance(each, torch.Tensor):
            if each.is_floating_point() and each.dim() >= 2 and each.numel():
                kept = each.detach().to("cpu", torch.float32, copy=True)
                found.append(taken_rows(kept, tokens))
        elif isinstance(each, list | tuple):
            found += _tensors(each, tokens)
    return tuple(found)
