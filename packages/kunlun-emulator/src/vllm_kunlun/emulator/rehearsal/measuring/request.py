# SPDX-License-Identifier: Apache-2.0
"""What is asked of the process that measures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """The models to run one after another, and how."""

    folders: tuple[str, ...]
    vocabulary: int
    pictures: bool
    """Whether the model takes pictures, too; it is given text only."""
    batch: int
    prompt_tokens: int
    steps: int
    """Decode steps to count."""
    dtype: str
    load_format: str
    eager: bool
    plain: bool
    """With vLLM's own classes in place of ours."""

    def as_json(self) -> dict[str, Any]:
        """To be handed to :meth:`from_json` in another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Request:
        """What :meth:`as_json` gave."""
        return cls(**{**value, "folders": tuple(value["folders"])})
