# SPDX-License-Identifier: Apache-2.0
"""What the whole engine sends to the vendor's libraries, call by call, against the contract.

A recording fake takes the place of the vendor's wheels in the engine's process; the emulator
answers, so the tokens can be held against HF transformers as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import adapters, draft_layer, fake_vendor, sparse, vendor_calls, vision
from support.engine import engine, greedy, greedy_with_logprobs
from support.reference import Reference
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

NEW_TOKENS = 6

ATTENTION = {
    "kunlun_ops.reshape_and_cache_flash",
    "kunlun_ops.prefill_attention on packed keys",
    "kunlun_ops.prefill_attention on the cache",
    "kunlun_ops.speculative_attention",
}

SAMPLING = {
    "kunlun_ops.top_k_sampling_from_probs",
    "kunlun_ops.top_p_sampling_from_probs",
    "kunlun_ops.top_k_top_p_sampling_from_probs",
}

DENSE = {
    *ATTENTION,
    *SAMPLING,
    "kunlun_ops.rmsnorm",
    "kunlun_ops.add_rmsnorm",
    "kunlun_ops.swiglu",
}

QWEN3 = DENSE | {"kunlun_ops.split_norm_rope_neox"}

FEW_EXPERTS = {
    "xspeedgate_ops.moe_active_expert_balance",
    "xspeedgate_ops.fused_moe",
    "xspeedgate_ops.moe_pre_small",
}

EXPERTS = {
    "kunlun_ops.moe_softmax_topk_norm",
    *FEW_EXPERTS,
    # many tokens
    "kunlun_ops.gen_block_statistic",
    "kunlun_ops.moe_pre_sorted",
    "kunlun_ops.moe_fc",
    "kunlun_ops.moe_post",
}

DELTA_RULE = {
    "kunlun_ops.causal_conv1d_fn",
    "kunlun_ops.causal_conv1d_update",
    "kunlun_ops.fused_gdn_gating",
    "kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2",
    "kunlun_ops.l2norm",
    "kunlun_ops.rms_norm_gated",
    "xspeedgate_ops.chunk_fwd_o",
    "xspeedgate_ops.chunk_gated_delta_rule_fwd_h",
    "xspeedgate_ops.chunk_local_cumsum",
    "xspeedgate_ops.chunk_scaled_dot_kkt_fwd",
    "xspeedgate_ops.recompute_w_u_fwd",
    "xspeedgate_ops.solve_tril_ns",
}

# From 0.16 on vLLM gives an adapter's slots to Qwen3's logits, too, and their rows go one by one.
ADAPTERS = {"xspeedgate_ops.sgmv_shrink_cluster", "xspeedgate_ops.sgmv_expand_cluster"}
if "lm_head" in getattr(Qwen3ForCausalLM, "embedding_modules", ()):
    ADAPTERS |= {"xspeedgate_ops.bgmv_shrink_cluster", "xspeedgate_ops.bgmv_expand_cluster"}

LATENT = {
    *SAMPLING,
    *FEW_EXPERTS,
    "kunlun_ops.rmsnorm",
    "kunlun_ops.add_rmsnorm",
    "kunlun_ops.swiglu",
    "kunlun_ops.concat_and_cache_mla",
}

DENSE_LATENT = LATENT | {
    "kunlun_ops.attention",
    "kunlun_ops.attention_merge_stage",
    "kunlun_ops.paged_attention",
    "xspeedgate_ops.flashinfer_rotary_embedding",
    "xspeedgate_ops.gather_and_maybe_dequant_cache",
}

SPARSE_LATENT = LATENT | {
    "kunlun_ops.moe_sigmoid_group_topk_norm",
    "kunlun_ops.I8_mqa_logits",
    "kunlun_ops.I8_paged_mqa_logits",
    "kunlun_ops.fwd_kvcache_mla",
    "kunlun_ops.quant2d",
    "kunlun_ops.rotary_embedding",
    "kunlun_ops.sparse_prefill_fwd_opt",
    "xspeedgate_ops.convert_req_index_to_global_index",
    "xspeedgate_ops.cp_gather_indexer_k_quant_cache",
    "xspeedgate_ops.flashinfer_rotary_embedding",
    "xspeedgate_ops.indexer_k_quant_and_cache",
    "xspeedgate_ops.mask_for_I8_mqa_logits",
    "xspeedgate_ops.topk_per_row",
}


def drafting_sparse_model(folder: Path) -> Path:
    """DeepSeek-V3.2 with a multi-token-prediction layer."""
    return draft_layer.add(sparse.write(folder, topk=24, name="deepseek-v3-mixtures"))


def with_pictures(llm: LLM, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Text, two pictures, a short film."""
    requests = [
        vision.Request("No picture."),
        vision.Request(f"{vision.IMAGE}, {vision.IMAGE}", [vision.picture(0, 60, 90)] * 2),
        vision.Request(f"{vision.VIDEO}.", video=vision.clip(1, 4, 56, 84)),
    ]
    sampling = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
    outputs = llm.generate([each.for_vllm() for each in requests], sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def with_adapters(llm: LLM, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Every second prompt with an adapter."""
    base = Path(llm.llm_engine.model_config.model)
    folder = base.parent / "recorded-adapter"
    if not folder.exists():
        adapters.write(Reference(base).model, folder, adapters.ATTENTION, rank=8, alpha=16)
    requests = [LoRARequest("one", 1, str(folder)) if n % 2 else None for n in range(len(prompts))]
    return [tokens for tokens, _ in greedy_with_logprobs(llm, prompts, count, requests)]


@dataclass
class Run:
    """One engine under the fake: a tiny model, vLLM's options, and exactly what it must call.

    The model is one of :mod:`support.checkpoints`, or what ``checkpoint`` writes.
    ``say`` has the engine answer; HF transformers is asked too if it is plain greedy decoding in
    float32.
    """

    checkpoint: str | Callable[[Path], Path]
    calls: set[str]
    options: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    say: Callable[[LLM, Sequence[Sequence[int]], int], list[list[int]]] = greedy


RUNS = {
    "qwen3": Run("qwen3", QWEN3),
    "compiled": Run("qwen3", QWEN3, {"enforce_eager": False}),
    "float16": Run("qwen3", QWEN3, dtype=torch.float16),
    "two-ranks": Run(
        "qwen2",
        DENSE | {"kunlun_ops.rotary_embedding", "xspeedgate_ops.get_masked_input_and_mask"},
        {"tensor_parallel_size": 2},
    ),
    # Prompts of 229 tokens in steps of 160: 1280, then 552 pairs of token and expert.
    "qwen3-moe": Run(
        "qwen3-moe",
        QWEN3 | EXPERTS,
        {"max_num_batched_tokens": 160},
    ),
    "lora": Run(
        "qwen3",
        QWEN3 | ADAPTERS,
        {"enable_lora": True, "max_lora_rank": 8},
        say=with_adapters,
    ),
    # 16-bit: the contract knows the delta rule in no other.
    "hybrid": Run(
        "qwen3-next-long-blocks",
        DELTA_RULE
        | ATTENTION
        | SAMPLING
        | (EXPERTS - {"kunlun_ops.gen_block_statistic", "kunlun_ops.moe_pre_sorted"})
        | {
            "kunlun_ops.gemma_rmsnorm",
            "kunlun_ops.gemma_add_rmsnorm",
            "kunlun_ops.swiglu",
            "xspeedgate_ops.split_norm_rope_neox",
        },
        {"block_size": None, "max_num_batched_tokens": 160},
        torch.float16,
    ),
    "vision": Run(
        partial(vision.write, "qwen3-vl"),
        DENSE | {"flash_attn.flash_attn_varlen_func", "xspeedgate_ops.mrotary_embedding_fwd_v0"},
        {
            "skip_tokenizer_init": False,
            "limit_mm_per_prompt": {"image": 2, "video": 1},
            "max_num_batched_tokens": 64,
        },
        torch.float16,
        say=with_pictures,
    ),
    "latent": Run("deepseek-v2", DENSE_LATENT, {"block_size": 64}, torch.float16),
    "sparse-drafts": Run(
        drafting_sparse_model,
        SPARSE_LATENT,
        {
            "block_size": 64,
            "speculative_config": {"method": "mtp", "num_speculative_tokens": 2},
        },
        torch.bfloat16,
    ),
}

LATER = {"compiled", "float16", "two-ranks", "vision"}
"""Left to the slow session: a minute each."""


@pytest.fixture
def records(tmp_path, monkeypatch):
    """The folder to which an engine started in this test records its calls."""
    folder = tmp_path / "records"
    for name, value in fake_vendor.environment(folder).items():
        monkeypatch.setenv(name, value)
    # A process of its own: in this one the emulator may have been chosen already.
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    path = fake_vendor.import_path()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]))
    for entry in reversed(path):
        monkeypatch.syspath_prepend(entry)
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LATER)) for name in RUNS]
)
def test_every_call_is_within_the_contract(name, checkpoint, prompts, records, tmp_path):
    run = RUNS[name]
    if isinstance(run.checkpoint, str):
        folder = checkpoint(run.checkpoint, run.dtype)
    else:
        folder = run.checkpoint(tmp_path / "model")
    options = {
        "dtype": str(run.dtype).removeprefix("torch."),
        "block_size": 16,
        "enable_prefix_caching": True,
        "max_num_batched_tokens": 48,  # longer prompts come in chunks
        **run.options,
    }
    with engine(folder, **options) as llm:
        answers = run.say(llm, prompts, NEW_TOKENS)
        again = run.say(llm, prompts, NEW_TOKENS)  # now from the prefix cache
        _sample(llm, prompts)
    if run.say is greedy and run.dtype is torch.float32:
        reference = Reference(folder)
        assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts] == again
    calls = list(vendor_calls.read(records))
    fake_vendor.assert_within_contract(calls)
    assert {_called(call) for call in calls} == run.calls


def _called(call):
    """The function, and which of its two uses where it has two."""
    name = call["function"]
    if name != "kunlun_ops.prefill_attention":
        return name
    return f"{name} on {'the cache' if 'is_prefix_cache' in call['kwargs'] else 'packed keys'}"


def _sample(llm, prompts):
    parameters = [
        SamplingParams(temperature=1.0, max_tokens=2, ignore_eos=True, detokenize=False, **limits)
        for limits in ({"top_k": 7}, {"top_p": 0.8}, {"top_k": 7, "top_p": 0.8})
    ]
    for each in parameters:
        llm.generate({"prompt_token_ids": prompts[3]}, each, use_tqdm=False)
