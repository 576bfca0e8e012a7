# SPDX-License-Identifier: Apache-2.0
"""The vendor's pairing (Python 3.10, torch 2.5.1): what each cure is for, and what if it is not.

`nox -s vendor_stack` runs this where torch is that old; elsewhere there is nothing to cure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.reference import Reference
from vllm.engine.arg_utils import EngineArgs

from vllm_kunlun.platforms import torch25, version
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.torch25.patches import patches

pytestmark = pytest.mark.skipif(not torch25.is_installed(), reason="torch is 2.6 or newer")

ENTRIES = {entry.name for entry in patches() if entry.holds(version.installed_vllm())}
STOPS_IMPORTS = {
    name: failure
    for name, failure in {
        "torch25-custom-graph-pass": "No module named 'torch._inductor.custom_graph_pass'",
        "torch25-schema-types": "ValueError: infer_schema(func): Parameter",
        "torch25-wrap-triton": "ImportError: cannot import name 'wrap_triton' from 'torch.library'",
    }.items()
    if name in ENTRIES
}
"""Entry -> what importing vLLM and its quantisation methods says where it alone is left away."""

STOPS_COMPILATION = {
    name: failure
    for name, failure in {
        "torch25-functorch-key": "autograd_cache",  # which option comes first differs
        "torch25-inline-call": "patched_inline_call() takes 1 positional argument but 4 were given",
        "torch25-inlined-call": "inline_call_() missing 3 required positional arguments",
        "torch25-guard-filter": "VllmBackend.__call__() got an unexpected keyword argument "
        "'options'",
        "torch25-parameter-classes": "non-function or method super: <built-in function _disabled",
        "torch25-size": "output_shape = torch.Size(",
    }.items()
    if name in ENTRIES
}
"""Entry -> the same of a compiled model's first step."""

CHANGED = ["torch25-guard-filter", "torch25-size"]
"""Entries whose hash another build of torch would not have."""

IMPORT = """
    import sys
    from vllm_kunlun.platforms.torch25 import patches
    kept = [entry for entry in patches.patches() if entry.name not in sys.argv[1:]]
    patches.patches = lambda: kept
    from vllm import LLM
    from vllm.model_executor.layers.quantization import get_quantization_config
    print(get_quantization_config("awq").__name__)
    """

# One process imports vLLM; a child of it for each way installs the ledger anew and runs an engine.
ENGINES = """
    import json, os, sys, traceback
    from dataclasses import replace
    from vllm import LLM, SamplingParams
    from vllm_kunlun.platforms.ledger import patch_ledger

    def run(way, checkpoint):
        entries = patch_ledger.collect()
        patch_ledger.remove()
        what, _, name = way.partition(" ")
        if what == "changed":
            entries[name] = replace(entries[name], sha256="0" * 64)
        elif what == "without":
            del entries[name]
        patch_ledger.install(list(entries.values()))
        llm = LLM(checkpoint, dtype="float32", max_model_len=64, skip_tokenizer_init=True,
                  kv_cache_memory_bytes=2**24)
        sampling = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False)
        (answer,) = llm.generate([{"prompt_token_ids": [5, 6, 7]}], sampling, use_tqdm=False)
        mode = llm.llm_engine.vllm_config.compilation_config.mode.name
        return {"tokens": list(answer.outputs[0].token_ids), "mode": mode}

    checkpoint, results, *ways = sys.argv[1:]
    for way in ways:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        log = os.open(os.path.join(results, way + ".log"), os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            result = run(way, checkpoint)
        except BaseException:
            result = {"error": traceback.format_exc()}
        with open(os.path.join(results, way + ".json"), "w") as file:
            json.dump(result, file)
        os._exit(0)
    """


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        # As on a card: the emulated device's packed layers hide their parameters from Dynamo.
        env={
            **os.environ,
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_KUNLUN_PACK_LINEAR": "0",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def outcomes(checkpoint, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """Way -> the tokens and the mode, or the error; the folder has what each logged."""
    results = tmp_path_factory.mktemp("ways")
    ways = [
        "cured",
        *(f"without {name}" for name in STOPS_COMPILATION),
        *(f"changed {name}" for name in CHANGED),
    ]
    ran = python(ENGINES, str(checkpoint("qwen3")), str(results), *ways)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return results, {way: json.loads((results / f"{way}.json").read_text()) for way in ways}


def test_every_entry_is_held_here() -> None:
    assert {*STOPS_IMPORTS, *STOPS_COMPILATION} == ENTRIES


def test_registered_and_active() -> None:
    from vllm import LLM
    from vllm.platforms import current_platform

    assert LLM
    assert type(current_platform).__name__ == "KunlunPlatform"
    states = {each.patch.name: (each.state, each.detail) for each in patch_ledger.report()}
    assert {name: states[name][0] for name in STOPS_IMPORTS} == dict.fromkeys(
        STOPS_IMPORTS, "active"
    )
    assert patch_ledger.left_out() == {}


def test_imports() -> None:
    ran = python(IMPORT)
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.mark.parametrize(("name", "failure"), STOPS_IMPORTS.items())
def test_without_it_vllm_does_not_import(name: str, failure: str) -> None:
    ran = python(IMPORT, name)
    assert ran.returncode == 1
    assert failure in ran.stderr


def test_a_compiled_model_equals_transformers(checkpoint, outcomes) -> None:
    expected = Reference(checkpoint("qwen3")).greedy([5, 6, 7], 8)
    assert outcomes[1]["cured"] == {"tokens": expected, "mode": "VLLM_COMPILE"}


@pytest.mark.parametrize(("name", "failure"), STOPS_COMPILATION.items())
def test_without_it_nothing_compiles(outcomes, name: str, failure: str) -> None:
    assert failure in outcomes[1][f"without {name}"]["error"]


@pytest.mark.parametrize("name", CHANGED)
def test_where_torch_differs_compilation_is_turned_off(outcomes, name: str) -> None:
    folder, found = outcomes
    uncompiled = {"tokens": found["cured"]["tokens"], "mode": "NONE"}
    assert found[f"changed {name}"] == uncompiled
    (line,) = [
        line
        for line in (folder / f"changed {name}.log").read_text().splitlines()
        if "Compilation is turned off" in line
    ]
    assert name in line


def test_expert_load_balancing_is_refused_by_vllm_itself(checkpoint) -> None:
    with pytest.raises(ValueError, match="Expert parallelism load balancing is only supported on"):
        EngineArgs(
            str(checkpoint("qwen3-moe")),
            skip_tokenizer_init=True,
            enable_expert_parallel=True,
            tensor_parallel_size=2,
            enable_eplb=True,
        ).create_engine_config()
