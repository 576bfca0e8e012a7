# SPDX-License-Identifier: Apache-2.0
"""Why a process of an engine could not start, handed to the process that waits for it.

vLLM logs the exception in the engine's process or in a worker's; the process that waits sees no
more than that another one ended. The first exception is the cause: a worker's comes before that of
the engine which waits for the worker.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["LINES", "awaited", "hand_over", "text_of"]

LINES = 5
"""What is handed over of an exception's text, at most."""

_LOGGERS = ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor")
_MESSAGE = "failed to start."
_VARIABLE = "VLLM_KUNLUN_START_FAILURE"


def hand_over() -> None:
    """From now on, write down the exception with which a process of this one's cannot start.

    Re-entrant. Nothing is written where no process waits.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_note)


@contextlib.contextmanager
def awaited() -> Iterator[Callable[[], str | None]]:
    """While processes start: a function that gives the first one's cause, None if there is none."""
    folder = Path(tempfile.mkdtemp(prefix="vllm-kunlun-"))
    file = folder / "cause"
    try:
        with envs.set_within(_VARIABLE, str(file)):
            yield lambda: file.read_text() if file.exists() else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def text_of(error: BaseException) -> str:
    """The error in a few lines, with its type where the text alone might not do."""
    text = str(error).strip()
    if not isinstance(error, KunlunError):
        text = f"{type(error).__name__}: {text}"
    return "\n".join(text.splitlines()[:LINES])


def _note(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and str(record.msg).endswith(_MESSAGE) and envs.VLLM_KUNLUN_START_FAILURE:
        # Another process may have been first, the disk is full, or it is another host's folder.
        with (
            contextlib.suppress(OSError),
            open(envs.VLLM_KUNLUN_START_FAILURE, "x", encoding="utf-8") as file,
        ):
            file.write(text_of(error))
    return True
