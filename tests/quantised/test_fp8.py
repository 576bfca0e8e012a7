# SPDX-License-Identifier: Apache-2.0
"""fp8 and mxfp4 checkpoints through the engine: against HF with the same conversion."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import float8, sparse, w8a8
from support.agreement import assert_agrees
from support.engine import engine, greedy_with_logprobs
from support.reference import Reference

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

pytestmark = pytest.mark.slow

NEW_TOKENS = 12

KINDS = ["block", "tensor", "compressed-channel", "compressed-block"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [*itertools.product(["qwen2", "qwen3-moe"], KINDS), ("deepseek-v3-even", "block")],
)
def test_int8_by_default(name, kind, checkpoint, prompts, tmp_path):
    source = checkpoint(name)
    folder = float8.write(source, tmp_path / "fp8", kind)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    assert_agrees(
        prompts,
        answers,
        float8.converted_model(source, folder),
        w8a8.float_model(source),
        tolerance=0.03,
    )


@pytest.mark.parametrize("name", ["qwen2", "qwen3-moe", "deepseek-v3-even"])
def test_float_on_request(name, checkpoint, prompts, tmp_path, monkeypatch):
    """No activation is rounded, so the agreement is that of an unquantised model."""
    monkeypatch.setenv("VLLM_KUNLUN_FP8_TO", "float")
    source = checkpoint(name)
    folder = float8.write(source, tmp_path / "fp8", "block")
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    reference = Reference(float8.converted_model(source, folder, to="float"))
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        best, expected = reference.judge(prompt, tokens)
        assert best == tokens
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=5e-4, rtol=0)


@pytest.mark.parametrize("to", ["int8", "float"])
def test_sparse_attention(to, prompts, tmp_path, monkeypatch):
    """DeepSeek-V3.2 in the format that it is published in, against the formulas.

    The formulas round no activation of a layer, so int8 is held to them loosely.
    """
    monkeypatch.setenv("VLLM_KUNLUN_FP8_TO", to)
    folder, plain = float8.write_sparse(sparse.write(tmp_path / "a", topk=24), tmp_path)
    reference = sparse.SparseReference(plain)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    errors = []
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        best, expected = reference.judge(prompt, tokens)
        errors.append((torch.tensor(logprobs) - expected).abs())
        assert to == "int8" or best == tokens
    error = torch.cat(errors).mean().item()
    print(f"mean difference of log-probabilities: {error:.1e}")
    assert error < (0.3 if to == "int8" else 5e-4)


@pytest.mark.parametrize("ranks", [1, 2])
def test_gpt_oss_in_mxfp4(ranks, checkpoint, prompts, tmp_path, monkeypatch):
    """Under expert parallelism no expert is cut, so two ranks answer as one."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", str(int(ranks > 1)))
    source = checkpoint("gpt-oss")
    folder = float8.write_mxfp4(source, tmp_path / "mxfp4")
    parallel = {"tensor_parallel_size": ranks, "enable_expert_parallel": ranks > 1}
    with engine(folder, **parallel) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    assert_agrees(
        prompts,
        answers,
        float8.converted_gpt_oss(source, folder),
        w8a8.float_model(source),
        tolerance=0.03,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: None, r"missing: .*layers\.1\.self_attn\.k_proj\.weight_scale_inv\."),
        (lambda t: t * torch.nan, "qkv_proj: weight_scale_inv holds .* NaN"),
    ],
    ids=["missing", "nan"],
)
def test_a_bad_scale_is_one_clear_error(change, message, checkpoint, tmp_path):
    folder = float8.write(checkpoint("qwen2"), tmp_path / "fp8", "block")
    tensors = load_file(folder / "model.safetensors")
    for name in [n for n in tensors if re.search("1.self_attn.k_proj.weight_scale", n)]:
        changed = change(tensors.pop(name))
        if changed is not None:
            tensors[name] = changed
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message), engine(folder):
        pass


def test_reloading_converted_weights_is_refused(checkpoint, tmp_path):
    folder = float8.write(checkpoint("qwen2"), tmp_path / "fp8", "block")
    with engine(folder) as llm, pytest.raises(UnsupportedError, match="Start the server anew"):
        llm.collective_rpc("reload_weights")


def test_an_fp8_kv_cache_names_the_alternative(checkpoint, tmp_path):
    folder = float8.write(checkpoint("qwen2"), tmp_path / "fp8", "block")
    refused = pytest.raises(Exception, match="--kv-cache-dtype auto")
    with refused, engine(folder, kv_cache_dtype="fp8"):
        pass
