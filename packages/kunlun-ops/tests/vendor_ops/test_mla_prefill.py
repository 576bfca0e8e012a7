# SPDX-License-Identifier: Apache-2.0
"""The latent attention's prefill adapter passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_latent_prefill_arguments(recorders: dict[str, Recorder]) -> None:
    names = ["q", "k_cache", "v_cache", "out", "is_causal", "context_seq_lod_cpu",
             "context_seq_lod_xpu", "alpha", "softmax_lse"]  # fmt: skip
    keys = ["context_kvlen_lod_cpu", "context_kvlen_lod_xpu"]
    vendor_ops.attention(**{name: name for name in names})
    vendor_ops.attention(**{name: name for name in names + keys})
    product = ["x", "weight_i8", "weight_max", "out", "lod", "idx"]
    vendor_ops.mla_bmm_I8(*product)
    absent = ["k_perchannel_scale", "v_perchannel_scale", "smooth", "slot_mapping_cpu",
              "slot_mapping_xpu"]  # fmt: skip
    constants = {"is_prefill": True, "prefill_len": 0, "v_trans": False, "v_trans_threshold": 0,
                 "unpadded_lse": True, **dict.fromkeys(absent)}  # fmt: skip
    assert recorders["kunlun_ops"].calls == [
        ("attention", (), {name: name for name in names} | constants),
        ("attention", (), {name: name for name in names + keys} | constants),
        ("mla_bmm_I8", tuple(product), {"trans": False}),
    ]
