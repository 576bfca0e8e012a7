# SPDX-License-Identifier: Apache-2.0
"""The rejection sampler behind vLLM's class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from vllm.v1.sample.logits_processor import LogitsProcessors
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata

from vllm_kunlun.ops.speculation import verification
from vllm_kunlun.ops.vllm_modules import rejection_sampler as ours
from vllm_kunlun.platforms.errors import UnsupportedError

VOCABULARY = 11


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def metadata(requests: int, **changes: Any) -> SamplingMetadata:
    values: dict[str, Any] = {
        "temperature": None,
        "all_greedy": True,
        "all_random": False,
        "top_p": None,
        "top_k": None,
        "generators": {},
        "max_num_logprobs": None,
        "no_penalties": True,
        "prompt_token_ids": None,
        "frequency_penalties": torch.zeros(requests),
        "presence_penalties": torch.zeros(requests),
        "repetition_penalties": torch.ones(requests),
        "output_token_ids": [[] for _ in range(requests)],
        "allowed_token_ids_mask": None,
        "bad_words_token_ids": {},
        "logitsprocs": LogitsProcessors(),
        **changes,
    }
    return SamplingMetadata(**values)


def spec_metadata(drafts: list[list[int]]) -> SpecDecodeMetadata:
    """Rows of logits lie request by request: its drafts' places, then the bonus place."""
    made = SpecDecodeMetadata.make_dummy(drafts, torch.device("cpu"))
    first, target, bonus = 0, [], []
    for each in drafts:
        target += range(first, first + len(each))
        bonus.append(first + len(each))
        first += len(each) + 1
    made.target_logits_indices = torch.tensor(target, dtype=torch.int32)
    made.bonus_logits_indices = torch.tensor(bonus, dtype=torch.int32)
    return made


def test_vllms_class_runs_greedily() -> None:
    drafts = [[4, 5], [], [6]]
    logits = torch.randn(6, VOCABULARY, generator=generator(1))
    best = logits.argmax(-1).tolist()
    drafts[0][0] = best[0]
    drafts[2][0] = (best[4] + 1) % VOCABULARY
    drafts[0][1] = (best[1] + 1) % VOCABULARY
    output = ours.RejectionSampler(Sampler())(
        spec_metadata(drafts), None, logits.clone(), metadata(3)
    )
    assert output.sampled_token_ids.tolist() == [
        [best[0], best[1], -1],
        [best[3], -1, -1],
        [best[4], -1, -1],
    ]


def test_temperature_and_filters_of_each_request_are_applied() -> None:
    """What may come out of each request is what its own filter leaves, and nothing else."""
    drafts = [[1, 2], [], [3], [4, 5, 6]]
    logits = 2 * torch.randn(10, VOCABULARY, generator=generator(2))
    top_k = torch.tensor([2, 3, VOCABULARY, 1], dtype=torch.int32)
    temperature = torch.tensor([0.7, 1.0, 0.0, 1.3])
    first = [0, 3, 4, 6]
    torch.manual_seed(0)
    seen: list[set[int]] = [set() for _ in drafts]
    for _ in range(200):
        output = ours.RejectionSampler(Sampler())(
            spec_metadata(drafts),
            None,
            logits.clone(),
            metadata(4, all_greedy=False, temperature=temperature, top_k=top_k),
        )
        for request, row in enumerate(output.sampled_token_ids.tolist()):
            seen[request].add(row[0])
    for request, allowed in enumerate([2, 3, 1, 1]):
        assert seen[request] == set(logits[first[request]].topk(allowed).indices.tolist())


def test_logprobs_are_those_of_the_tokens_that_came_out() -> None:
    drafts = [[1, 2], [3]]
    logits = torch.randn(5, VOCABULARY, generator=generator(3))
    drafts[0][0] = int(logits[0].argmax())
    sampler = ours.RejectionSampler(Sampler())
    output = sampler(spec_metadata(drafts), None, logits.clone(), metadata(2, max_num_logprobs=2))
    tokens, lists = sampler.parse_output(
        output.sampled_token_ids, VOCABULARY, logprobs_tensors=output.logprobs_tensors
    )
    wanted = [logits[row].log_softmax(-1)[token] for row, token in
              zip([0, 1, 3], [*tokens[0][:2], tokens[1][0]], strict=True)]  # fmt: skip
    assert lists is not None
    found = [*lists.logprobs[: len(tokens[0])][:2, 0], lists.logprobs[len(tokens[0])][0]]
    torch.testing.assert_close(torch.tensor(found), torch.stack(wanted))


@pytest.mark.parametrize("rule", ["synthetic_mode", "fly_window_size", "use_fp64_gumbel"])
def test_another_rule_is_refused(rule: str) -> None:
    drafts = torch.tensor([3], dtype=torch.int32)
    step = (drafts, [1], 1, torch.tensor([1]), None, torch.ones(1, VOCABULARY) / VOCABULARY)
    bonus, sampling = torch.tensor([[2]]), metadata(1)
    assert ours.rejection_sample(*step, bonus, sampling, **{rule: None}).shape == (1, 2)
    with pytest.raises(UnsupportedError, match=rule):
        ours.rejection_sample(*step, bonus, sampling, **{rule: 4})


def test_other_names_of_the_module_are_vllms() -> None:
    from vllm.v1.sample import rejection_sampler as imported

    assert imported is ours
    assert ours.PLACEHOLDER_TOKEN_ID == verification.REJECTED
    with pytest.raises(AttributeError, match="no_such_name"):
        ours.no_such_name  # noqa: B018
