# SPDX-License-Identifier: Apache-2.0
"""Every error this project raises on purpose.

A message names the thing, what was expected, what came, and what to do next (the flag, the wheel,
the command).
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DeviceUnavailableError",
    "EngineStartError",
    "GraphCaptureError",
    "IncompatibleVllmError",
    "KunlunError",
    "MissingWheelError",
    "PatchError",
    "RedirectError",
    "UnsupportedError",
    "VendorLibraryError",
]


class KunlunError(RuntimeError):
    """Base of all of them."""


class UnsupportedError(KunlunError, ValueError):
    """A value or option that the device cannot honour; the message names the alternative."""


class CheckpointError(KunlunError, ValueError):
    """A checkpoint whose tensors are missing, of another shape or dtype, or not numbers."""


class MissingWheelError(KunlunError):
    """A wheel of this project is needed and not installed, or provided twice."""


class DeviceUnavailableError(KunlunError):
    """The device asked for is not there, or the libraries that drive it are not."""


class EngineStartError(KunlunError):
    """A process of an engine ended before it was ready; the message says with what."""


class GraphCaptureError(KunlunError):
    """A graph could not be captured; the message says where, what to do, and the cause last."""


class IncompatibleVllmError(KunlunError):
    """The installed vLLM is absent or outside the supported range."""


class RedirectError(KunlunError):
    """A module redirect does not fit the vLLM at hand, or its replacement failed to import."""


class PatchError(KunlunError):
    """A patch does not fit the source it was written against."""


class VendorLibraryError(KunlunError):
    """A vendor library is missing, or lacks a function that we call."""
