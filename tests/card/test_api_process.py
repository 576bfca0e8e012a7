# SPDX-License-Identifier: Apache-2.0
"""The API process on a card, which plans and must leave the device alone.

The card is a device node by another name and the recording fake's modules; torch would tell if its
device were initialised.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from vllm_kunlun.platforms import envs

PLAN = """
import json, sys
from vllm_kunlun.platforms import device
device._CARD_NODES = "null"

import torch
def initialise():
    raise SystemExit("the API process initialises the device")
torch.cuda._lazy_init = torch.cuda.init = initialise

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.executor import Executor
arguments = AsyncEngineArgs(model=sys.argv[1], dtype="float16", skip_tokenizer_init=True)
config = arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
from vllm.platforms import current_platform
from vllm_kunlun.platforms import envs
import os
assert not torch.cuda.is_initialized()
print(json.dumps({
    "device": current_platform.device_type,
    "worker": config.parallel_config.worker_cls,
    "executor": Executor.get_class(config).__name__,
    "batched_tokens": config.scheduler_config.max_num_batched_tokens,
    "environment": {name: os.environ.get(name) for name in envs.card_values()},
}))
"""


def plan(model: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in envs.card_values()}
    environment |= {
        "VLLM_KUNLUN_DEVICE": "xpu",
        "VLLM_LOGGING_LEVEL": "INFO",
        "PYTHONPATH": str(Path(__file__).parents[1] / "fake_vendor"),
    }
    return subprocess.run(
        [sys.executable, "-c", PLAN, str(model)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_plans_for_the_card_without_touching_it(checkpoint):
    done = plan(checkpoint("qwen3"))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["device"] == "cuda"
    assert answer["worker"].endswith("KunlunCardWorker")
    assert answer["executor"] == "UniProcExecutor"
    assert answer["batched_tokens"] == 8192, "vLLM's default for a device of more than 70 GiB"
    assert answer["environment"] == envs.card_values()
    said = [line for line in done.stdout.splitlines() + done.stderr.splitlines()
            if "XMLIR_FORCE_USE_XPU_GRAPH=1" in line]  # fmt: skip
    assert len(said) == 1
