# SPDX-License-Identifier: Apache-2.0
"""The products that latent attention's decode does per head: int8 copies beside float views.

    uv run python benchmarks/mla_projections.py

One layer of DeepSeek-V3's size: 128 heads, widths 128 (key), 128 (value) and 512 (latent). It
prints the bytes that each form holds beside `kv_b_proj`, the error against float64, and the time.
In a quantised checkpoint `kv_b_proj` is not a float matrix: there the float form is a copy, not a
view.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

os.environ.setdefault("VLLM_KUNLUN_DEVICE", "emulated")

HEADS, KEY, VALUE, LATENT = 128, 128, 128, 512
ROWS = (1, 16, 64)


def main() -> None:
    import torch

    from vllm_kunlun.mla.projections import FloatProjections, Int8Projections

    torch.manual_seed(0)
    weight = torch.randn(LATENT, HEADS, KEY + VALUE, dtype=torch.float16) / LATENT**0.5
    w_uk = weight[..., :KEY].permute(1, 2, 0)
    w_uv = weight[..., KEY:].transpose(0, 1)
    float_form, int8_form = FloatProjections(w_uk, w_uv), Int8Projections(w_uk, w_uv)
    held = (*int8_form._latent, *int8_form._values)
    copied = (w_uk.numel() + w_uv.numel()) * 2
    print(f"beside kv_b_proj, a layer: float copies {copied / 2**20:.1f} MiB, views 0,", end=" ")
    print(f"int8 {sum(t.nbytes for t in held) / 2**20:.1f} MiB")
    print(f"{'rows':>5} {'float ms':>9} {'int8 ms':>9} {'int8 x':>7} {'error':>8}")
    for rows in ROWS:
        query = torch.randn(rows, HEADS, KEY, dtype=torch.float16)
        exact = torch.einsum("thp,hpl->thl", query.double(), w_uk.double())
        out = torch.empty(rows, HEADS, LATENT, dtype=torch.float16)
        times = [_seconds(form.to_latent, query, out) for form in (float_form, int8_form)]
        error = float((out - exact).abs().max() / exact.abs().max())
        print(f"{rows:5} {times[0] * 1e3:9.2f} {times[1] * 1e3:9.2f}", end=" ")
        print(f"{times[0] / times[1]:7.2f} {error:8.4f}")


def _seconds(call: Callable[..., None], *arguments: object) -> float:
    call(*arguments)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call(*arguments)
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
