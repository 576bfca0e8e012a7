# SPDX-License-Identifier: Apache-2.0
"""Grammar masks: equal to xgrammar's own kernel, whatever rows have one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xgrammar

from vllm_kunlun.ops.vllm_modules.structured_output import apply_grammar_bitmask, mask_logits


def random_masks(rows: int, vocabulary: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    words = -(-vocabulary // 32)
    return torch.randint(-(2**31), 2**31, (rows, words), generator=generator).to(torch.int32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 31), (1, 32), (3, 33), (50, 1000), (7, 4096)])
def test_every_row_as_xgrammars_kernel(rows, vocabulary, dtype):
    masks = random_masks(rows, vocabulary, rows)
    logits = torch.randn(rows, vocabulary).to(dtype)
    expected = logits.clone()
    xgrammar.apply_token_bitmask_inplace(expected, masks)
    mask_logits(logits, masks)
    assert torch.equal(logits, expected)
    assert logits.isneginf().any()


@pytest.mark.parametrize("seed", range(200))
def test_some_rows_as_xgrammars_kernel(seed):
    generator = np.random.default_rng(seed)
    vocabulary = int(generator.integers(32, 300))  # below 4, xgrammar writes into the next row
    rows = generator.permutation(5)[: generator.integers(1, 6)]
    masks = random_masks(5, vocabulary, seed)
    logits = torch.randn(5, vocabulary)
    expected = logits.clone()
    xgrammar.apply_token_bitmask_inplace(expected, masks, indices=rows.tolist())
    mask_logits(logits, masks[rows], torch.from_numpy(rows.astype(np.int32)))
    assert torch.equal(logits, expected)


@pytest.mark.parametrize(("columns", "words"), [(96, 2), (40, 2), (64, 2)])
def test_neither_side_reaches_beyond_the_other(columns, words):
    """Logits are padded beyond the vocabulary, or the mask to whole words."""
    masks = torch.zeros(2, words, dtype=torch.int32)
    logits = torch.ones(2, columns)
    mask_logits(logits, masks)
    assert logits[:, : 32 * words].isneginf().all()
    assert (logits[:, 32 * words :] == 1).all()


def step(
    drafts: dict[str, int],
    batch: list[str],
    with_grammar: list[str],
    vocabulary: int = 70,
    padded: bool = False,
):
    """What vLLM hands over: a mask for each row of each request in ``with_grammar``.

    Args:
        padded: each request has as many rows as the longest, as in 0.33.
    """
    counts = [1 + drafts.get(each, 0) for each in with_grammar]
    rows = max(counts) * len(counts) if padded else sum(counts)
    return (
        SimpleNamespace(scheduled_spec_decode_tokens={k: [0] * n for k, n in drafts.items()}),
        SimpleNamespace(
            structured_output_request_ids=with_grammar,
            grammar_bitmask=random_masks(rows, vocabulary, 3).numpy(),
        ),
        SimpleNamespace(req_ids=batch),
        torch.randn(sum(1 + drafts.get(each, 0) for each in batch), vocabulary),
    )


class Rows(list):
    def to(self, *_, **__):
        return self


CASES = {
    "all": ({}, ["a", "b"], ["a", "b"]),
    "other order": ({}, ["a", "b", "c"], ["c", "a", "b"]),
    "one without": ({}, ["a", "b", "c"], ["c", "a"]),
    "drafts": ({"a": 2, "c": 1}, ["a", "b", "c"], ["c", "b"]),
    "drafts, all": ({"b": 3}, ["a", "b"], ["b", "a"]),
    "a request that left": ({"gone": 1, "b": 1}, ["a", "b"], ["gone", "b"]),
    "none left": ({}, ["a", "b"], ["gone"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_as_vllms_own_function(case, monkeypatch):
    """vLLM's function is the judge; the index tensor that it pins is the list xgrammar takes."""
    from vllm_kunlun.platforms.ledger import patch_ledger

    patch_ledger.install()
    import vllm.v1.structured_output.utils  # noqa: F401

    theirs = patch_ledger.original("grammar-mask")
    monkeypatch.setattr(torch, "tensor", lambda rows, **_: Rows(rows))
    padded = "mask_stride" in theirs.__code__.co_varnames
    scheduled, grammar, batch, logits = step(*CASES[case], padded=padded)
    expected = logits.clone()
    theirs(scheduled, grammar, batch, expected)
    apply_grammar_bitmask(scheduled, grammar, batch, logits)
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("case", CASES)
def test_as_many_rows_of_the_mask_for_each_request(case):
    """0.33 gives every request the rows of the longest; the rest of them is not read."""
    scheduled, grammar, batch, logits = step(*CASES[case])
    drafts = scheduled.scheduled_spec_decode_tokens
    requests = grammar.structured_output_request_ids
    expected = logits.clone()
    apply_grammar_bitmask(scheduled, grammar, batch, expected)
    counts = [1 + len(drafts.get(each, ())) for each in requests]
    given = iter(grammar.grammar_bitmask)
    longest = max(counts) + 1
    padded = np.zeros((len(counts) * longest, grammar.grammar_bitmask.shape[1]), np.int32)
    for number, count in enumerate(counts):
        for row in range(count):
            padded[number * longest + row] = next(given)
    grammar.grammar_bitmask = padded
    apply_grammar_bitmask(scheduled, grammar, batch, logits)
    assert torch.equal(logits, expected)
