# SPDX-License-Identifier: Apache-2.0
"""The card's own path over host memory: vLLM's GPU worker, captured graphs, a step ahead."""

from __future__ import annotations

__all__ = ["install"]


def install() -> None:
    """Put what stands for the vendor's torch in place, for the life of the process. Re-entrant."""
    from vllm_kunlun.emulator.rehearsal import devices, facade, graphs
    from vllm_kunlun.ops.vendor_ops import library

    if getattr(install, "done", False):
        return
    install.done = True  # type: ignore[attr-defined]
    facade.install()
    devices.OnHost().__enter__()
    install.libraries = library.use_libraries(**{  # type: ignore[attr-defined]
        each: graphs.Recorded(getattr(library._emulated(), each)) for each in library.Libraries._fields
    })
    install.libraries.__enter__()
