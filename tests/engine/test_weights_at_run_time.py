# SPDX-License-Identifier: Apache-2.0
"""Other weights for an engine that serves: its tokens are those of a fresh start with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support import checkpoints
from support.engine import engine
from support.reference import Reference
from support.renewal import FORMS, NEW_TOKENS, answers, load, reload_from, state, write

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

Prompts = Sequence[list[int]]


@pytest.fixture(scope="module")
def prompts(prompts):
    """Three are enough: what is tested is weights."""
    return prompts[3:6]


def of_hf(folder: Path, prompts: Prompts, changed: dict[str, torch.Tensor] | None = None):
    """HF's tokens with the weights of ``folder``, of which some are ``changed``."""
    reference = Reference(folder)
    reference.model.load_state_dict(changed or {}, strict=False)
    return [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]


def of_layer(number: int, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: each for name, each in tensors.items() if f".layers.{number}." in name}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """``folders(name, form)``: two checkpoints of one shape with different weights."""
    made: dict[tuple[str, str], tuple[Path, Path]] = {}

    def make(name: str, form: str = "float") -> tuple[Path, Path]:
        if (name, form) not in made:
            top = tmp_path_factory.mktemp(f"{name}-{form}")
            made[name, form] = (write(name, form, top, 0), write(name, form, top, 1))
        return made[name, form]

    return make


IN_PARTS = ("awq-head", "awq-without-q", "w4a16-two-kinds-in-one", "gptq-dynamic-without-q")
"""Of :data:`support.formats.PACKED`: a quantised output projection, and fused layers in parts."""


# ------------------------------------------------------------------------------ one engine


@pytest.fixture(scope="module")
def tied(folders):
    """An engine whose output projection is the embedding, on a copy of the first checkpoint."""
    first, second = folders("qwen2-tied")
    served = first.parent / "served"
    shutil.copytree(first, served)
    with engine(served) as llm:
        yield llm, served, first, second


def test_files_that_were_replaced(tied, prompts):
    llm, served, first, second = tied
    shutil.copy(second / "model.safetensors", served)
    llm.collective_rpc("reload_weights")
    assert answers(llm, prompts) == of_hf(second, prompts)
    shutil.copy(first / "model.safetensors", served)
    llm.collective_rpc("reload_weights")
    assert answers(llm, prompts) == of_hf(first, prompts)


@pytest.mark.parametrize("part", ["q_proj", "norm", "embed_tokens", "layers.1."])
def test_a_part_of_the_weights(part, tied, prompts):
    llm, _, first, second = tied
    changed = {name: each for name, each in state(second).items() if part in name}
    load(llm, state(first))
    for name, tensor in changed.items():  # a tensor a call, as some loops do
        load(llm, {name: tensor})
    expected = of_hf(first, prompts, changed)
    assert expected != of_hf(first, prompts)
    assert answers(llm, prompts) == expected


def test_a_damaged_file_changes_nothing(tied, prompts, tmp_path):
    llm, _, first, _ = tied
    load(llm, state(first))
    described = json.loads((first / "config.json").read_text())
    wider = checkpoints.write_configuration(
        checkpoints.resized("qwen2-tied", intermediate_size=described["intermediate_size"] + 32),
        tmp_path,
    )
    with pytest.raises(CheckpointError, match=r"mlp\..*_proj.weight in model.safetensors"):
        reload_from(llm, wider)
    assert answers(llm, prompts) == of_hf(first, prompts)


def test_packed_weights(folders, prompts):
    """AWQ: all of a layer or nothing, since its tensors are converted together."""
    first, second = folders("qwen2", "awq")
    with engine(second) as llm:
        of_second = answers(llm, prompts)
    with engine(first) as llm:
        of_first = answers(llm, prompts)
        reload_from(llm, second)
        assert answers(llm, prompts) == of_second != of_first
        load(llm, state(first))
        assert answers(llm, prompts) == of_first
        some = {n: each for n, each in state(second).items() if "1.self_attn.q_proj.qw" in n}
        with pytest.raises(CheckpointError, match=r"k_proj.qweight, .*v_proj.qweight; .* in one"):
            load(llm, some)
        assert answers(llm, prompts) == of_first
        load(llm, of_layer(1, state(second)))
        mixed = answers(llm, prompts)
        assert mixed not in (of_first, of_second)
        load(llm, {n: e for n, e in state(second).items() if ".layers.1." not in n})
        assert answers(llm, prompts) == of_second


# ------------------------------------------------------------------------- every form


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form", "compiled"),
    [
        *(("qwen2", form, False) for form in ("float", "w8a8", *FORMS)),
        *(("qwen3-moe-even", form, False) for form in ("float", "w8a8", *FORMS)),
        *(("deepseek-v3-even", form, False) for form in ("float", "w8a8", "awq", "gptq", "w4a16")),
        *(("qwen2", form, True) for form in ("float", "w8a8", "awq", "gptq-desc-act")),
        *(("qwen3-moe-even", form, True) for form in ("float", "w4a16")),
        ("deepseek-v3-even", "awq", True),
        *(("llama-even", form, False) for form in IN_PARTS),
        ("gpt-oss", "float", False),
        ("mixtral", "float", False),
    ],
)
def test_every_form(name, form, compiled, folders, prompts):
    first, second = folders(name, form)
    with engine(second, enforce_eager=not compiled) as llm:
        of_second = answers(llm, prompts)
    with engine(first, enforce_eager=not compiled) as llm:
        of_first = answers(llm, prompts)
        reload_from(llm, second)
        assert answers(llm, prompts) == of_second != of_first
        load(llm, state(first))
        assert answers(llm, prompts) == of_first
        load(llm, of_layer(1, state(second)))
        assert answers(llm, prompts) not in (of_first, of_second)
        load(llm, state(second))
        assert answers(llm, prompts) == of_second
    if form == "float":
        assert of_second == of_hf(second, prompts)


# ----------------------------------------------------------------------------- other ways


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2-tied", "qwen3-moe", "deepseek-v3-even"])
def test_a_sharded_state(name, folders, prompts, tmp_path):
    source, _ = folders(name)
    saved = tmp_path / "saved"
    shutil.copytree(source, saved, ignore=shutil.ignore_patterns("*.safetensors"))
    with engine(source) as llm:
        expected = answers(llm, prompts)
        llm.llm_engine.engine_core.save_sharded_state(path=str(saved))
        assert answers(llm, prompts) == expected
    assert list(saved.glob("model-rank-0-part-*.safetensors"))
    with engine(saved, load_format="sharded_state") as llm:
        assert answers(llm, prompts) == expected


@pytest.mark.slow
@pytest.mark.parametrize("form", ["awq", "gptq", "w4a16", "w8a8"])
def test_a_sharded_state_of_converted_weights_is_refused(form, folders, prompts, tmp_path):
    source, _ = folders("qwen2", form)
    with engine(source) as llm:
        expected = answers(llm, prompts)
        with pytest.raises(UnsupportedError, match=r"layers\.0\..*: .*Keep the checkpoint"):
            llm.llm_engine.engine_core.save_sharded_state(path=str(tmp_path))
        assert answers(llm, prompts) == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["float", "awq"])
def test_a_start_with_dummy_weights(form, folders, prompts):
    """As loops of reinforcement learning start, which send all weights afterwards."""
    first, second = folders("qwen2", form)
    with engine(first) as llm:
        expected = answers(llm, prompts)
    with engine(second, load_format="dummy") as llm:
        load(llm, state(first))
        assert answers(llm, prompts) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [("qwen2", "float"), ("qwen3-moe-even", "awq")])
def test_two_ranks(name, form, folders, prompts, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    first, second = folders(name, form)
    served = first.parent / "two-ranks"
    shutil.copytree(second, served)
    with engine(served, tensor_parallel_size=2) as llm:
        expected = answers(llm, prompts)
        shutil.copy(first / "model.safetensors", served)
        llm.collective_rpc("reload_weights")
        assert answers(llm, prompts) != expected
        shutil.copy(second / "model.safetensors", served)
        llm.collective_rpc("reload_weights")
        assert answers(llm, prompts) == expected


@pytest.mark.slow
def test_adapters(folders):
    first, _ = folders("qwen2")
    refused = pytest.raises(UnsupportedError, match="without --enable-lora")
    with engine(first, enable_lora=True) as llm, refused:
        llm.collective_rpc("reload_weights")


@pytest.mark.slow
def test_sleep_is_refused(folders, prompts):
    first, _ = folders("qwen2")
    with engine(first) as llm:
        expected = answers(llm, prompts)
        with pytest.raises(UnsupportedError, match="sleep mode is not available"):
            llm.sleep()
        assert answers(llm, prompts) == expected
