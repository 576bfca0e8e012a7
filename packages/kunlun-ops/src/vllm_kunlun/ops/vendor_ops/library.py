# SPDX-License-Identifier: Apache-2.0
"""The vendor's libraries, or their emulation: chosen once per process."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

import torch

from vllm_kunlun.ops.contract import findings, signatures
from vllm_kunlun.ops.contract.functions import called
from vllm_kunlun.platforms import device, emulator
from vllm_kunlun.platforms.errors import KunlunError, VendorLibraryError

__all__ = [
    "OPTIONAL",
    "Libraries",
    "call_form",
    "function",
    "has",
    "libraries",
    "is_optional",
    "missing_symbols",
    "use_libraries",
]

OPTIONAL = (
    "flash_attn",
    "xspeedgate_ops.get_masked_input_and_mask",
    "kunlun_ops.reshape_and_cache",
)
"""Libraries and functions that a card may lack: who calls them asks :func:`has`, or calls another
function unless a card finding says otherwise."""

logger = logging.getLogger("vllm.kunlun")


class Libraries(NamedTuple):
    """Objects whose attributes are the functions of each surface."""

    kunlun_ops: Any
    xspeedgate_ops: Any
    flash_attn: Any
    """None on a card where the package is not installed, or is not one for this card."""


_libraries: Libraries | None = None


def libraries() -> Libraries:
    """The vendor's libraries on a card (or with ``VLLM_KUNLUN_VENDOR=wheels``), else the emulator.

    Raises:
        VendorLibraryError: a vendor wheel is there but cannot be imported.
        UnsupportedError: ``VLLM_KUNLUN_CARD_FINDINGS`` names no report from a card.
    """
    global _libraries
    if _libraries is None:
        _libraries = _vendor() if device.vendor_wheels_answer() else _emulated()
    return _libraries


def _vendor() -> Libraries:
    findings.check_report()  # now, and not at the first call that has a finding
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
    try:
        flash_attn = importlib.import_module("flash_attn")
    except (ImportError, OSError):
        flash_attn = None
    found = Libraries(imported[1], torch.ops.xspeedgate_ops, flash_attn)
    if text := signatures.summary(signatures.compare(found)):
        logger.warning(
            "The installed vendor libraries take other arguments than this plugin passes, and a "
            "model that needs these functions will fail: %s. Install the vendor's wheels for this "
            "torch; `vllm-kunlun doctor` lists all.",
            text,
        )
    return found


def _emulated() -> Libraries:
    return Libraries(
        *(importlib.import_module(emulator.name_of(each)) for each in Libraries._fields)
    )


@contextlib.contextmanager
def use_libraries(**others: Any) -> Iterator[None]:
    """Run with other objects in place of some libraries, by their names, for tests."""
    global _libraries
    before = libraries()
    _libraries = before._replace(**others)
    try:
        yield
    finally:
        _libraries = before


def function(library: str, name: str) -> Callable[..., Any]:
    """One function of one of the :class:`Libraries`.

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


def call_form(finding: str, library: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a function in the form that was chosen for ``finding`` (``contract.findings``).

    Raises:
        VendorLibraryError: the library lacks the function, or refuses the form; the message names
            the command that finds the right one.
    """
    try:
        return function(library, name)(*args, **kwargs)
    except VendorLibraryError as error:
        raise findings.refused(finding, error) from error
    except (KunlunError, MemoryError, torch.OutOfMemoryError):
        raise  # no refusal of a form
    except Exception as error:
        raise findings.refused(finding, error) from error


def has(library: str, name: str) -> bool:
    """Whether the library is there and has the function."""
    return hasattr(getattr(libraries(), library), name)


def is_optional(function: str) -> bool:
    """Whether a card can do without "LIBRARY.NAME"."""
    return function in OPTIONAL or function.split(".", 1)[0] in OPTIONAL


def missing_symbols() -> dict[str, list[str]]:
    """Library -> the functions we call that it lacks; empty lists where all is well."""
    missing: dict[str, list[str]] = {library: [] for library in Libraries._fields}
    for each in called():
        library, _, name = each.name.partition(".")
        if not has(library, name):
            missing[library].append(name)
    return missing


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "(of unknown version)"
