# SPDX-License-Identifier: Apache-2.0
"""Two ranks on one host in the rehearsal: the card's worker, gloo under the name nccl, graphs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.reference import Reference

NEW_TOKENS = 16
SECONDS = 800

CHILD = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]

if __name__ == "__main__":  # its workers are started anew and import this
    from support.engine import engine, greedy
    options, prompts = json.loads(sys.argv[3]), json.loads(sys.argv[4])
    with engine(Path(sys.argv[2]), **options) as llm:
        tokens = greedy(llm, prompts, int(sys.argv[5]))
        config = llm.llm_engine.vllm_config
        print(json.dumps({
            "tokens": tokens,
            "ahead": config.scheduler_config.async_scheduling,
            "graphs": config.compilation_config.cudagraph_mode.name,
            "worker": config.parallel_config.worker_cls,
        }))
"""


def rehearse(folder: Path, prompts: list[list[int]], script: Path, **options) -> dict:
    """What a process that rehearses answers; the device is chosen once a process."""
    script.write_text(CHILD)
    front = options.pop("front")
    ran = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parents[1]), str(folder),
         json.dumps(options), json.dumps(prompts), str(NEW_TOKENS)],
        env={**os.environ, "VLLM_KUNLUN_DEVICE": "rehearsal",
             "VLLM_ENABLE_V1_MULTIPROCESSING": front, "NUMBA_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-6000:]
    return json.loads(ran.stdout.strip().splitlines()[-1])


TENSOR = {"tensor_parallel_size": 2}
PIPELINE = {"pipeline_parallel_size": 2}
GRAPHS = {"enforce_eager": False, "cudagraph_capture_sizes": [1, 4, 16]}


@pytest.mark.parametrize(
    ("options", "front"),
    [
        pytest.param(TENSOR | GRAPHS, "0", id="tensor-captured"),
        pytest.param(TENSOR, "1", id="tensor-eager", marks=pytest.mark.slow),
        pytest.param(PIPELINE | GRAPHS, "1", id="pipeline-captured", marks=pytest.mark.slow),
        pytest.param(PIPELINE, "0", id="pipeline-eager", marks=pytest.mark.slow),
    ],
)
def test_two_ranks_answer_as_transformers(options, front, checkpoint, prompts, tmp_path):
    folder = checkpoint("qwen2")
    answer = rehearse(folder, prompts, tmp_path / "child.py", front=front, **options)
    reference = Reference(folder)
    assert answer["tokens"] == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
    assert answer["worker"].endswith("KunlunCardWorker")
    assert answer["graphs"] == ("PIECEWISE" if "cudagraph_capture_sizes" in options else "NONE")
    assert answer["ahead"]  # with stages too: the next batch enters while the last one is under way
