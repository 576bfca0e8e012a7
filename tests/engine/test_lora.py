# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters through the engine; the judge is HF's model with the adapter merged into it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import adapters
from support.adapters import ATTENTION, MLP, VOCABULARY, Adapter
from support.engine import engine, greedy_with_logprobs
from support.engine_state import assert_split, watch_prompts
from support.reference import Reference
from vllm import SamplingParams, exceptions
from vllm.lora.request import LoRARequest

NEW_TOKENS = 8
LOGPROB_TOLERANCE = 3e-4
LORA = {"enable_lora": True, "max_lora_rank": 8, "max_loras": 2}
REFUSALS = (ValueError, getattr(exceptions, "LoRAAdapterNotFoundError", ValueError))
"""A missing adapter is an error of its own in newer vLLM."""

TARGETS = {
    "qwen3": (*ATTENTION, *MLP),
    "llama-even": (*ATTENTION, *MLP, *VOCABULARY),
}


class Served:
    """A base model, adapters on it, and what HF says of each. Number 0 is the base model."""

    def __init__(self, folder: Path, targets: Sequence[str], made_in: Path) -> None:
        self.folder = folder
        self.references = [Reference(folder) for _ in range(4)]
        model = self.references[0].model
        self.adapters: list[Adapter] = [
            adapters.write(model, made_in / "all", targets, rank=8, alpha=16, seed=1),
            adapters.write(model, made_in / "some", ("q_proj", "v_proj", "down_proj"), rank=5,
                           alpha=9, use_rslora=True, seed=2),
            adapters.write(model, made_in / "one", ("gate_proj",), rank=1, alpha=4, seed=3),
        ]  # fmt: skip
        for reference, adapter in zip(self.references[1:], self.adapters, strict=True):
            adapter.merge(reference.model)

    def request(self, number: int) -> LoRARequest | None:
        if number == 0:
            return None
        folder = self.adapters[number - 1].folder
        return LoRARequest(folder.name, number, str(folder))

    def check(self, llm, prompts: Sequence[list[int]], numbers: Sequence[int]) -> None:
        """One call with an adapter for each prompt: tokens and log-probabilities are HF's."""
        requests = [self.request(number) for number in numbers]
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS, requests)
        for prompt, number, (tokens, logprobs) in zip(prompts, numbers, answers, strict=True):
            greedy_tokens, expected = self.references[number].judge(prompt, tokens)
            assert tokens == greedy_tokens, f"adapter {number}"
            torch.testing.assert_close(
                torch.tensor(logprobs), expected, atol=LOGPROB_TOLERANCE, rtol=0
            )


@pytest.fixture(scope="module")
def served(checkpoint, tmp_path_factory):
    made: dict[str, Served] = {}

    def make(name: str) -> Served:
        if name not in made:
            folder = tmp_path_factory.mktemp(f"adapters-{name}")
            made[name] = Served(checkpoint(name), TARGETS[name], folder)
        return made[name]

    return make


@pytest.fixture(scope="module")
def mixed(prompts) -> tuple[list[list[int]], list[int]]:
    """Five prompts, each for the base model and for two adapters, in one batch of fifteen.

    A prefix cached for one of them would be wrong for the others.
    """
    chosen = [prompts[index] for index in (0, 2, 5, 7, 9)]
    return [prompt for prompt in chosen for _ in range(3)], [0, 1, 2] * len(chosen)


@pytest.mark.parametrize("name", TARGETS)
def test_each_adapter_changes_the_answer(name, served, prompts):
    """Otherwise nothing below could fail."""
    said = [reference.judge(prompts[7], prompts[8])[1] for reference in served(name).references]
    for one in range(4):
        for other in range(one):
            assert (said[one] - said[other]).abs().max() > 0.3, (one, other)


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_mixed_batch_equals_merged_weights(name, eager, served, mixed):
    model = served(name)
    with engine(model.folder, enforce_eager=eager, **LORA) as llm:
        mode = llm.llm_engine.vllm_config.compilation_config.mode.name
        assert mode == ("NONE" if eager else "VLLM_COMPILE")
        model.check(llm, *mixed)
        # Again with other neighbours: compiled code may not have kept the first batch's adapters.
        model.check(llm, mixed[0][:4], [2, 0, 0, 1])
        model.check(llm, mixed[0][:3], [0, 0, 0])


def test_log_probabilities_of_prompts_are_those_of_their_own_adapter(served, mixed):
    """With adapters on the output projection, beside requests without one."""
    model = served("llama-even")
    prompts, numbers = mixed
    parameters = SamplingParams(
        temperature=0.0, max_tokens=2, ignore_eos=True, detokenize=False, prompt_logprobs=0
    )
    with engine(model.folder, **LORA) as llm:
        outputs = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            parameters,
            use_tqdm=False,
            lora_request=[model.request(number) for number in numbers],
        )
    for prompt, number, output in zip(prompts, numbers, outputs, strict=True):
        if len(prompt) == 1:
            continue
        said = [step[token].logprob for token, step in zip(prompt[1:], output.prompt_logprobs[1:],
                                                            strict=True)]  # fmt: skip
        _, expected = model.references[number].judge(prompt[:1], prompt[1:])
        torch.testing.assert_close(torch.tensor(said), expected, atol=LOGPROB_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", TARGETS)
def test_without_an_adapter_the_answer_is_the_base_models_to_the_bit(name, served, mixed):
    model = served(name)
    prompts, numbers = mixed
    base = [index for index, number in enumerate(numbers) if number == 0]
    options = {"enable_prefix_caching": False}  # hits would change the shapes of a step
    with engine(model.folder, **options) as llm:
        expected = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    with engine(model.folder, **options, **LORA) as llm:
        requests = [model.request(number) for number in numbers]
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS, requests)
        alone = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    assert alone == expected
    assert [answers[index] for index in base] == [expected[index] for index in base]
    assert answers != expected


def test_chunks_of_a_prompt_keep_the_adapter(served, mixed):
    model = served("qwen3")
    with engine(model.folder, max_num_batched_tokens=16, **LORA) as llm:
        seen = watch_prompts(llm)
        model.check(llm, *mixed)
    assert_split(seen, 16)


def test_a_preempted_request_keeps_its_adapter(served, prompts):
    """Each of the three starts with four blocks and wants a fifth: 15, where there are 13."""
    model = served("qwen3")
    options = {"num_gpu_blocks_override": 14, "block_size": 16, "max_model_len": 128}
    with engine(model.folder, **options, disable_log_stats=False, **LORA) as llm:
        model.check(llm, [prompts[9]] * 3, [1, 2, 0])
        preemptions = next(
            metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions"
        )
    assert preemptions > 0


def test_more_adapters_than_slots_take_turns(served, prompts):
    """Two slots on the device, two in memory, three adapters: each comes, goes and comes back."""
    model = served("llama-even")
    with engine(model.folder, **LORA, max_cpu_loras=2) as llm:
        for _ in range(2):
            model.check(llm, prompts[:8], [1, 2, 3, 0, 3, 2, 1, 0])
        for number in (3, 1, 2):
            model.check(llm, prompts[3:5], [number, 0])


def test_one_slot(served, prompts):
    model = served("qwen3")
    with engine(model.folder, **{**LORA, "max_loras": 1}, max_cpu_loras=3) as llm:
        model.check(llm, prompts[:8], [1, 2, 3, 0, 3, 2, 1, 0])


@pytest.mark.parametrize(
    "sharded",
    [
        pytest.param(False, id="sharded-b", marks=pytest.mark.slow),
        pytest.param(True, id="fully-sharded"),
    ],
)
def test_two_ranks_equal_merged_weights(sharded, served, mixed, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    model = served("llama-even")
    parallel = {"tensor_parallel_size": 2, "fully_sharded_loras": sharded}
    with engine(model.folder, **parallel, **LORA) as llm:
        model.check(llm, *mixed)


# ------------------------------------------------------------------------------- bad adapters


def spoil(source: Path, target: Path, **changes: object) -> Path:
    """A copy of an adapter with other words in its description."""
    target.mkdir()
    described = json.loads((source / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**described, **changes}))
    save_file(load_file(source / "adapter_model.safetensors"), target / "adapter_model.safetensors")
    return target


def test_a_bad_adapter_is_refused_and_the_engine_goes_on(served, prompts, tmp_path):
    model = served("qwen3")
    good = model.adapters[0].folder
    wrong_module = tmp_path / "module"
    spoil(good, wrong_module)
    saved = load_file(good / "adapter_model.safetensors")
    renamed = {key.replace("o_proj", "out_proj"): value for key, value in saved.items()}
    save_file(renamed, wrong_module / "adapter_model.safetensors")
    bad = {
        "rank": (spoil(good, tmp_path / "rank", r=16), "rank 16 is greater than max_lora_rank 8"),
        "dora": (spoil(good, tmp_path / "dora", use_dora=True), "DoRA"),
        "module": (wrong_module, "out_proj"),
        "nothing": (tmp_path / "nothing", f"No adapter found for {tmp_path / 'nothing'}"),
    }
    with engine(model.folder, **LORA) as llm:
        for index, (name, (folder, words)) in enumerate(bad.items()):
            with pytest.raises(REFUSALS, match=words):
                llm.llm_engine.add_lora(LoRARequest(name, 10 + index, str(folder)))
        assert llm.llm_engine.list_loras() == set()
        model.check(llm, prompts[:3], [1, 0, 2])
