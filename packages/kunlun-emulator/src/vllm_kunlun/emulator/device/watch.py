# SPDX-License-Identifier: Apache-2.0
"""What torch is asked to do while something runs: which memory it writes, and whether it works."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vllm_kunlun.emulator.replay import Recording

__all__ = ["Watch", "storage_of", "storages", "strided", "written_by"]

_TAKE_MEMORY = {
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
}
_COPY_FIRST = {"aten::clone", "aten::contiguous", "aten::to"}
"""What they give is the first argument, maybe in another dtype."""


def storage_of(tensor: torch.Tensor) -> int:
    """The address of a tensor's storage."""
    return tensor.untyped_storage().data_ptr()


def strided(values: Any) -> Iterator[torch.Tensor]:
    """The strided tensors in a nest of containers."""
    for each in tree_leaves(values):
        if isinstance(each, torch.Tensor) and each.layout == torch.strided:
            yield each


def storages(values: Any) -> set[int]:
    """The addresses of their storages."""
    return {storage_of(each) for each in strided(values)}


def written_by(
    schema: torch.FunctionSchema, arguments: Any, keywords: Any
) -> Iterator[torch.Tensor]:
    """The arguments that an op says it writes to."""
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = arguments[place] if place < len(arguments) else keywords.get(argument.name)
            yield from strided(given)


class Watch(TorchDispatchMode):
    """Which memory torch is asked to write, and whether it is asked for more than views.

    Args:
        recording: that of the same time. What torch does for what it keeps does not count.
        with_copies: copies do not count as work, but become calls of the recording.
    """

    def __init__(self, recording: Recording, with_copies: bool = False) -> None:
        super().__init__()
        self._recording, self._with_copies = recording, with_copies
        self.written: set[int] = set()
        self.does_work = self.is_dynamic = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        self.written |= storages(list(written_by(func._schema, args, keywords)))
        result = func(*args, **keywords)
        if not self._recording.is_making:
            given, new = map(storages, ((args, keywords), result))
            # In inference mode torch shows ``contiguous`` as it is called, a view or a copy.
            is_free = func._schema.name in _TAKE_MEMORY or (_is_view(func._schema) and new <= given)
            if not is_free and not (self._with_copies and self._copies(func, args, result)):
                self.does_work = True
            self.is_dynamic |= torch.Tag.dynamic_output_shape in func.tags
        return result

    def _copies(self, func: Any, args: Any, result: Any) -> bool:
        """Whether it was a copy; then it is one of the recording's calls."""
        if func._schema.name == "aten::copy_":
            target, source = args[:2]
        elif func._schema.name in _COPY_FIRST:
            target, source = result, args[0]
        else:
            return False
        self._recording.calls.append(partial(target.copy_, source))
        return True


def _is_view(schema: torch.FunctionSchema) -> bool:
    aliases = [each.alias_info for each in schema.returns]
    return bool(aliases) and all(each is not None and not each.is_write for each in aliases)
