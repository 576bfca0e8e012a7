# SPDX-License-Identifier: Apache-2.0
"""A layer of experts spread over ranks, every way, computes what its formula says.

Tensor, data and expert parallelism in all combinations of two, each rank with another number of
tokens. The formula is written here, in float64.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest

from vllm_kunlun.cli.ports import free_port

pytestmark = pytest.mark.slow

TOKENS = [5, 2]
"""Of each data-parallel rank."""

CHILD = """
import json, os, sys, traceback
from types import SimpleNamespace
import torch
from vllm.config import ParallelConfig, VllmConfig, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.forward_context import set_forward_context
from vllm.model_executor.models.qwen3_moe import Qwen3MoeSparseMoeBlock
from vllm.platforms import current_platform
from vllm.plugins import load_general_plugins

load_general_plugins()
from vllm_kunlun.ops import vendor_ops  # before the ranks part

ways, every_tokens, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
EXPERTS, TOP, HIDDEN, INNER = 8, 3, 32, 16

generator = torch.Generator().manual_seed(0)
def random(*shape):
    return torch.randn(shape, generator=generator) * 0.5
gate, up, out = random(EXPERTS, INNER, HIDDEN), random(EXPERTS, INNER, HIDDEN), None
out, router = random(EXPERTS, HIDDEN, INNER), random(EXPERTS, HIDDEN)
inputs = [random(n, HIDDEN) for n in every_tokens]

def formula(x):
    x = x.double()
    shares = torch.softmax(x @ router.double().T, -1)
    best, chosen = shares.topk(TOP)
    best = best / best.sum(-1, keepdim=True)
    every = torch.einsum(
        "tei,ehi->teh",
        torch.nn.functional.silu(torch.einsum("th,eih->tei", x, gate.double()))
        * torch.einsum("th,eih->tei", x, up.double()),
        out.double(),
    )
    chosen = chosen[..., None].expand(-1, -1, HIDDEN)
    return torch.einsum("tk,tkh->th", best, every.gather(1, chosen))

def rank(number, way, tp, dp, ep, port):
    torch.set_num_threads(1)
    mine, tokens = number // tp, every_tokens[:dp]
    parallel = ParallelConfig(
        tensor_parallel_size=tp, data_parallel_size=dp, data_parallel_rank=mine,
        data_parallel_master_ip="127.0.0.1", enable_expert_parallel=bool(ep),
        distributed_executor_backend="mp",
    )
    parallel._data_parallel_master_port_list = [port]
    parallel.is_moe_model = True
    config = VllmConfig(parallel_config=parallel)
    with set_current_vllm_config(config):
        init_distributed_environment(
            tp, number % tp, f"file://{folder}/{way}", number, current_platform.dist_backend
        )
        initialize_model_parallel(tp)
        described = SimpleNamespace(
            num_experts=EXPERTS, num_experts_per_tok=TOP, hidden_size=HIDDEN,
            moe_intermediate_size=INNER, norm_topk_prob=True, hidden_act="silu",
        )
        config.model_config = SimpleNamespace(
            hf_text_config=described, dtype=torch.float32, enable_return_routed_experts=False
        )
        layer = Qwen3MoeSparseMoeBlock(config, "mlp")
        layer.gate.weight.data.copy_(router)
        experts = layer.experts
        for number_of, name, weights in ((0, "w1", gate), (1, "w3", up), (2, "w2", out)):
            parameter = experts.w2_weight if name == "w2" else experts.w13_weight
            for expert in range(EXPERTS):
                experts.weight_loader(parameter, weights[expert], f"{name}.weight", name, expert)
        experts.quant_method.process_weights_after_loading(experts)
        across = torch.tensor(tokens, dtype=torch.int32) if dp > 1 else None
        config.compilation_config.static_forward_context["mlp.experts"] = experts
        with torch.inference_mode(), set_forward_context(
            {}, config, num_tokens=tokens[mine], num_tokens_across_dp=across
        ):
            came = layer(inputs[mine].clone())
    error = (came.double() - formula(inputs[mine])).abs().max().item()
    found = {"way": way, "rank": number, "error": error, "shape": list(came.shape)}
    os.write(1, (json.dumps(found) + "\\n").encode())  # at once, between those of other ranks
    torch.distributed.barrier()

for way, sizes in ways.items():
    children = []
    for number in range(sizes[0] * sizes[1]):
        child = os.fork()
        if child == 0:
            try:
                rank(number, way, *sizes)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
"""


WAYS = {
    f"tp{tp}-dp{dp}{'-ep' * ep}": (tp, dp, ep)
    for tp, dp, ep in itertools.product((1, 2), (1, 2), (0, 1))
    if tp * dp > 1
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each rank of each way says; all ways share one process's imports."""
    sizes = {way: (*each, free_port()) for way, each in WAYS.items()}
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(sizes), json.dumps(TOKENS), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "VLLM_KUNLUN_DEVICE": "emulated"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stderr[-5000:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("way", WAYS)
def test_each_rank_gets_what_the_formula_says(way, answers):
    tp, dp, _ = WAYS[way]
    own = [each for each in answers if each["way"] == way]
    assert sorted(each["rank"] for each in own) == list(range(tp * dp))
    assert {tuple(each["shape"]) for each in own} == {(n, 32) for n in TOKENS[:dp]}
    assert max(each["error"] for each in own) < 1e-4
