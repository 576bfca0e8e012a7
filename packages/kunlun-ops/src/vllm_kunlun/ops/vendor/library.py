# SPDX-License-Identifier: Apache-2.0
"""The two vendor libraries, or their emulation: chosen once per process."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import VendorLibraryError

__all__ = ["Libraries", "function", "libraries", "missing_symbols", "use_libraries"]


class Libraries(NamedTuple):
    """Objects whose attributes are the functions of each surface."""

    kunlun_ops: Any
    xspeedgate_ops: Any


_libraries: Libraries | None = None


def libraries() -> Libraries:
    """The vendor's libraries on a card (or with ``VLLM_KUNLUN_VENDOR=wheels``), else the emulator.

    Raises:
        VendorLibraryError: a vendor wheel is there but cannot be imported.
    """
    global _libraries
    if _libraries is None:
        _libraries = _vendor() if device.vendor_wheels_answer() else _emulated()
    return _libraries


def _vendor() -> Libraries:
    import torch

    imported = []
    # cocopod and xspeedgate_ops are imported for what they register.
    for name in ("cocopod", "kunlun_ops", "xspeedgate_ops"):
        try:
            imported.append(importlib.import_module(name))
        except (ImportError, OSError) as error:
            raise VendorLibraryError(
                f"the vendor library {name} cannot be imported ({error}). Reinstall the vendor's "
                "wheel for this Python and torch; `vllm-kunlun doctor` lists the versions."
            ) from error
    return Libraries(imported[1], torch.ops.xspeedgate_ops)


def _emulated() -> Libraries:
    from vllm_kunlun.ops.emulator import kunlun_ops, xspeedgate_ops

    return Libraries(kunlun_ops, xspeedgate_ops)


@contextlib.contextmanager
def use_libraries(*, kunlun_ops: Any = None, xspeedgate_ops: Any = None) -> Iterator[None]:
    """Run with other objects in place of one library or both, for tests."""
    global _libraries
    before = libraries()
    _libraries = Libraries(
        before.kunlun_ops if kunlun_ops is None else kunlun_ops,
        before.xspeedgate_ops if xspeedgate_ops is None else xspeedgate_ops,
    )
    try:
        yield
    finally:
        _libraries = before


def function(library: str, name: str) -> Callable[..., Any]:
    """One function of ``kunlun_ops`` or ``xspeedgate_ops``.

    Raises:
        VendorLibraryError: the installed library has no such function.
    """
    found = getattr(getattr(libraries(), library), name, None)
    if found is None:
        raise VendorLibraryError(
            f"the vendor library {library} {_version(library)} has no function {name!r}, which "
            "this model needs. Install a newer vendor wheel; `vllm-kunlun doctor` lists every "
            "function that it lacks."
        )
    return found  # type: ignore[no-any-return]


def missing_symbols() -> dict[str, list[str]]:
    """Library -> the functions we call that it lacks; empty lists where all is well."""
    emulated, present = _emulated(), libraries()
    return {
        library: [
            name
            for name in getattr(emulated, library).__all__
            if not hasattr(getattr(present, library), name)
        ]
        for library in Libraries._fields
    }


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "(of unknown version)"
