# SPDX-License-Identifier: Apache-2.0
"""What a start's log and its end say of graphs; real starts are in ``tests/user``."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.symptoms import capture

FINISHED = "INFO Graph capturing finished in 1 secs, took 0.01 GiB"
NONE = "WARNING No graph was captured, though graphs are on: decoding is slower than it need be."


@pytest.fixture
def started(monkeypatch, tmp_path):
    """``started(program)``: the checks, where ``program`` runs in place of an engine."""
    monkeypatch.setattr(capture.platformdirs, "user_log_path", lambda *_, **__: tmp_path)

    def run(program):
        monkeypatch.setattr(capture, "_START", program)
        return list(capture.captured(tmp_path, lambda text: None))

    return run


@pytest.mark.parametrize(
    ("program", "statuses", "words"),
    [
        (f"print({FINISHED!r})", ["ok"], "Graph capturing finished in 1 secs"),
        (f"print({NONE!r})", ["warn"], "the model's class is not compiled"),
        ("raise SystemExit(3)", ["ok", "fail"], "exit code 3 before graphs were captured"),
        (
            "raise RuntimeError('GraphCaptureError: no. Cause: out of memory')",
            ["fail"],
            "did not fit",
        ),
    ],
)
def test_what_a_start_says(started, program, statuses, words):
    found = started(program)
    assert [each.status for each in found] == statuses
    assert words in found[-1].detail


def test_without_a_card_it_is_rehearsed_in_one_process(started):
    program = (
        "import os; print('Capturing CUDA graph'); print('PlantedError: ', "
        "*(os.environ[n] for n in ('VLLM_KUNLUN_DEVICE', 'VLLM_ENABLE_V1_MULTIPROCESSING')))"
    )
    (found,) = started(program)
    assert "PlantedError:  rehearsal 0" in found.detail
