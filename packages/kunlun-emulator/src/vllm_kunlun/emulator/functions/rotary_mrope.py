# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding of images: three positions for each token, or a table of angles."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import check_range, check_shape, check_tensor, require
from vllm_kunlun.emulator.functions.rotary import check_table, rotated
from vllm_kunlun.emulator.functions.step_cache import StepCache
from vllm_kunlun.emulator.kernels import rows

__all__ = ["mrotary_embedding_fwd_v0", "rope_vit"]

_angles: StepCache[tuple[torch.Tensor, torch.Tensor]] = StepCache()


def mrotary_embedding_fwd_v0(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    mrope_interleaved: bool,
    is_neox: bool,
    head_size: int,
    rotary_dim: int,
    sec0: int,
    sec1: int,
    sec2: int,
    /,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate query and key by angles that each take one of a token's three positions.

    Frequency ``i`` takes time, height or width. Chunked: the first ``sec0`` take time, the next
    ``sec1`` height, the rest width. Interleaved: height if ``i % 3 == 1`` and ``i < 3 sec1``, width
    if ``i % 3 == 2`` and ``i < 3 sec2``, else time.

    Shapes: query ``[T, H D]``, key ``[T, KVH D]``, positions int32 ``[3, T]``, cos_sin_cache
    ``[positions, rot]`` -> both, of the same shapes.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``xspeedgate_ops.mrotary_embedding_fwd_v0``.
    """
    name = "mrotary_embedding_fwd_v0"
    check_tensor(name, "query", query, dims=2)
    check_tensor(name, "key", key, (query.dtype,), 2)
    check_tensor(name, "positions", positions, (torch.int32,), 2)
    check_shape(name, "positions", positions, (3, query.shape[0]))
    width = check_table(name, "cos_sin_cache", cos_sin_cache, (query.dtype,), head_size)
    require(width == rotary_dim, name, "rotary_dim", f"the table's width, {width}", rotary_dim)
    sections = (sec0, sec1, sec2)
    ok = min(sections) >= 0 and sum(sections) == rotary_dim // 2
    require(ok, name, "sec0", f"such that sec0 + sec1 + sec2 is {rotary_dim // 2}", sections)

    def read() -> tuple[torch.Tensor, torch.Tensor]:
        check_range(name, "positions", positions, cos_sin_cache.shape[0])
        axis = _axis_of_frequency(mrope_interleaved, sections)
        rows = positions.long()[axis].T  # [T, rot / 2]
        cos, sin = cos_sin_cache.chunk(2, dim=-1)
        return cos.gather(0, rows).float(), sin.gather(0, rows).float()

    cos, sin = _angles.get(
        (id(cos_sin_cache), mrope_interleaved, sections), (positions,), read, source=cos_sin_cache
    )
    return (
        rotated(name, "query", query, head_size, cos, sin, is_neox),
        rotated(name, "key", key, head_size, cos, sin, is_neox),
    )


def _axis_of_frequency(interleaved: bool, sections: tuple[int, int, int]) -> torch.Tensor:
    """0 for time, 1 for height, 2 for width: ``[rot / 2]``."""
    if not interleaved:
        return torch.arange(3).repeat_interleave(torch.tensor(sections))
    frequency = torch.arange(sum(sections))
    axis = frequency % 3
    return axis * (frequency < 3 * torch.tensor(sections)[axis])


def rope_vit(t: torch.Tensor, freqs: torch.Tensor, interleaved: bool = False) -> torch.Tensor:
    """Rotate ``t`` by the cosines ``freqs[:, 0]`` and sines ``freqs[:, 1]`` of each position.

    The two of a pair are half of ``rot`` apart, or side by side if ``interleaved``.

    Shapes: t float32 ``[B, S, H, D]``, freqs float32 ``[S, 2, rot / 2]`` -> as t.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``xspeedgate_ops.rope_vit``.
    """
    name = "rope_vit"
    check_tensor(name, "t", t, (torch.float32,), 4)
    check_tensor(name, "freqs", freqs, (torch.float32,), 3)
    batch, length, _, size = t.shape
    half = freqs.shape[-1]
    check_shape(name, "freqs", freqs, (length, 2, half))
    require(0 < 2 * half <= size, name, "freqs", f"of at most {size // 2} angles", half)
    turned = t.clone()
    cos, sin = (each.repeat(batch, 1) for each in freqs.unbind(1))
    rows.rotate_(turned.flatten(0, 1), cos, sin, not interleaved)
    return turned
