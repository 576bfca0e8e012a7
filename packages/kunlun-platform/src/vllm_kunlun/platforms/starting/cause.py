# SPDX-License-Identifier: Apache-2.0
"""Why a process of an engine could not start, or died, handed to the process that waits for it.

vLLM logs the exception in the engine's process or in a worker's; the process that waits sees no
more than that another one ended. The first exception is the cause: a worker's comes before that of
the engine which waits for the worker.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import KunlunError
from vllm_kunlun.platforms.starting import folders

__all__ = ["LINES", "awaited", "hand_over", "of_death", "text_of"]

LINES = 5
"""What is handed over of an exception's text, at most."""

_LOGGERS = (
    "vllm.v1.engine.core",
    "vllm.v1.engine.core_client",
    "vllm.v1.executor.multiproc_executor",
)
_MESSAGE = "failed to start."
_DEATHS = ("WorkerProc hit an exception", "EngineCore encountered a fatal", "Engine core proc")
_FIRST_DEATH = "Worker proc"
"""A worker that died itself: its neighbours' errors are of that, and may be written first."""
_VARIABLE = "VLLM_KUNLUN_START_FAILURE"


def hand_over() -> None:
    """From now on, write down with which exception a process of this one's cannot start, or dies.

    Re-entrant. Nothing is written where no process waits.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_note)


@contextlib.contextmanager
def awaited() -> Iterator[Callable[[], str | None]]:
    """While processes start: a function that gives the first one's cause, None if there is none.

    Raises:
        UnsupportedError: there is nowhere to write it.
    """
    folder = Path(folders.make())
    file = folder / "cause"
    try:
        with envs.set_within(_VARIABLE, str(file)):
            yield lambda: _read(file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def of_death() -> str | None:
    """Why the engine of this process died; None if none of its processes could say so."""
    file = _death_file()
    return None if file is None else _read(file)


def text_of(error: BaseException) -> str:
    """The error in a few lines, with its type where the text alone might not do."""
    text = str(error).strip()
    if not isinstance(error, KunlunError):
        text = f"{type(error).__name__}: {text}"
    return "\n".join(text.splitlines()[:LINES])


def _note(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and str(record.msg).endswith(_MESSAGE) and envs.VLLM_KUNLUN_START_FAILURE:
        _write(Path(envs.VLLM_KUNLUN_START_FAILURE), text_of(error), "x")
    _note_death(str(record.msg), record.getMessage(), error)
    return True


def _death_file() -> Path | None:
    """In the folder of the engine's sockets, which all of its processes share."""
    folder = envs.VLLM_KUNLUN_SOCKETS
    return None if folder is None else Path(folder, "death")


def _note_death(pattern: str, message: str, error: BaseException | None) -> None:
    first = pattern.startswith(_FIRST_DEATH)
    if (first or pattern.startswith(_DEATHS)) and (file := _death_file()) is not None:
        text = message.partition(",")[0] if error is None else text_of(error)
        _write(file, text, "w" if first else "x")


def _write(file: Path, text: str, mode: str) -> None:
    # Another process may have been first; on another host the folder is not there; the disk may be
    # full. Whoever logs its error must not get another one for it.
    with contextlib.suppress(OSError), file.open(mode, encoding="utf-8") as written:
        written.write(text)


def _read(file: Path) -> str | None:
    """Its text; None if there is none."""
    return (file.read_text(encoding="utf-8") or None) if file.exists() else None
