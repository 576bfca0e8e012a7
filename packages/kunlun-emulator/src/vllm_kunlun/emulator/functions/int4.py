# SPDX-License-Identifier: Apache-2.0
"""Weights of 4 and 8 bits in the card's layouts: unpacked, and multiplied while they are packed.

A word is an int32; nibble ``i`` is its bits ``4 i`` to ``4 i + 3``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from vllm_kunlun.emulator.checks import FLOATS, check_shape, check_tensor, require
from vllm_kunlun.emulator.kernels import int4, int4_dots, int4_groups, int4_products, int4_row
from vllm_kunlun.emulator.kernels.items import as_array
from vllm_kunlun.emulator.replay import replayable
from vllm_kunlun.ops.compiled import use_threads
from vllm_kunlun.ops.contract.limits import FAST_LAYOUT_COLUMNS

__all__ = ["awq_dequantize", "awq_gemm", "gptq_gemm"]

_INT32 = (torch.int32,)
_FLOAT16 = (torch.float16,)

_FEW_ROWS = 32
"""Up to so many rows a weight is multiplied in parts; more pay for unpacking it once."""
_PANEL_COLUMNS = 512
"""Columns unpacked at once for many rows: memory that the product finds in the cache."""


def awq_dequantize(
    *,
    qweight: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    weight: torch.Tensor,
    group_m: int,
    quant_type: int = 0,
    align_type: int,
) -> None:
    """``weight[k, n] = (q[k, n] - z[k // g, n]) * s[k // g, n]``, float16.

    Shapes: qweight int32 ``[K, N / 8]``, scales float16 ``[K / g, N]``, zeros int32
    ``[K / g, N / 8]``, weight float16 ``[K, N]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``kunlun_ops.awq_dequantize``.
    """
    name = "awq_dequantize"
    require(quant_type == 0, name, "quant_type", "0", quant_type)
    shape = qweight.shape[0], qweight.shape[1] * 8 if qweight.dim() == 2 else 0
    check_tensor(name, "weight", weight, _FLOAT16, 2)
    _check_awq(name, qweight, ("scales", scales), ("zeros", zeros), group_m, align_type)
    packed = _AlongOutputs(qweight, zeros, scales, align_type)
    check_shape(name, "weight", weight, shape)
    for low, high in _panels(shape[1]):
        weight[:, low:high] = packed.in_order(packed.panel(low, high - low).half())


@replayable
def awq_gemm(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    scale: torch.Tensor,
    zeros: torch.Tensor,
    out: torch.Tensor,
    align_type: int,
    group_size: int,
) -> None:
    """``out = x W`` with ``W`` as of :func:`awq_dequantize`, float16 with float32 sums.

    Shapes: x float16 ``[M, K]``, w int32 ``[K, N / 8]``, scale float16 ``[K / g, N]``, zeros int32
    ``[K / g, N / 8]``, out float16 ``[M, N]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``kunlun_ops.awq_gemm``.
    """
    name = "awq_gemm"
    check_tensor(name, "x", x, _FLOAT16, 2)
    _check_awq(name, w, ("scale", scale), ("zeros", zeros), group_size, align_type, "w")
    inputs, columns = w.shape[0], scale.shape[1]
    check_shape(name, "x", x, (x.shape[0], inputs))
    check_tensor(name, "out", out, _FLOAT16, 2)
    check_shape(name, "out", out, (x.shape[0], columns))
    if _are_in_turn(x.shape[0], columns // 2) and group_size % 4 == 0:
        codes, zero_codes = (each.numpy().view(np.uint8) for each in (w, zeros))
        halves, block = as_array(scale), _block(align_type)
        use_threads(inputs * columns)
        int4_row.along_outputs(
            as_array(x), codes, zero_codes, halves, block, torch.get_num_threads(), as_array(out)
        )
    else:
        out.copy_(_product(x.float(), _AlongOutputs(w, zeros, scale, align_type)))


@replayable
def gptq_gemm(
    x: torch.Tensor,
    qweight: torch.Tensor,
    qzeros: torch.Tensor,
    scales: torch.Tensor,
    g_idx: torch.Tensor,
    use_exllama: bool,
    bits: int,
    /,
) -> torch.Tensor:
    """``x W`` with ``W = (q - (z + 1)) * s``, float32 sums.

    Words of ``qweight`` run along the input, lowest bits first; 4-bit zeros are in the fast layout
    of 64 columns, 8-bit ones run along the output. A non-empty ``g_idx`` is the order in which
    the inputs were quantised: row ``i`` of ``qweight`` belongs to input ``g_idx[i]``.

    Shapes: x ``[M, K]``, qweight int32 ``[K bits / 32, N]``, qzeros int32 ``[G, N bits / 32]``,
    scales ``[G, N]``, g_idx int32 ``[K]`` or empty -> ``[M, N]`` of the dtype of x.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 6, ``xspeedgate_ops.gptq_gemm``.
    """
    name = "xspeedgate_ops.gptq_gemm"
    require(bits in (4, 8), name, "bits", "4 or 8", bits)
    check_tensor(name, "x", x, FLOATS, 2)
    check_tensor(name, "qweight", qweight, _INT32, 2)
    check_tensor(name, "qzeros", qzeros, _INT32, 2)
    check_tensor(name, "scales", scales, (x.dtype,), 2)
    check_tensor(name, "g_idx", g_idx, _INT32, 1)
    per_word = 32 // bits
    inputs, outputs = qweight.shape[0] * per_word, qweight.shape[1]
    groups = scales.shape[0]
    check_shape(name, "x", x, (x.shape[0], inputs))
    check_shape(name, "scales", scales, (groups, outputs))
    check_shape(name, "qzeros", qzeros, (groups, outputs // per_word))
    ok = groups > 0 and inputs % groups == 0
    require(ok, name, "scales", f"of a number of groups that divides {inputs}", groups)
    require(g_idx.numel() in (0, inputs), name, "g_idx", f"empty or of {inputs}", g_idx.numel())
    if bits == 4:
        ok = outputs % FAST_LAYOUT_COLUMNS == 0
        expected = f"of a multiple of {FAST_LAYOUT_COLUMNS} columns for 4 bits"
        require(ok, name, "qzeros", expected, outputs)
    if g_idx.numel():
        x = x.index_select(1, g_idx)
    is_of_words = inputs // groups % per_word == 0
    if bits == 4 and is_of_words and _are_in_turn(x.shape[0], outputs):
        out = torch.empty(x.shape[0], outputs, dtype=x.dtype)
        words, codes = qweight.numpy().view(np.uint32), qzeros.numpy().view(np.uint8)
        use_threads(inputs * outputs)
        int4_row.ALONG_INPUTS[x.dtype](as_array(x), words, codes, as_array(scales), as_array(out))
        return out
    if bits == 4:
        zeros = torch.empty(groups, outputs, dtype=torch.float32)
        use_threads(zeros.numel())
        int4_groups.in_columns(qzeros.numpy().view(np.uint8), _block(1), zeros.numpy())
    else:
        zeros = qzeros.view(torch.uint8).float() + 1
    packed = _AlongInputs(qweight, zeros, scales.float(), bits)
    return _product(x.float(), packed).to(x.dtype)


class _AlongInputs:
    """A weight ``[K, N]`` whose words run along the inputs.

    Shapes: words int32 ``[K bits / 32, N]``, zeros and scales float32 ``[G, N]``.
    """

    def __init__(
        self, words: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor, bits: int
    ) -> None:
        self.shape = words.shape[0] * 32 // bits, words.shape[1]
        self._arrays = words.numpy().view(np.uint32), zeros.numpy(), scales.numpy()
        self._bits = bits

    def panel(self, low: int, width: int) -> torch.Tensor:
        """Columns ``low`` and following: float32 ``[K, width]``."""
        panel = torch.empty(self.shape[0], width, dtype=torch.float32)
        use_threads(panel.numel())
        int4.along_inputs(*self._arrays, self._bits, low, panel.numpy())
        return panel

    def in_order(self, columns: torch.Tensor) -> torch.Tensor:
        """A panel's columns, or what was computed of each, in the weight's order: as they are."""
        return columns

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """``x W``, float32, of a few rows."""
        out = torch.empty(x.shape[0], self.shape[1], dtype=torch.float32)
        use_threads(self.shape[0] * self.shape[1])
        int4_products.rows_along_inputs(x.numpy(), *self._arrays, self._bits, out.numpy())
        return out


class _AlongOutputs:
    """A weight ``[K, N]`` of AWQ, in two planes: the high nibbles of all bytes and the low ones.

    Shapes: words int32 ``[K, N / 8]``, zeros int32 ``[G, N / 8]``, scales float16 ``[G, N]``.
    """

    def __init__(
        self, words: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor, align_type: int
    ) -> None:
        self.shape = words.shape[0], scales.shape[1]
        self._align_type = align_type
        by_plane = np.empty((2, scales.shape[0], 2, scales.shape[1] // 2), np.float32)
        codes, halves = zeros.numpy().view(np.uint8), scales.view(torch.int16).numpy()
        use_threads(by_plane.size)
        int4_groups.in_planes(codes, halves, _block(align_type), by_plane[0], by_plane[1])
        self._arrays = words.numpy().view(np.uint8), by_plane[0], by_plane[1]

    def panel(self, low: int, width: int) -> torch.Tensor:
        """Columns ``low`` and following by plane: float32 ``[K, width]``."""
        panel = torch.empty(self.shape[0], 2, width // 2, dtype=torch.float32)
        use_threads(panel.numel())
        int4.along_outputs(*self._arrays, low // 2, panel.numpy())
        return panel.flatten(1)

    def in_order(self, columns: torch.Tensor) -> torch.Tensor:
        """A panel's columns, or what was computed of each, in the weight's order."""
        return _from_planes(columns.unflatten(1, (2, -1)), self._align_type)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """``x W``, float32, of a few rows."""
        out = torch.empty(x.shape[0], 2, self.shape[1] // 2, dtype=torch.float32)
        use_threads(self.shape[0] * self.shape[1])
        int4_products.rows_along_outputs(x.numpy(), *self._arrays, out.numpy())
        return _from_planes(out, self._align_type)


def _are_in_turn(rows: int, width: int) -> bool:
    """Whether :mod:`.int4_row` multiplies so few rows, by lines of ``width`` bytes or words."""
    return rows <= int4_dots.ROWS and int4_dots.is_there() and width >= int4_dots.BLOCK_BYTES


def _product(x: torch.Tensor, packed: _AlongInputs | _AlongOutputs) -> torch.Tensor:
    """``x W``, float32; ``x`` is contiguous."""
    if x.shape[0] <= _FEW_ROWS:
        return packed.multiply(x)
    out = torch.empty(x.shape[0], packed.shape[1], dtype=torch.float32)
    for low, high in _panels(packed.shape[1]):
        out[:, low:high] = packed.in_order(torch.mm(x, packed.panel(low, high - low)))
    return out


def _panels(columns: int) -> Iterator[tuple[int, int]]:
    for low in range(0, columns, _PANEL_COLUMNS):
        yield low, min(low + _PANEL_COLUMNS, columns)


def _check_awq(
    function: str,
    words: torch.Tensor,
    scales: tuple[str, torch.Tensor],
    zeros: tuple[str, torch.Tensor],
    group: int,
    align_type: int,
    argument: str = "qweight",
) -> None:
    check_tensor(function, argument, words, _INT32, 2)
    inputs, row = words.shape
    ok = group > 0 and inputs % group == 0
    name = "group_m" if argument == "qweight" else "group_size"
    require(ok, function, name, f"a divisor of {inputs} rows", group)
    require(align_type in (0, 1), function, "align_type", "0 or 1", align_type)
    fits = align_type == 0 or row % 8 == 0
    require(fits, function, argument, "of a multiple of 8 words a row for align_type 1", row)
    check_tensor(function, scales[0], scales[1], _FLOAT16, 2)
    check_shape(function, scales[0], scales[1], (inputs // group, row * 8))
    check_tensor(function, zeros[0], zeros[1], _INT32, 2)
    check_shape(function, zeros[0], zeros[1], (inputs // group, row))


def _block(align_type: int) -> int:
    """Bytes whose high nibbles are as many columns in a row, and whose low ones are the next."""
    return FAST_LAYOUT_COLUMNS // 2 if align_type else 1


def _from_planes(planes: torch.Tensor, align_type: int) -> torch.Tensor:
    """``[R, 2, C / 2]`` -> ``[R, C]``, the columns in order.

    In the normal layout (align_type 0) byte ``t`` holds column ``2 t`` high and ``2 t + 1`` low; in
    the fast one (1) byte ``t`` of 32 holds column ``t`` of 64 high and ``32 + t`` low.
    """
    return planes.unflatten(2, (-1, _block(align_type))).transpose(1, 2).flatten(1)
