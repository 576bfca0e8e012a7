# SPDX-License-Identifier: Apache-2.0
"""compressed-tensors' packed dense layers: which are taken, and what they answer."""

from __future__ import annotations

import pytest
import torch
from vllm.model_executor.parameter import GroupQuantScaleParameter, PackedvLLMParameter
from vllm.scalar_type import scalar_types

from vllm_kunlun.quantization.linear.compressed_packed import KunlunMixedPrecisionLinearKernel
from vllm_kunlun.quantization.vllm_compat.linear_kernels import MPLinearLayerConfig

pytestmark = pytest.mark.usefixtures("one_rank")

INPUTS, OUTPUTS, GROUP = 32, 16, 16
ORDERED = "has_g_idx" in MPLinearLayerConfig.__dataclass_fields__
"""Whether vLLM takes rows in the order of their activations; 0.33 does not."""
NAMES = ("weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx")[: 3 + ORDERED]


def configuration(kind, inputs=INPUTS, zero_points=False):
    return MPLinearLayerConfig(
        full_weight_shape=(inputs, OUTPUTS), partition_weight_shape=(inputs, OUTPUTS),
        weight_type=kind, act_type=torch.float32, group_size=GROUP, zero_points=zero_points,
        **({"has_g_idx": False} if ORDERED else {}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "inputs", "takes"),
    [(scalar_types.uint4b8, 32, True), (scalar_types.uint4, 8, True),
     (scalar_types.uint8b128, 4, True), (scalar_types.uint8, 4, True),
     (scalar_types.uint4, 12, False), (scalar_types.uint8, 6, False),
     (scalar_types.uint3b4, 32, False), (scalar_types.float8_e4m3fn, 32, False)],
)  # fmt: skip
def test_which_weights_are_taken(kind, inputs, takes):
    able, reason = KunlunMixedPrecisionLinearKernel.can_implement(configuration(kind, inputs))
    assert able is takes
    assert (reason is None) is takes


def fields(values, bits):
    parts = values.long().unflatten(-1, (-1, 32 // bits))
    return sum(parts[..., i] << bits * i for i in range(32 // bits)).to(torch.int32)


@pytest.mark.parametrize(
    ("kind", "bits", "zero"),
    [(scalar_types.uint4b8, 4, 8), (scalar_types.uint8b128, 8, 128), (scalar_types.uint4, 4, None),
     (scalar_types.uint8, 8, None)],
)  # fmt: skip
@pytest.mark.parametrize("again", [False, True])
def test_values(kind, bits, zero, again, renew):
    """``[N, K]`` with zeros ``[N bits / 32, K / g]``, as the format has them; at run time, too."""
    kernel = KunlunMixedPrecisionLinearKernel(configuration(kind, zero_points=zero is None), *NAMES)
    layer, weight = loaded(bits, zero, seed=0)
    kernel.process_weights_after_loading(layer)
    if again:
        other, weight = loaded(bits, zero, seed=1)
        renew(layer, dict(other.named_parameters()))
    assert not any(hasattr(layer, name) for name in NAMES)
    came = kernel.apply_weights(layer, torch.eye(INPUTS))
    torch.testing.assert_close(came.double(), weight, rtol=1e-4, atol=1e-5)


def loaded(bits, zero, seed):
    generator = torch.Generator().manual_seed(bits + seed)
    codes = torch.randint(1 << bits, (OUTPUTS, INPUTS), generator=generator)
    scales = torch.rand(OUTPUTS, INPUTS // GROUP, generator=generator) / (1 << bits)
    zeros = torch.randint(1, 1 << bits, scales.shape, generator=generator)
    zeros[0, 0] = seed  # 0 is corrected, and what replaces it need not be
    layer = torch.nn.Module()

    def add(name, kind, data, **how):
        how |= {"input_dim": 1, "output_dim": 0, "weight_loader": lambda *a: None}
        layer.register_parameter(name, kind(data=data, **how))

    factor = 32 // bits
    add(
        "weight_packed", PackedvLLMParameter, fields(codes, bits),
        packed_dim=1, packed_factor=factor,
    )  # fmt: skip
    add("weight_scale", GroupQuantScaleParameter, scales)
    if zero is None:
        words = fields(zeros.T, bits).T.contiguous()
        add("weight_zero_point", PackedvLLMParameter, words, packed_dim=0, packed_factor=factor)
    else:
        zeros = torch.full_like(zeros, zero)
    group = torch.arange(INPUTS) // GROUP
    return layer, ((codes - zeros[:, group]) * scales.double()[:, group]).T
