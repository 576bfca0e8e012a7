# SPDX-License-Identifier: Apache-2.0
"""The support matrix: which feature was tried on which architecture, and what came of it.

A cell is written as its test ends, so that a run that is broken off loses nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["FEATURES", "PATH", "Cell", "Matrix", "NotApplicable", "NotTried", "Row"]

PATH = Path(__file__).parents[2] / "support" / "matrix.json"

FEATURES = {
    "eager": "greedy tokens, each operation by itself",
    "compiled": "torch.compile, vLLM's default",
    "TP2": "tensor parallelism over two ranks",
    "prefix cache": "cached prefixes, hit",
    "chunked prefill": "prompts in pieces of 40 tokens",
    "LoRA": "low-rank adapters on the attention layers",
    "W8A8": "compressed-tensors INT8, dynamic per token",
    "W4A16": "compressed-tensors INT4, symmetric",
    "speculation": "drafts from n-grams",
}


class NotApplicable(Exception):
    """The feature has no meaning for the architecture."""


class NotTried(Exception):
    """It has a meaning, and the tests have no tool to try it."""


class Cell(BaseModel):
    """What came of one feature on one architecture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["pass", "fail", "refused", "not applicable"]
    reason: str = ""


class Row(BaseModel):
    """One architecture."""

    model_config = ConfigDict(extra="forbid")

    family: str | None = None
    """The wheel, or None: vLLM's class on our layers."""
    judge: str
    """What the tokens are held against."""
    card: str = "untested"
    cells: dict[str, Cell] = {}


class Matrix(BaseModel):
    """The file ``support/matrix.json``."""

    model_config = ConfigDict(extra="forbid")

    vllm: str
    transformers: str
    rows: dict[str, Row] = {}
    others: dict[str, Cell] = {}
    """Architectures that were tried eagerly only, against transformers."""

    @classmethod
    def load(cls, path: Path = PATH) -> Matrix:
        return cls.model_validate_json(path.read_text())

    def save(self, path: Path = PATH) -> None:
        rows = dict(sorted(self.rows.items()))
        for row in rows.values():
            row.cells = {name: row.cells[name] for name in FEATURES if name in row.cells}
        dumped = {
            "vllm": self.vllm,
            "transformers": self.transformers,
            "rows": {
                name: {**row.model_dump(exclude_defaults=True), "card": row.card}
                for name, row in rows.items()
            },
            "others": {
                name: cell.model_dump(exclude_defaults=True)
                for name, cell in sorted(self.others.items())
            },
        }
        path.write_text(json.dumps(dumped, indent=1) + "\n")

    @contextlib.contextmanager
    def cell(self, architecture: str, feature: str | None = None) -> Iterator[None]:
        """Run a test inside; what it ends with becomes the cell. A failure goes on to pytest.

        Without a feature the architecture is one of :attr:`others`.
        """
        try:
            yield
        except NotTried:
            self.rows[architecture].cells.pop(str(feature), None)
            self.save()
            return
        except NotApplicable as error:
            found = Cell(status="not applicable", reason=str(error))
        except (UnsupportedError, ValidationError) as error:
            found = Cell(status="refused", reason=_line(error))
        except BaseException as error:
            self._put(architecture, feature, Cell(status="fail", reason=_line(error)))
            raise
        else:
            found = Cell(status="pass")
        self._put(architecture, feature, found)

    def _put(self, architecture: str, feature: str | None, cell: Cell) -> None:
        if feature is None:
            self.others[architecture] = cell
        else:
            self.rows[architecture].cells[feature] = cell
        self.save()


def _line(error: BaseException) -> str:
    """The first sentence; vLLM's validation wraps a refusal of ours."""
    text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    line = (lines[0] if lines else type(error).__name__).removeprefix("Value error, ")
    return line.partition(". ")[0][:250]
