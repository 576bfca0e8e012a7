# SPDX-License-Identifier: Apache-2.0
"""Classes of transformers, which vLLM changes where it serves a model by transformers' class."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["kept"]


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Give each class of transformers its own methods back, so that it still can judge.

    An engine of 0.33 decorates the class of the decoder for ``torch.compile``, in place; without
    an engine around, such a class is neither made nor called.
    """
    from torch._dynamo import convert_frame
    from vllm.compilation import decorators

    decorate = decorators._support_torch_compile
    before: dict[type, tuple[tuple[type, ...], dict[str, Any]]] = {}

    def noting(cls: type, *arguments: Any, **options: Any) -> Any:
        if cls.__module__.startswith("transformers."):
            before.setdefault(cls, (cls.__bases__, dict(vars(cls))))
        return decorate(cls, *arguments, **options)

    decorators._support_torch_compile = noting
    try:
        yield
    finally:
        decorators._support_torch_compile = decorate
        if before:  # each of vLLM's looks up what its class has no more
            convert_frame._bytecode_hooks.clear()
        for cls, (bases, own) in before.items():
            cls.__bases__ = bases
            for name in vars(cls).keys() - own.keys():
                delattr(cls, name)
            for name, value in own.items():
                if vars(cls)[name] is not value:
                    setattr(cls, name, value)
