# SPDX-License-Identifier: Apache-2.0
"""The latent attention's adapter passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_latent_attention_arguments(recorders: dict[str, Recorder]) -> None:
    """Constants are the contract's; the query's LOD stands for the keys' where indices choose."""
    dense = ["out", "q", "k_cache", "table", "cpu", "xpu", "rank", "rope", "scale"]
    vendor_ops.paged_attention(*dense)
    prefill = ["q", "kv", "indices", "out", "max_logits", "lse", "sm_scale", "qlod_cpu",
               "qlod_xpu", "d_v"]  # fmt: skip
    vendor_ops.sparse_prefill_fwd_opt(**{name: name for name in prefill})
    decode = ["q_c", "kv_cache", "indices", "kv_lod_cpu", "kv_lod_xpu", "out", "max_logits",
              "p_sums", "softmax_scale", "max_seq_kv"]  # fmt: skip
    vendor_ops.fwd_kvcache_mla(**{name: name for name in decode})
    lods = {"kvlod_cpu": "qlod_cpu", "kvlod_xpu": "qlod_xpu"}
    flags = {"is_causal": True, "use_xfa_boost": False}
    absent = {"q_r": None, "pe_cache": None, "use_xfa_boost": False}
    positional = (*dense[:3], None, *dense[3:6], False, True, -1, *dense[6:])
    assert recorders["kunlun_ops"].calls == [
        ("paged_attention", positional, {"q_r": "q"}),
        ("sparse_prefill_fwd_opt", (), {**{name: name for name in prefill}, **lods, **flags}),
        ("fwd_kvcache_mla", (), {**{name: name for name in decode}, **absent}),
    ]
