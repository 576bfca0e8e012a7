# SPDX-License-Identifier: Apache-2.0
"""The one error of these tools."""

from __future__ import annotations

__all__ = ["UpstreamError"]


class UpstreamError(Exception):
    """What keeps vLLM's tests from being judged; its text says what to do next."""
