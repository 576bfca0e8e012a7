# SPDX-License-Identifier: Apache-2.0
"""One fp8 layer as vLLM builds, loads and runs it: converted to int8, or to the model's dtype."""

from __future__ import annotations

import pytest
import torch
from vllm.model_executor.layers.linear import MergedColumnParallelLinear

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.formats.fp8 import KunlunFp8Config
from vllm_kunlun.quantization.layouts.fp8 import Fp8Layout
from vllm_kunlun.quantization.linear.fp8 import KunlunFp8Scheme

pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.mark.parametrize("kind", ["int8", "float"])
def test_fp8_blocks_in_a_merged_layer(kind, monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_FP8_TO", kind)
    config = KunlunFp8Config(True, "dynamic", [], [16, 8])
    config.packed_modules_mapping = {}
    layer = MergedColumnParallelLinear(
        20, [32, 16], bias=False, quant_config=config, prefix="m.gate_up_proj",
        params_dtype=torch.float32,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    rows = []
    for shard, width in enumerate((32, 16)):
        weight = torch.randn(width, 20, generator=generator).mul(50).to(torch.float8_e4m3fn)
        scale = torch.rand(width // 16, 3, generator=generator) + 0.1
        layer.weight.weight_loader(layer.weight, weight, shard)
        layer.weight_scale_inv.weight_loader(layer.weight_scale_inv, scale, shard)
        every = scale.repeat_interleave(16, 0).repeat_interleave(8, 1)[:, :20]
        rows.append(weight.double() * every.double())
    storage = layer.weight.data_ptr()
    layer.quant_method.process_weights_after_loading(layer)
    layer.quant_method.process_weights_after_loading(layer)
    exact = torch.cat(rows)
    x = torch.randn(4, 20, generator=generator)
    wide = x.double()
    if kind == "int8":
        assert layer.weight.data_ptr() == storage, "converted where it lies"
        step = exact.abs().amax(1, keepdim=True) / 127
        rounded = layer.weight.double() * step
        assert ((rounded - exact).abs() <= 0.501 * step).all()
        exact = rounded
        step = wide.abs().amax(-1, keepdim=True) / 127
        wide = (wide / step).round() * step
    assert not hasattr(layer, "weight_scale_inv")
    with pytest.raises(UnsupportedError, match="Start the server anew"):
        forms.form_of(layer).show()
    torch.testing.assert_close(layer(x)[0].double(), wide @ exact.T, rtol=1e-4, atol=1e-2)
    with pytest.raises(UnsupportedError, match=r"m.gate_up_proj.*Start the server anew"):
        layer.weight.weight_loader(layer.weight, weight, 1)


def test_fp8_blocks_that_do_not_divide_a_matrix_are_refused():
    config = KunlunFp8Config(True, "dynamic", [], [16, 8])
    config.packed_modules_mapping = {}
    with pytest.raises(UnsupportedError, match=r"m.gate_up_proj: .*20 is not divisible"):
        MergedColumnParallelLinear(16, [20, 20], quant_config=config, prefix="m.gate_up_proj")


@pytest.mark.parametrize(
    ("heights", "width", "output_size", "input_size", "refused"),
    [
        ([32, 20], 20, 52, 20, None),  # whole: the last matrix and the last column may be short
        ([32, 20], 20, 104, 20, 20),  # a rank's rows
        ([32, 32], 24, 64, 48, None),
        ([32, 32], 20, 64, 40, 20),  # a rank's columns
    ],
)
def test_which_parts_of_blocks_are_taken(heights, width, output_size, input_size, refused):
    scheme, layer = KunlunFp8Scheme(Fp8Layout("block", block=(16, 8))), torch.nn.Module()

    def create() -> None:
        scheme.create_weights(
            layer, heights, width, torch.float32, lambda *a: None,
            output_size=output_size, input_size=input_size,
        )  # fmt: skip

    if refused is None:
        create()
        return
    with pytest.raises(UnsupportedError, match=f"{refused} is not divisible"):
        create()


@pytest.mark.parametrize(("name", "converts"), [("q_b_proj", True), ("kv_b_proj", False)])
def test_latent_attentions_kv_b_proj_stays_a_float(name, converts):
    scheme, layer = KunlunFp8Scheme(Fp8Layout("tensor")), torch.nn.Module()
    layer.prefix = f"m.{name}"
    scheme.create_weights(layer, [16], 8, torch.float32, lambda *a: None)
    assert scheme.to_int8 is converts
