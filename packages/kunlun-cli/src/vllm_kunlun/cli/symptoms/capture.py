# SPDX-License-Identifier: Apache-2.0
"""Whether a model's graphs can be captured: its engine is started on the card, or rehearsed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from vllm_kunlun.cli import graphs
from vllm_kunlun.cli.check import Check
from vllm_kunlun.platforms import device, envs

__all__ = ["captured"]

_START = """
import sys
from pathlib import Path
from vllm_kunlun.cli.verify.measure import engine
with engine(Path(sys.argv[1]), 15, load_format="dummy"):
    pass
"""


def captured(model: Path, say: Callable[[str], None]) -> Iterator[Check]:
    """Start the engine of ``model`` with random weights, in a process of its own; read its log.

    Without a card the card's own path runs over host memory (docs/rehearsal.md).
    """
    kind = "xpu" if device.detect().kind == "xpu" else "rehearsal"
    say(f"the engine captures graphs on {'the card' if kind == 'xpu' else 'a rehearsed card'}")
    log = platformdirs.user_log_path("vllm-kunlun", ensure_exists=True) / "symptom-graphs.log"
    with log.open("wb") as output:
        ended = subprocess.run(
            [sys.executable, "-c", _START, str(model)],
            stdout=output, stderr=subprocess.STDOUT, check=False,
            env=envs.with_values({"VLLM_KUNLUN_DEVICE": kind, "VLLM_LOGGING_LEVEL": "INFO",
                                  "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}),
        ).returncode  # fmt: skip
    found = list(graphs.check_log(log.read_text(errors="replace").splitlines()))
    yield from found
    if ended != 0 and all(each.status == "ok" for each in found):
        yield Check(
            "start", "fail", f"the engine ended with exit code {ended} before graphs were captured",
            f"read {log}",
        )  # fmt: skip
