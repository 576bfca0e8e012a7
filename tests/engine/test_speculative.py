# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding changes how many tokens a step gives, and not which.

Drafts come from n-grams of the context, or from a draft model: the target itself (everything is
accepted), or the target with noise on its weights (some of it is).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import smollm2
from support.checkpoints import VOCABULARY
from support.engine import engine, greedy, greedy_with_logprobs
from support.engine_state import drafts
from support.reference import Reference
from vllm import LLM, SamplingParams

from vllm_kunlun.ops import vendor_ops

pytestmark = pytest.mark.slow

NEW_TOKENS = 20
DRAFTS = 3
LOGPROB_TOLERANCE = 1e-3
SIGNIFICANCE = 1e-4


@pytest.fixture(scope="module")
def target(checkpoint):
    return checkpoint("qwen3")


@pytest.fixture(scope="module")
def near(target, tmp_path_factory):
    """The target with noise: it often, but not always, says what the target says."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("near")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def repetitive(prompts):
    """Prompts in which n-grams come again, among others in which they do not."""
    return [prompt * 3 if index % 2 else prompt for index, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def expected(target, repetitive):
    reference = Reference(target)
    return [reference.greedy(prompt, NEW_TOKENS) for prompt in repetitive]


@pytest.fixture
def method(request, target, near) -> dict[str, Any]:
    return {
        "ngram": {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 3},
        "same": {"method": "draft_model", "model": str(target)},
        "near": {"method": "draft_model", "model": str(near)},
    }[request.param] | {"num_speculative_tokens": DRAFTS}


METHODS = pytest.mark.parametrize("method", ["ngram", "same", "near"], indirect=True)


def speculating(target: Path, method: dict[str, Any], **arguments: Any) -> Any:
    return engine(target, speculative_config=dict(method), disable_log_stats=False, **arguments)


def check_acceptance(method: dict[str, Any], target: Path, llm: LLM) -> None:
    proposed, accepted = drafts(llm)
    if method.get("model") == str(target):
        assert proposed == accepted > 0
    else:
        assert 0 < accepted < proposed


@pytest.fixture
def query_lens(monkeypatch) -> list[tuple[int, int]]:
    """(query length, requests) of each call of the vendor's decode attention."""
    calls: list[tuple[int, int]] = []
    function = vendor_ops.speculative_attention

    def recorded(**arguments: Any) -> None:
        calls.append((arguments["qlen"], arguments["batch_num"]))
        function(**arguments)

    monkeypatch.setattr(vendor_ops, "speculative_attention", recorded)
    return calls


# --------------------------------------------------------------------------------- greedy


@METHODS
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_tokens_equal_plain_greedy_decoding(
    method, eager, target, repetitive, expected, query_lens
):
    with speculating(target, method, enforce_eager=eager) as llm:
        query_lens.clear()
        assert greedy(llm, repetitive, NEW_TOKENS) == expected
        check_acceptance(method, target, llm)
    # Drafts are verified by the decode function; a model drafts for all requests alike.
    together = max(requests for length, requests in query_lens if length == DRAFTS + 1)
    assert together >= (1 if method["method"] == "ngram" else len(repetitive) - 1)
    assert {length for length, _ in query_lens} <= set(range(1, DRAFTS + 2))


def test_more_drafts_than_decode_takes(target, repetitive, expected, query_lens):
    """40 drafts of n-grams: beyond 32 queries a request they are verified as prefill."""
    method = {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 3}
    with speculating(target, method | {"num_speculative_tokens": 40}) as llm:
        assert greedy(llm, repetitive, NEW_TOKENS) == expected
        proposed, accepted = drafts(llm)
    assert 0 < accepted < proposed
    assert max(length for length, _ in query_lens) <= 32


@METHODS
def test_cached_prefixes_and_pieces_of_prompts_change_nothing(method, target, repetitive, expected):
    """The longest prompt ends at the model's last position, where nothing can be drafted."""
    longest = max(map(len, repetitive))
    runs = 2
    with speculating(
        target,
        method,
        enable_prefix_caching=True,
        enable_chunked_prefill=True,
        max_num_batched_tokens=40,
        max_num_seqs=8,
        block_size=16,
        max_model_len=longest + NEW_TOKENS,
    ) as llm:
        for _ in range(runs):
            assert greedy(llm, repetitive, NEW_TOKENS) == expected
        hits = next(m.value for m in llm.get_metrics() if m.name == "vllm:prefix_cache_hits")
        proposed, accepted = drafts(llm)
    assert hits > 0 and accepted > 0
    if method.get("model") == str(target):
        # vLLM drafts behind a piece of a prompt, too, and verifies that behind the next piece.
        assert proposed - accepted <= DRAFTS * len(repetitive) * runs


def test_logprobs_are_the_targets(target, near, repetitive, expected):
    method = {"method": "draft_model", "model": str(near), "num_speculative_tokens": DRAFTS}
    reference = Reference(target)
    with speculating(target, method) as llm:
        answers = greedy_with_logprobs(llm, repetitive, NEW_TOKENS)
    for prompt, want, (tokens, logprobs) in zip(repetitive, expected, answers, strict=True):
        assert tokens == want
        _, wanted = reference.judge(prompt, tokens)
        torch.testing.assert_close(torch.tensor(logprobs), wanted, atol=LOGPROB_TOLERANCE, rtol=0)


def test_requests_with_fewer_drafts_share_a_batch(target, repetitive, expected, monkeypatch):
    """N-grams give one request three drafts, another one, another none."""
    from vllm_kunlun.ops.attention.metadata import KunlunAttentionMetadataBuilder

    seen: list[tuple[int, list[int]]] = []
    build = KunlunAttentionMetadataBuilder.build

    def recorded(self: Any, *arguments: Any, **named: Any) -> Any:
        made = build(self, *arguments, **named)
        decoding = 0 if made.decode is None else made.decode.num_requests
        seen.append((decoding, made.common.query_lod_host.diff().tolist()))
        return made

    monkeypatch.setattr(KunlunAttentionMetadataBuilder, "build", recorded)
    method = {
        "method": "ngram",
        "prompt_lookup_min": 1,
        "prompt_lookup_max": 3,
        "num_speculative_tokens": DRAFTS,
    }
    with speculating(target, method) as llm:
        assert greedy(llm, repetitive, NEW_TOKENS) == expected
    mixed = [
        (decoding, lengths)
        for decoding, lengths in seen
        if len(set(lengths)) > 1 and max(lengths) <= DRAFTS + 1
    ]
    assert mixed
    # The leading requests of one length are decoded, with several tokens each where they have them.
    assert any(decoding > 0 and lengths[0] > 1 for decoding, lengths in mixed)
    assert all(
        decoding == len(list(itertools.takewhile(lambda n, first=lengths[0]: n == first, lengths)))
        for decoding, lengths in mixed
    )


def test_real_weights_with_n_grams():
    """A text that repeats itself: most of what n-grams propose is right."""
    from transformers import AutoTokenizer

    folder = smollm2.checkpoint()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["The quick brown fox jumps over the lazy dog. " * 6, "1, 2, 3, 1, 2, 3, 1, 2,", "Hi"]
    prompts = [tokenizer(text)["input_ids"] for text in texts]
    method = {
        "method": "ngram",
        "prompt_lookup_min": 2,
        "prompt_lookup_max": 4,
        "num_speculative_tokens": 4,
    }
    with speculating(
        folder,
        method,
        enforce_eager=False,
        max_model_len=256,
        kv_cache_memory_bytes=256 * 2**20,
    ) as llm:
        answers = greedy(llm, prompts, 48)
        proposed, accepted = drafts(llm)
    reference = Reference(folder)
    for prompt, tokens in zip(prompts, answers, strict=True):
        assert tokens == reference.judge(prompt, tokens)[0]
    assert accepted > 0.5 * proposed > 0


# ------------------------------------------------------------------------------- sampling

TOP_K = 3
PLACES = 3
REQUESTS = 3_000


def p_value(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's chi-square, rare outcomes pooled."""
    wanted = expected.double() * counts.sum()
    large = wanted >= 5
    pooled = torch.cat([counts[large].double(), counts[~large].sum().double().view(1)])
    wanted = torch.cat([wanted[large], wanted[~large].sum().view(1)])
    pooled, wanted = pooled[wanted > 0], wanted[wanted > 0]
    statistic = ((pooled - wanted) ** 2 / wanted).sum()
    freedom = torch.tensor((len(wanted) - 1) / 2.0, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


@torch.inference_mode()
def joint_distribution(reference: Reference, prompt: list[int]) -> dict[tuple[int, ...], float]:
    """The probability of each way to go on for ``PLACES`` tokens, by HF's logits."""
    paths: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(PLACES):
        longer = {}
        for path, probability in paths.items():
            logits = reference.model(torch.tensor([[*prompt, *path]])).logits[0, -1]
            best = logits.double().topk(TOP_K)
            for token, share in zip(best.indices, best.values.softmax(-1), strict=True):
                longer[(*path, int(token))] = probability * float(share)
        paths = longer
    return paths


def a_prompt_whose_n_grams_are_likely(reference: Reference) -> list[int]:
    """A shuffled vocabulary in which some likely next token stands before a likely successor."""
    random = torch.Generator().manual_seed(11)
    for _ in range(400):
        prompt = (3 + torch.randperm(VOCABULARY - 3, generator=random)[:160]).tolist()
        for first in likely(reference, prompt):
            successor = dict(itertools.pairwise(prompt)).get(first)
            if successor in likely(reference, [*prompt, first]):
                return prompt
    raise AssertionError("no such prompt was found")


@torch.inference_mode()
def likely(reference: Reference, tokens: list[int]) -> list[int]:
    best = reference.model(torch.tensor([tokens])).logits[0, -1].topk(TOP_K)
    return best.indices[best.values.softmax(-1) > 0.1].tolist()


def sample(llm: LLM, prompts: list[list[int]], seeds: list[int], count: int) -> list[Any]:
    outputs = llm.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        [
            SamplingParams(
                temperature=1.0,
                top_k=TOP_K,
                seed=seed,
                max_tokens=count,
                ignore_eos=True,
                detokenize=False,
            )
            for seed in seeds
        ],
        use_tqdm=False,
    )
    return [tuple(output.outputs[0].token_ids) for output in outputs]


@METHODS
def test_random_sampling_keeps_the_targets_distribution(method, target):
    """Over many seeds; the first token is drawn by the sampler, the others are verified drafts."""
    reference = Reference(target)
    prompt = a_prompt_whose_n_grams_are_likely(reference)
    paths = joint_distribution(reference, prompt)
    with speculating(
        target,
        method,
        enable_prefix_caching=True,
        block_size=16,
        max_num_seqs=250,
        max_num_batched_tokens=4096,
        kv_cache_memory_bytes=256 * 2**20,
    ) as llm:
        drawn = sample(llm, [prompt] * REQUESTS, list(range(REQUESTS)), PLACES)
        proposed, accepted = drafts(llm)
    assert 0 < accepted < proposed
    assert set(drawn) <= set(paths)
    order = {path: place for place, path in enumerate(paths)}
    counts = torch.bincount(torch.tensor([order[path] for path in drawn]), minlength=len(paths))
    assert p_value(counts, torch.tensor(list(paths.values()))) > SIGNIFICANCE


def test_one_seed_gives_one_answer_whatever_the_batch(target, near, repetitive):
    method = {"method": "draft_model", "model": str(near), "num_speculative_tokens": DRAFTS}
    seeds = list(range(len(repetitive)))
    with speculating(target, method) as llm:
        together = sample(llm, repetitive, seeds, NEW_TOKENS)
        assert sample(llm, repetitive, seeds, NEW_TOKENS) == together
        alone = [
            sample(llm, [prompt], [seed], NEW_TOKENS)[0]
            for prompt, seed in zip(repetitive[::3], seeds[::3], strict=True)
        ]
    assert alone == together[::3]


def test_greedy_and_random_requests_share_a_batch(target, near, repetitive, expected):
    method = {"method": "draft_model", "model": str(near), "num_speculative_tokens": DRAFTS}
    parameters = [
        SamplingParams(
            temperature=float(index % 2),
            max_tokens=NEW_TOKENS,
            ignore_eos=True,
            detokenize=False,
        )
        for index in range(len(repetitive))
    ]
    with speculating(target, method) as llm:
        outputs = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in repetitive], parameters, use_tqdm=False
        )
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    assert tokens[::2] == expected[::2]
    assert all(got != want for got, want in zip(tokens[1::2], expected[1::2], strict=True))
