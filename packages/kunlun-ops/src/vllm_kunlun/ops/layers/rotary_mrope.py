# SPDX-License-Identifier: Apache-2.0
"""Rotary embeddings with several positions per token: time, height, width of an image or video."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers import rotary_embedding as vllm_rotary
from vllm.model_executor.layers.rotary_embedding import MRotaryEmbedding
from vllm.model_executor.layers.rotary_embedding.ernie45_vl_rope import Ernie4_5_VLRotaryEmbedding

from vllm_kunlun.ops.layers.rotary import KunlunRotation
from vllm_kunlun.ops.torch_ops import rotary

__all__ = ["MROPE_LAYERS", "KunlunErnie4_5_VLRotaryEmbedding", "KunlunMRotaryEmbedding"]

TABLE_LENGTHS = 4
"""vLLM makes the table of these layers this many times as long as the context; 0.33, unless a
model's own factor is given."""

Rotated = tuple[torch.Tensor, "torch.Tensor | None"]


class KunlunMRotaryEmbedding(KunlunRotation, MRotaryEmbedding):
    """Three positions per token in one function of the vendor; text, with one, as plain rotation.

    With YaRN, vLLM 0.15.1 cannot build this layer (it reads a ``truncate`` that it never sets) and
    would count rotations over its table, four times as long as the original context.

    Shapes: positions ``[T]`` or ``[3, T]``; query ``[T, H D]``, key ``[T, KVH D]`` ->
    both.
    """

    max_position_embeddings: int
    truncate = True

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._table_lengths = keywords.get("positions_factor", TABLE_LENGTHS)
        super().__init__(*args, **keywords)

    def _compute_inv_freq(self, base: float) -> torch.Tensor:
        length = self.max_position_embeddings
        self.max_position_embeddings = length // self._table_lengths
        frequencies = super()._compute_inv_freq(base)
        self.max_position_embeddings = length
        return frequencies

    def forward_oot(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> Rotated:
        """Shapes: see the class."""
        if positions.dim() == 1 or key is None:
            return super().forward_oot(positions, query, key)
        return rotary.mrotary_embedding(  # type: ignore[no-any-return]
            query.contiguous(),
            key.contiguous(),
            positions.to(torch.int32).contiguous(),
            self.table_like(query),
            self.mrope_interleaved,
            self.is_neox_style,
            self.head_size,
            self.rotary_dim,
            self.mrope_section,
        )


class _TableOfTheStep(KunlunRotation):
    """Any other choice of position by frequency: a table of this step's angles, row for row.

    The vendor's plain function then reads row ``t`` for token ``t``.
    """

    def _axis_of_frequency(self) -> list[int]:
        """Which row of the positions each of the ``rot / 2`` frequencies takes."""
        raise NotImplementedError

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        axis = torch.tensor(self._axis_of_frequency()).repeat(2)  # cosines, sines
        self.register_buffer("axis", axis, persistent=False)  # type: ignore[attr-defined]

    def forward_oot(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> Rotated:
        if positions.dim() == 1 or key is None:
            return super().forward_oot(positions, query, key)
        rows = positions.long()[self.axis].T  # type: ignore[attr-defined]  # [T, rot]
        angles = self.table_like(query).gather(0, rows)
        tokens = torch.arange(rows.shape[0], device=rows.device)
        return self.rotate(tokens, query, key, angles)


class KunlunErnie4_5_VLRotaryEmbedding(_TableOfTheStep, Ernie4_5_VLRotaryEmbedding):
    """Ernie 4.5 VL: height and width by turns in the fast frequencies, time in the slow ones."""

    def _axis_of_frequency(self) -> list[int]:
        height, width, time = self.mrope_section  # vLLM's order in this class
        return [1, 2] * ((height + width) // 2) + [0] * time


MROPE_LAYERS: dict[str, type] = {
    "Ernie4_5_VLRotaryEmbedding": KunlunErnie4_5_VLRotaryEmbedding,
    "MRotaryEmbedding": KunlunMRotaryEmbedding,
}
"""vLLM's class name -> our class."""

if hasattr(vllm_rotary, "XDRotaryEmbedding"):  # vLLM took it out between 0.25 and 0.33

    class KunlunXDRotaryEmbedding(_TableOfTheStep, vllm_rotary.XDRotaryEmbedding):
        """HunYuan's XD-RoPE: sections one after the other, one for each row of the positions."""

        def _axis_of_frequency(self) -> list[int]:
            return [row for row, count in enumerate(self.xdrope_section) for _ in range(count)]

    MROPE_LAYERS["XDRotaryEmbedding"] = KunlunXDRotaryEmbedding
