# SPDX-License-Identifier: Apache-2.0
"""Repacking 4-bit weights between the layouts of checkpoints and those of the card.

A word is an int32 of 8 nibbles, nibble ``i`` being its bits ``4 i`` to ``4 i + 3``. Four layouts of
the columns of a row:

============  =====================================================================================
awq           nibbles 0 to 7 of a word hold columns 0 2 4 6 1 3 5 7 (AWQ checkpoints)
sequential    nibble ``i`` holds column ``i`` (the zeros of GPTQ and compressed-tensors)
normal        nibbles 0 to 7 hold columns 1 0 3 2 5 4 7 6 (the card, any width)
fast          of 64 columns byte ``t`` holds column ``32 + t`` low and column ``t`` high
              (the card, 8 words a row or a multiple)
============  =====================================================================================

All functions are pure, each has an inverse, and each moves every bit once. For tensors in host
memory they are compiled loops that hold nothing but argument and result; elsewhere they are torch
operations on pieces of at most :data:`PIECE_WORDS` words, so that beside argument and result there
are at most :data:`PIECE_BYTES` bytes however large the tensor is.

Source: contract section 6.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vllm_kunlun.platforms.errors import KunlunError
from vllm_kunlun.quantization.layouts import nibbles

__all__ = [
    "FAST",
    "NORMAL",
    "PIECE_BYTES",
    "PIECE_WORDS",
    "RepackError",
    "awq_to_kunlun",
    "best_layout",
    "gptq_to_kunlun",
    "kunlun_to_awq",
    "kunlun_to_gptq",
    "pack_inputs",
    "pack_outputs",
]

NORMAL, FAST = 0, 1
"""The card's layouts, as its functions' ``align_type`` names them."""

PIECE_WORDS = 1 << 20
PIECE_BYTES = 4 * 4 * PIECE_WORDS
"""Beside argument and result off the host: a piece's words and three intermediates of its size."""

_BLOCK = 8
"""Words of the fast layout that hold 64 columns; rows or words that become one in a transpose."""


class RepackError(KunlunError, ValueError):
    """A tensor that is not packed as the layout needs it."""


def best_layout(words_per_row: int) -> int:
    """:data:`FAST` where a row is a multiple of 64 columns, else :data:`NORMAL`."""
    return NORMAL if words_per_row % _BLOCK else FAST


def awq_to_kunlun(words: Tensor, layout: int) -> Tensor:
    """An AWQ ``qweight`` or ``qzeros`` in the card's ``layout``. Shapes: int32 ``[.., N / 8]``.

    Raises: RepackError: not int32, or not a multiple of 8 words a row for :data:`FAST`.
    """
    return _convert(words, "awq_to_fast" if layout else "awq_to_normal")


def kunlun_to_awq(words: Tensor, layout: int) -> Tensor:
    """The inverse of :func:`awq_to_kunlun`; same shapes and errors."""
    return _convert(words, "fast_to_awq" if layout else "normal_to_awq")


def gptq_to_kunlun(words: Tensor, layout: int) -> Tensor:
    """4-bit ``qzeros`` of GPTQ (columns in order) in the card's ``layout``; errors as above.

    Shapes: int32 ``[.., N / 8]``.
    """
    return _convert(words, "sequential_to_fast" if layout else "swap_nibbles")


def kunlun_to_gptq(words: Tensor, layout: int) -> Tensor:
    """The inverse of :func:`gptq_to_kunlun`; same shapes and errors."""
    return _convert(words, "fast_to_sequential" if layout else "swap_nibbles")


def pack_outputs(words: Tensor) -> Tensor:
    """From nibbles packed along the input (GPTQ's ``qweight``) to nibbles along the output.

    ``[K / 8, N]`` with rows ``8 r + i`` in nibble ``i``, to ``[K, N / 8]``, columns in order. A
    leading dimension of experts may stand before.

    Raises: RepackError: not int32, or ``N`` not a multiple of 8.
    """
    _check(words)
    *experts, rows, columns = words.shape
    if columns % _BLOCK:
        raise RepackError(f"pack_outputs: {columns} columns; a multiple of 8 is needed.")
    result = words.new_empty((*experts, 8 * rows, columns // 8))
    _transpose(words.reshape(-1, columns), result.view(-1, columns // 8), "pack_outputs")
    return result


def pack_inputs(words: Tensor) -> Tensor:
    """The inverse of :func:`pack_outputs`: ``[K, N / 8]`` to ``[K / 8, N]``.

    Raises: RepackError: not int32, or ``K`` not a multiple of 8.
    """
    _check(words)
    *experts, rows, columns = words.shape
    if rows % _BLOCK:
        raise RepackError(f"pack_inputs: {rows} rows; a multiple of 8 is needed.")
    result = words.new_empty((*experts, rows // 8, 8 * columns))
    _transpose(words.reshape(-1, columns), result.view(-1, 8 * columns), "pack_inputs")
    return result


def _convert(words: Tensor, formula: str) -> Tensor:
    """Each word by one of the formulas, or each 8 words where it is of the fast layout."""
    _check(words)
    fast = "fast" in formula
    if fast and words.shape[-1] % _BLOCK:
        raise RepackError(
            f"{words.shape[-1]} words a row: the fast layout needs a multiple of {_BLOCK}. Use "
            "the normal layout, which best_layout() chooses here."
        )
    words = words.contiguous()
    result = torch.empty_like(words)
    if words.numel() == 0:
        return result
    if _on_host(words):
        shape = (-1, words.shape[-1]) if fast else (-1,)
        _run_loop(formula, words.view(shape), result.view(shape))
        return result
    step = getattr(nibbles, formula)
    for source, target in _pieces(words.view(-1), result.view(-1)):
        if not fast:
            target.copy_(step(source))
            continue
        # Of each 8 words two that stand 4 apart become neighbours, or the other way round.
        if formula.endswith("fast"):
            apart, near = source.view(-1, 2, 4), target.view(-1, 4, 2)
            near[..., 0], near[..., 1] = step(apart[:, 0], apart[:, 1])
        else:
            near, apart = source.view(-1, 4, 2), target.view(-1, 2, 4)
            apart[:, 0], apart[:, 1] = step(near[..., 0], near[..., 1])
    return result


def _run_loop(name: str, source: Tensor, target: Tensor) -> None:
    from vllm_kunlun.quantization.layouts import loops

    loops.use_threads(source.numel())
    getattr(loops, name)(*(each.numpy().view("uint32") for each in (source, target)))


def _pieces(source: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Both split alike along the first dimension, at most :data:`PIECE_WORDS` words at a time."""
    width = max(1, source[0].numel())
    rows = max(_BLOCK, PIECE_WORDS // width // _BLOCK * _BLOCK)
    ratio = target.shape[0] / source.shape[0]
    for start in range(0, source.shape[0], rows):
        end = min(source.shape[0], start + rows)
        yield source[start:end], target[int(start * ratio) : int(end * ratio)]


def _transpose(source: Tensor, target: Tensor, name: str) -> None:
    if source.numel() == 0:
        return
    if _on_host(source):
        _run_loop(name, source, target)
        return
    for piece, result in _pieces(source, target):
        if name == "pack_outputs":
            words = list(piece.unflatten(1, (-1, 8)).unbind(-1))
            out = result.unflatten(0, (-1, 8)).unbind(1)
        else:
            words = list(piece.unflatten(0, (-1, 8)).unbind(1))
            out = result.unflatten(1, (-1, 8)).unbind(-1)
        for distance, mask in ((4, 0x0000FFFF), (2, 0x00FF00FF), (1, 0x0F0F0F0F)):
            for i in range(8):
                if not i & distance:
                    pair = words[i], words[i + distance]
                    words[i], words[i + distance] = nibbles.exchange(*pair, 4 * distance, mask)
        for place, word in zip(out, words, strict=True):
            place.copy_(word)


def _check(words: Tensor) -> None:
    if words.dtype != torch.int32 or words.dim() < 2:
        raise RepackError(
            f"packed words are int32 of two dimensions or more; this tensor is {words.dtype} of "
            f"shape {tuple(words.shape)}."
        )


def _on_host(words: Tensor) -> bool:
    return words.device.type == "cpu"
