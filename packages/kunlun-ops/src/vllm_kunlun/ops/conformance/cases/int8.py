# SPDX-License-Identifier: Apache-2.0
"""int8: quantisation of activations, and exact products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import FLOATS, Call, Case, Inputs, Outcome

__all__ = ["INT8"]


def halves_to_even(value: float) -> int:
    return round(value)  # Python rounds half to even


def _saturated(values: Tensor) -> Tensor:
    rounded = [halves_to_even(v) for v in values.flatten().tolist()]
    limited = [min(127, max(-128, v)) for v in rounded]
    return torch.tensor(limited, dtype=torch.int8).view(values.shape)


def _near(place: str | int, expected: Tensor) -> Callable[[Outcome], float]:
    """Judge int8 values: one step off is allowed where rounding of the scale decides."""

    def judge(outcome: Outcome) -> float:
        came = outcome[place]
        if came.shape != expected.shape or came.dtype != torch.int8:
            return float("inf")
        if came.numel() == 0:
            return 0.0
        off = (came.int() - expected.int()).abs()
        return float("inf") if int(off.max()) > 1 else float((off > 0).double().mean())

    return judge


def _quant2d(inputs: Inputs, *shape: int) -> Call:
    x = inputs.normal(*shape)
    wide = x.double()
    largest = wide.abs().amax(-1, keepdim=True)
    expected = _saturated(wide * 127 / largest)
    outputs = {
        "y": inputs.empty(*shape, dtype=torch.int8),
        "max": inputs.empty(*shape[:-1], 1, dtype=torch.float32),
    }
    return Call(kwargs={"x": x, **outputs, "force_sdnn": True}, judge=_near("y", expected))


def _quant2d_max(inputs: Inputs, rows: int, columns: int) -> Call:
    x = inputs.normal(rows, columns)
    outputs = {
        "y": inputs.empty(rows, columns, dtype=torch.int8),
        "max": inputs.empty(rows, 1, dtype=torch.float32),
    }
    largest = [[max((abs(v) for v in row), default=0.0)] for row in x.tolist()]
    expected = torch.tensor(largest, dtype=torch.float64).view(rows, 1)
    return Call(kwargs={"x": x, **outputs, "force_sdnn": True}, expected={"max": expected})


def _quant2d_rounding(inputs: Inputs) -> Call:
    x = inputs.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5], [0.0] * 6], inputs.dtype)
    outputs = {
        "y": inputs.empty(2, 6, dtype=torch.int8),
        "max": inputs.empty(2, 1, dtype=torch.float32),
    }

    def results(first: list[int]) -> dict[str, Tensor]:
        y = torch.tensor([first, [0] * 6], dtype=torch.int8)
        return {"y": y, "max": torch.tensor([[127.0], [0.0]])}

    return Call(
        kwargs={"x": x, **outputs, "force_sdnn": True},
        expected=results([127, 0, 2, 2, 0, -2]),
        otherwise={
            "halves go away from zero": results([127, 1, 2, 3, -1, -2]),
            "halves go up": results([127, 1, 2, 3, 0, -1]),
            "fractions are cut off": results([127, 0, 1, 2, 0, -1]),
        },
    )


def _int8(inputs: Inputs, *shape: int) -> Tensor:
    return inputs.integers(-127, 128, *shape, dtype=torch.int8)


def _matmul_int8(inputs: Inputs, rows: int, inner: int, columns: int, *, bias: bool = True) -> Call:
    x, w = _int8(inputs, rows, inner), _int8(inputs, columns, inner)
    x_max = inputs.uniform(rows, 1, dtype=torch.float32)
    w_max = inputs.uniform(columns, 1, dtype=torch.float32)
    addend = inputs.normal(columns, dtype=torch.float32) if bias else None
    exact = (x.long() @ w.long().T).double()
    expected = exact * (x_max.double() / 127) * (w_max.double().T / 127)
    if addend is not None:
        expected += addend.double()
    keywords = {
        **_matmul_keywords(x, w, inputs.empty(rows, columns), addend),
        "x_pc_max": x_max,
        "w_pc_max": w_max,
    }
    return Call(kwargs=keywords, expected={"out": expected})


def _matmul(inputs: Inputs, rows: int, inner: int, columns: int, *, w_trans: bool = True) -> Call:
    x = inputs.normal(rows, inner)
    w = inputs.normal(*((columns, inner) if w_trans else (inner, columns)), scale=inner**-0.5)
    expected = x.double() @ (w.double().T if w_trans else w.double())
    keywords = _matmul_keywords(x, w, inputs.empty(rows, columns), None, w_trans=w_trans)
    return Call(kwargs=keywords, expected={"out": expected})


def _matmul_keywords(
    x: Tensor, w: Tensor, out: Tensor, bias: Tensor | None, *, w_trans: bool = True
) -> dict[str, object]:
    return {
        "x": x, "w": w, "out": out, "x_trans": False, "w_trans": w_trans, "alpha": 1.0,
        "beta": 0.0, "bias": bias, "x_max": None, "w_max": None, "x_pc_max": None, "w_pc_max": None,
    }  # fmt: skip


def _static(inputs: Inputs, rows: int, columns: int, azp: int | None) -> Call:
    x, scale = inputs.normal(rows, columns), inputs.tensor([0.0234375], torch.float32)
    zero = None if azp is None else inputs.tensor([azp], torch.int32)
    steps = (x.double() / 0.0234375).flatten().tolist()
    expected = _saturated(torch.tensor([halves_to_even(v) + (azp or 0.0) for v in steps]))
    out = inputs.empty(rows, columns, dtype=torch.int8)
    return Call((out, x, scale, zero), expected={0: expected.view(rows, columns)})


def _dynamic(inputs: Inputs, rows: int, columns: int) -> Call:
    """What the row becomes when it is put back: within half a step and the zero point's half."""
    x = inputs.normal(rows, columns, scale=3.0) + 1.0
    outputs = (
        inputs.empty(rows, columns, dtype=torch.int8),
        inputs.empty(rows, 1, dtype=torch.float32),
        inputs.empty(rows, 1, dtype=torch.int32),
    )

    def judge(outcome: Outcome) -> float:
        q, scale, azp = (outcome[i].double() for i in (0, 2, 3))
        back = (q - azp) * scale
        off = (back - x.double()).abs() / scale
        return 0.0 if rows == 0 or float(off.max()) <= 1.001 else float("inf")

    return Call((outputs[0], x, *outputs[1:]), judge=judge)


def _dynamic_by_hand(inputs: Inputs) -> Call:
    x = inputs.tensor([[0.0, 255.0, 100.0, 7.0]], inputs.dtype)
    outputs = (
        inputs.empty(1, 4, dtype=torch.int8),
        inputs.empty(1, 1, dtype=torch.float32),
        inputs.empty(1, 1, dtype=torch.int32),
    )
    expected = {
        0: torch.tensor([[-128, 127, -28, -121]], dtype=torch.int8),
        2: torch.tensor([[1.0]]),
        3: torch.tensor([[-128]], dtype=torch.int32),
    }
    return Call((outputs[0], x, *outputs[1:]), expected=expected)


def _scaled_mm(
    inputs: Inputs, rows: int, inner: int, columns: int, *, per_row: bool = True, azp: str = ""
) -> Call:
    """azp: "" for the symmetric function, else "row" (given) or "folded" (in azp_adj)."""
    a, b = _int8(inputs, rows, inner), _int8(inputs, inner, columns)
    scale_a = inputs.uniform(rows if per_row else 1, 1, dtype=torch.float32) * 0.01
    scale_b = inputs.uniform(1, columns if per_row else 1, dtype=torch.float32) * 0.01
    bias = inputs.normal(columns, dtype=torch.float32)
    exact = a.long() @ b.long()
    extra: tuple[Tensor | None, ...] = ()
    if azp:
        zero = inputs.integers(-128, 128, rows, 1)
        column_sums = b.long().sum(0, keepdim=True)
        if azp == "folded":
            zero = zero[:1].expand(rows, 1)
        exact = exact - zero.long() * column_sums
        adjustment = column_sums * (int(zero[0]) if azp == "folded" else 1)
        extra = (adjustment.int(), None if azp == "folded" else zero)
    scales = scale_a.double() * scale_b.double()
    expected = exact.double() * scales + bias.double()
    out = inputs.empty(rows, columns)
    return Call((out, a, b, scale_a, scale_b, *extra, bias), expected={0: expected})


_K, _X = "kunlun_ops.", "xspeedgate_ops."
_STATIC, _DYNAMIC = _X + "static_scaled_int8_quant", _X + "dynamic_scaled_int8_quant"
_MM, _AZP = _X + "cutlass_scaled_mm", _X + "cutlass_scaled_mm_azp"
_STEPS = dict.fromkeys(FLOATS, 0.01)
"""How many values may be one step off, of all."""

INT8 = (
    Case(_K + "quant2d", "rows", lambda i: _quant2d(i, 7, 129), tolerances=_STEPS),
    Case(_K + "quant2d", "three dimensions", lambda i: _quant2d(i, 3, 5, 64), tolerances=_STEPS),
    Case(_K + "quant2d", "one column", lambda i: _quant2d(i, 9, 1), tolerances=_STEPS),
    Case(_K + "quant2d", "max", lambda i: _quant2d_max(i, 7, 129)),
    Case(_K + "quant2d", "no rows", lambda i: _quant2d_max(i, 0, 16)),
    Case(_K + "quant2d", "halves, zeros", _quant2d_rounding, assumption="quant2d-rounding"),
    Case(_K + "matmul", "int8", lambda i: _matmul_int8(i, 5, 96, 33)),
    Case(_K + "matmul", "int8 without bias", lambda i: _matmul_int8(i, 1, 64, 48, bias=False)),
    Case(_K + "matmul", "int8 beyond 2^24", lambda i: _matmul_int8(i, 3, 5000, 16)),
    Case(_K + "matmul", "int8, no rows", lambda i: _matmul_int8(i, 0, 64, 16)),
    Case(_K + "matmul", "floats", lambda i: _matmul(i, 5, 65, 33)),
    Case(_K + "matmul", "floats, w [K, N]", lambda i: _matmul(i, 5, 65, 33, w_trans=False)),
    Case(_STATIC, "symmetric", lambda i: _static(i, 5, 33, None), tolerances=_STEPS),
    Case(_STATIC, "zero point", lambda i: _static(i, 5, 33, -41), tolerances=_STEPS),
    Case(_STATIC, "no rows", lambda i: _static(i, 0, 33, None)),
    Case(_DYNAMIC, "rows", lambda i: _dynamic(i, 7, 129)),
    Case(_DYNAMIC, "no rows", lambda i: _dynamic(i, 0, 16)),
    Case(_DYNAMIC, "[0, 255]", _dynamic_by_hand, assumption="dynamic-asymmetric-range"),
    Case(_MM, "scale per row and column", lambda i: _scaled_mm(i, 5, 96, 33)),
    Case(_MM, "one scale each", lambda i: _scaled_mm(i, 5, 5000, 33, per_row=False)),
    Case(_MM, "no rows", lambda i: _scaled_mm(i, 0, 64, 16)),
    Case(_AZP, "zero point per row", lambda i: _scaled_mm(i, 5, 96, 33, azp="row")),
    Case(_AZP, "zero point folded", lambda i: _scaled_mm(i, 5, 96, 33, azp="folded")),
)
