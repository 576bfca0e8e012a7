# SPDX-License-Identifier: Apache-2.0
"""Names that came to torch after 2.5 and that vLLM takes for granted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

__all__ = ["CustomGraphPass", "custom_graph_pass", "functorch_options", "wrap_triton"]


class CustomGraphPass(ABC):
    """What the passes of vLLM's compiler derive from; none of them runs on this platform."""

    @abstractmethod
    def __call__(self, graph: Any) -> None:
        """Change ``graph``."""

    @abstractmethod
    def uuid(self) -> Any:
        """What a cache of compiled graphs knows the pass by."""


def custom_graph_pass(_modules: object) -> dict[str, ModuleType]:
    """The module ``torch._inductor.custom_graph_pass``, which came with 2.6."""
    module = ModuleType("torch._inductor.custom_graph_pass")
    vars(module)["CustomGraphPass"] = CustomGraphPass
    return {module.__name__: module}


def functorch_options(_table: object) -> dict[str, bool]:
    """Options of functorch's configuration, off: 2.5 has no such caches, and never reads them."""
    return {"autograd_cache_normalize_inputs": False, "bundled_autograd_cache": False}


def wrap_triton(_names: object) -> dict[str, Any]:
    """``torch.library.wrap_triton`` under the name that 2.5 had for it, ``capture_triton``."""
    from torch._library.triton import capture_triton

    return {"wrap_triton": capture_triton}
