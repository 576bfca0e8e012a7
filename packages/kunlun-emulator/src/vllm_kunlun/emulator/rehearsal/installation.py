# SPDX-License-Identifier: Apache-2.0
"""Puts the rehearsal in place: once for the process, and in each thread that meets the device."""

from __future__ import annotations

import functools
import threading

from vllm_kunlun.emulator.rehearsal import facade, vendor, watch
from vllm_kunlun.emulator.rehearsal.devices import OnHost
from vllm_kunlun.ops.vendor_ops import library

__all__ = ["install", "install_in_thread"]

_here = threading.local()


@functools.cache
def install() -> None:
    """Put the façade in place, and watch the main thread and the vendor's functions."""
    facade.install()
    watch.keep_implementations()
    install_in_thread()
    watched = {
        name: vendor.Watched(each) for name, each in library.libraries()._asdict().items()
    }
    install.libraries = library.use_libraries(**watched)  # type: ignore[attr-defined]
    install.libraries.__enter__()  # type: ignore[attr-defined]


def install_in_thread() -> None:
    """Watch this thread, if it is not watched yet: torch keeps modes apart by thread."""
    if not hasattr(_here, "modes"):
        _here.modes = (OnHost(), watch.Watch())  # torch does not keep what is entered
        for mode in _here.modes:
            mode.__enter__()
