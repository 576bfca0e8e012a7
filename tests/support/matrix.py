# SPDX-License-Identifier: Apache-2.0
"""The support matrix: which feature was tried on which architecture, and what came of it.

A cell is written as its test ends, so that a run that is broken off loses nothing. Processes that
run side by side each add their own cells.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from packaging.version import Version
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from support import commit
from support.features import FEATURES, USES

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = [
    "FOLDER",
    "Cell",
    "Matrix",
    "NotApplicable",
    "NotTried",
    "Row",
    "path_of",
]

FOLDER = Path(__file__).parents[2] / "support"


def path_of(vllm: str) -> Path:
    """The matrix of that release of vLLM; that of the first one has no number in its name."""
    release = version.tested_as(vllm) or Version(vllm).base_version
    is_first = release == next(iter(version.TESTED_VLLM))
    return FOLDER / ("matrix.json" if is_first else f"matrix-{release}.json")


class NotApplicable(Exception):
    """The feature has no meaning for the architecture."""


class NotTried(Exception):
    """It has a meaning, and the tests have no tool to try it; the message says which."""


class Cell(BaseModel):
    """What came of one feature on one architecture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["pass", "fail", "refused", "skipped", "not applicable"]
    reason: str = ""
    made_at: str = ""
    """The commit; in the file only where it is not the matrix's."""


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
    """A file ``support/matrix.json``, or of another release (:func:`path_of`)."""

    model_config = ConfigDict(extra="forbid")

    vllm: str
    transformers: str
    made_at: str
    """The commit at which most cells were made."""
    rows: dict[str, Row] = {}
    others: dict[str, Cell] = {}
    """Architectures that were tried eagerly only, against transformers."""
    uses: dict[str, Cell] = {}
    """What came of each of :data:`USES`."""

    _committed: Matrix | None = PrivateAttr(default=None)
    _now: str = PrivateAttr(default="")
    _path: Path = PrivateAttr(default=Path())
    _made: dict[tuple[str, str | None], Cell] = PrivateAttr(default_factory=dict)
    """The cells of this process."""

    @classmethod
    def load(cls, path: Path) -> Matrix:
        return cls.model_validate_json(path.read_text()).filled()

    @classmethod
    def begin(cls, vllm: str, transformers: str, path: Path | None = None) -> Matrix:
        """What is on the disk, to be gone on with at the present commit."""
        now, path = commit.made_at(), path or path_of(vllm)
        found = cls.load(path) if path.exists() else cls(vllm="", transformers="", made_at=now)
        made = found.model_copy(update={"vllm": vllm, "transformers": transformers})
        before = commit.committed(path)
        made._committed = cls.model_validate_json(before) if before else None
        made._now, made._path = now, path
        return made

    def filled(self) -> Matrix:
        """Each cell with its commit."""
        for name, feature, cell in list(self.each()):
            if not cell.made_at:
                self._set(name, feature, cell.model_copy(update={"made_at": self.made_at}))
        return self

    def each(self) -> Iterator[tuple[str, str | None, Cell]]:
        """Architecture, feature (None of :attr:`others` and :attr:`uses`) and cell."""
        for name, row in self.rows.items():
            for feature, cell in row.cells.items():
                yield name, feature, cell
        for name, cell in [*self.others.items(), *self.uses.items()]:
            yield name, None, cell

    def commits(self) -> Counter[str]:
        """Cells made at each commit."""
        return Counter(cell.made_at for *_, cell in self.each())

    def row(self, architecture: str, family: str | None, judge: str) -> None:
        """See that there is a row, in which nothing is missing."""
        row = self.rows.setdefault(architecture, Row(judge=judge))
        row.family, row.judge = family, judge
        for feature in FEATURES:
            row.cells.setdefault(feature, self._not_reached())

    def other(self, architecture: str) -> None:
        """See that the architecture has a cell among :attr:`others`."""
        self.others.setdefault(architecture, self._not_reached())

    def save(self, path: Path) -> None:
        most = self.commits().most_common(1)
        self.made_at = most[0][0] if most else self._now
        rows = dict(sorted(self.rows.items()))
        dumped = {
            "vllm": self.vllm,
            "transformers": self.transformers,
            "made_at": self.made_at,
            "rows": {
                name: {
                    **row.model_dump(exclude_defaults=True),
                    "cells": {f: self._dump(row.cells[f]) for f in FEATURES if f in row.cells},
                    "card": row.card,
                }
                for name, row in rows.items()
            },
            "others": {name: self._dump(cell) for name, cell in sorted(self.others.items())},
            "uses": {name: self._dump(self.uses[name]) for name in USES if name in self.uses},
        }
        path.write_text(json.dumps(dumped, indent=1) + "\n")

    def _dump(self, cell: Cell) -> dict[str, Any]:
        usual = {"made_at"} if cell.made_at == self.made_at else set()
        return cell.model_dump(exclude_defaults=True, exclude=usual)

    @contextlib.contextmanager
    def cell(self, architecture: str, feature: str | None = None) -> Iterator[None]:
        """Run a test inside; what it ends with becomes the cell. A failure goes on to pytest.

        Without a feature the architecture is one of :attr:`others`, or a name of :data:`USES`.

        Raises:
            AssertionError: what passed at the last commit is refused, skipped or does not apply.
        """
        try:
            yield
        except NotTried as error:
            self._put(architecture, feature, "skipped", str(error))
            pytest.skip(str(error))
        except NotApplicable as error:
            self._put(architecture, feature, "not applicable", str(error))
        except (UnsupportedError, ValidationError) as error:
            self._put(architecture, feature, "refused", _line(error))
        except BaseException as error:
            self._put(architecture, feature, "fail", _line(error))
            raise
        else:
            self._put(architecture, feature, "pass")

    def _put(self, architecture: str, feature: str | None, status: str, reason: str = "") -> None:
        cell = Cell(status=status, reason=reason, made_at=self._now)  # type: ignore[arg-type]
        self._made[architecture, feature] = cell
        with _alone_in(self._path.parent):
            if self._path.exists():
                self._take(Matrix.load(self._path))
            self._set(architecture, feature, cell)
            self.save(self._path)
        before = self._committed and self._committed.find(architecture, feature)
        if before and before.status == "pass" and status not in ("pass", "fail"):
            raise AssertionError(
                f"{architecture}, {feature or 'eager'}: it passed in the committed support matrix "
                f"of vLLM {self.vllm} and is now {status}: {reason}. If that is meant, commit the "
                "new one and run again"
            )

    def _take(self, written: Matrix) -> None:
        """What other processes wrote meanwhile."""
        for name, row in written.rows.items():
            self.rows.setdefault(name, row)
        for name, feature, cell in written.each():
            if (name, feature) not in self._made:
                self._set(name, feature, cell)

    def find(self, architecture: str, feature: str | None) -> Cell | None:
        """The cell, if there is one."""
        if feature is None:
            return self._alone(architecture).get(architecture)
        row = self.rows.get(architecture)
        return row and row.cells.get(feature)

    def _set(self, architecture: str, feature: str | None, cell: Cell) -> None:
        if feature is None:
            self._alone(architecture)[architecture] = cell
        else:
            self.rows[architecture].cells[feature] = cell

    def _alone(self, name: str) -> dict[str, Cell]:
        """Where the cells are that belong to no row."""
        return self.uses if name in USES else self.others

    def _not_reached(self) -> Cell:
        return Cell(status="skipped", reason="no run came this far yet", made_at=self._now)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold other processes that ask the same of the folder until this is left."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _line(error: BaseException) -> str:
    """The first sentence; vLLM's validation wraps a refusal of ours."""
    text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    line = (lines[0] if lines else type(error).__name__).removeprefix("Value error, ")
    return line.partition(". ")[0][:250]
