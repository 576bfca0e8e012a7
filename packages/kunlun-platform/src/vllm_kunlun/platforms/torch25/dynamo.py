# SPDX-License-Identifier: Apache-2.0
"""Dynamo of torch 2.5 as vLLM calls it: what only a later Dynamo has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

from vllm_kunlun.platforms.ledger import patch_ledger

__all__ = [
    "call_class",
    "inline_call",
    "inline_call_",
    "with_parameter_classes",
    "without_guard_filter",
]


class _Call:
    """One call to be inlined, as the translator object that 2.7 makes for it: it has ``f_code``."""

    def __init__(self, parent: Any, func: Any, args: Any, kwargs: Any) -> None:
        self.arguments = (parent, func, args, kwargs)
        self.f_code = func.get_code()


def inline_call(cls: Any, parent: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """Inline a call by ``inline_call_``: ours takes four arguments, vLLM's in its place takes one.

    As the original, failures are counted as those of inlining.
    """
    from torch._dynamo.utils import counters

    inline = cls.inline_call_
    with mock.patch.dict(counters, {"unimplemented": counters["inline_call"]}):
        if inline is inline_call_:
            return inline(parent, func, args, kwargs)
        return inline(_Call(parent, func, args, kwargs))


def inline_call_(parent: Any, *rest: Any) -> Any:
    """The original, also for a :class:`_Call` alone: so vLLM's stand-in hands it on."""
    arguments = parent.arguments if isinstance(parent, _Call) else (parent, *rest)
    return patch_ledger.original("torch25-inlined-call")(*arguments)


def without_guard_filter(self: Any, backend: Any, mode: Any, options: Any, dynamic: Any) -> None:
    """Drop the option ``guard_filter_fn``, which is not the backend's. Every guard then stays."""
    kept = {name: value for name, value in (options or {}).items() if name != "guard_filter_fn"}
    patch_ledger.original("torch25-guard-filter")(self, backend, mode, kept, dynamic)


def call_class(self: Any, tx: Any, args: Any, kwargs: Any) -> Any:
    """Trace ``torch.Size(sequence)`` as a size; every other class as before."""
    sizes = self.value is torch.Size and len(args) == 1 and not kwargs
    if sizes and args[0].has_unpack_var_sequence(tx):
        from torch._dynamo.variables.lists import SizeVariable

        return SizeVariable(args[0].unpack_var_sequence(tx))
    return patch_ledger.original("torch25-size")(self, tx, args, kwargs)


@contextlib.contextmanager
def with_parameter_classes(vllm_config: Any) -> Iterator[None]:
    """What vLLM compiles in, with its classes of parameters traced as plain tensors.

    Their ``__torch_function__`` is that of ``torch.nn.Parameter``, which does nothing: 2.5 knows so
    of Parameter itself only.
    """
    from torch._dynamo.variables import torch as of_torch
    from vllm.model_executor import parameter

    classes = {
        each
        for each in vars(parameter).values()
        if isinstance(each, type) and issubclass(each, parameter.BasevLLMParameter)
    }
    with (
        patch_ledger.original("torch25-parameter-classes")(vllm_config),
        torch._dynamo.config.patch(traceable_tensor_subclasses=classes),
        mock.patch.object(of_torch, "can_dispatch_torch_function", lambda *_: False),
    ):
        yield
