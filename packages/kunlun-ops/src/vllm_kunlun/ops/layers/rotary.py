# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding on the vendor's function, for every scaling that shares its forward.

vLLM looks a replacement up by the exact class name, so a subclass that only computes another table
(Llama 3, linear, NTK, YaRN ...) needs an entry of its own: :data:`ROTARY_LAYERS` makes them.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers import rotary_embedding as vllm_rotary
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

from vllm_kunlun.ops.torch_ops import rotary

__all__ = ["ROTARY_LAYERS", "KunlunRotaryEmbedding", "KunlunRotation"]


class KunlunRotation:
    """``forward_oot`` of a rotary embedding whose table is ``cos_sin_cache``: cos, then sin."""

    cos_sin_cache: torch.Tensor
    converted: torch.Tensor | None
    head_size: int
    is_neox_style: bool

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        # gpt-oss wants its table in float32. vLLM makes layers with the model's dtype as default:
        # converted here, the table is not converted in every layer of every step.
        table = self.cos_sin_cache
        dtype = torch.get_default_dtype()
        converted = None if table.dtype == dtype else table.to(dtype)
        self.register_buffer("converted", converted, persistent=False)  # type: ignore[attr-defined]

    def forward_oot(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Shapes: positions int64 ``[T]``, query ``[T, H D]``, key ``[T, KVH D]`` -> both."""
        if key is None:
            # The vendor's function always rotates a key; a layer that reads another layer's cache
            # has none.
            return self.forward_native(positions, query, key)  # type: ignore[attr-defined]
        return self.rotate(positions.flatten(), query, key, self.table_like(query))

    def table_like(self, query: torch.Tensor) -> torch.Tensor:
        """The table in the query's dtype, on its device.

        Shapes: ``[positions, rot]``.
        """
        for table in (self.cos_sin_cache, self.converted):
            if table is not None and (table.dtype, table.device) == (query.dtype, query.device):
                return table
        return self.cos_sin_cache.to(query.device, query.dtype)

    def rotate(
        self, rows: torch.Tensor, query: torch.Tensor, key: torch.Tensor, table: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ``t`` by the angles of ``table[rows[t]]``; in place where the input allows it.

        Shapes: rows int64 ``[T]``, query ``[T, H D]``, key ``[T, KVH D]``, table ``[.., rot]``.
        """
        query, key = query.contiguous(), key.contiguous()
        tokens = rows.numel()
        rotary.rotary_embedding_(
            rows,
            query.view(tokens, -1),
            key.view(tokens, -1),
            self.head_size,
            table,
            self.is_neox_style,
        )
        return query, key


class KunlunRotaryEmbedding(KunlunRotation, RotaryEmbedding):
    """The plain rotary embedding."""


def _with_same_forward() -> dict[str, type]:
    """One class of ours for each rotary embedding of vLLM that inherits the plain forward."""
    layers: dict[str, type] = {"RotaryEmbedding": KunlunRotaryEmbedding}
    for name, layer in vars(vllm_rotary).items():
        if (
            isinstance(layer, type)
            and issubclass(layer, RotaryEmbedding)
            and layer is not RotaryEmbedding
            and layer.forward_native is RotaryEmbedding.forward_native  # type: ignore[attr-defined]
        ):
            layers[name] = type(
                f"Kunlun{name}",
                (KunlunRotation, layer),
                {"__doc__": f"vLLM's {name} on the vendor's function.", "__module__": __name__},
            )
    return layers


ROTARY_LAYERS = _with_same_forward()
