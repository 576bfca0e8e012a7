# SPDX-License-Identifier: Apache-2.0
"""The two products that decode does per head, of ``kv_b_proj``'s halves.

With ``W_UK [H, P, L]`` and ``W_UV [H, L, V]`` (P, V: widths of a head's key and value before the
rotary part; L: of the latent): ``q . (W_UK k) = (q W_UK) . k``, so the query is brought to the
latent's width once and the cache stays as it is.
"""

from __future__ import annotations

import torch

from vllm_kunlun.ops import vendor_ops

__all__ = ["FloatProjections", "Int8Projections"]


class FloatProjections:
    """Batched products in the model's dtype; the weights may be views."""

    def __init__(self, w_uk: torch.Tensor, w_uv: torch.Tensor) -> None:
        self._w_uk, self._w_uv = w_uk, w_uv

    def renew(self, w_uk: torch.Tensor, w_uv: torch.Tensor) -> None:
        """Take other weights, where the present ones lie."""
        self._w_uk.copy_(w_uk)
        self._w_uv.copy_(w_uv)

    def to_latent(self, query: torch.Tensor, out: torch.Tensor) -> None:
        """``out [T, H, L] = query [T, H, P] W_UK``."""
        torch.bmm(query.transpose(0, 1), self._w_uk, out=out.transpose(0, 1))

    def to_values(self, latent: torch.Tensor, out: torch.Tensor) -> None:
        """``out [T, H, V] = latent [T, H, L] W_UV``."""
        torch.bmm(latent.transpose(0, 1), self._w_uv, out=out.transpose(0, 1))


class Int8Projections:
    """The same with int8 weights, one scale for each row that is summed into one output.

    Rounding error of a weight: up to ``max / 254`` of its row, ``max`` the row's largest.
    """

    def __init__(self, w_uk: torch.Tensor, w_uv: torch.Tensor) -> None:
        self._latent = _quantise(w_uk.transpose(1, 2))  # int8 [H, L, P]
        self._values = _quantise(w_uv.transpose(1, 2))  # int8 [H, V, L]

    def renew(self, w_uk: torch.Tensor, w_uv: torch.Tensor) -> None:
        """Take other weights, where the present ones lie."""
        for present, weight in ((self._latent, w_uk), (self._values, w_uv)):
            for old, new in zip(present, _quantise(weight.transpose(1, 2)), strict=True):
                old.copy_(new)

    def to_latent(self, query: torch.Tensor, out: torch.Tensor) -> None:
        """``out [T, H, L] = query [T, H, P] W_UK``."""
        _multiply(query, self._latent, out)

    def to_values(self, latent: torch.Tensor, out: torch.Tensor) -> None:
        """``out [T, H, V] = latent [T, H, L] W_UV``."""
        _multiply(latent, self._values, out)


def _quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``[H, O, K]`` -> int8 alike, and the largest magnitude of each row, float32 ``[H O, 1]``."""
    weight = weight.contiguous()
    values = torch.empty_like(weight, dtype=torch.int8)
    rows = weight.shape[0] * weight.shape[1]
    largest = torch.empty(rows, 1, dtype=torch.float32, device=weight.device)
    vendor_ops.quant2d(weight.view(rows, -1), values.view(rows, -1), largest)
    return values, largest


def _multiply(
    x: torch.Tensor, weight: tuple[torch.Tensor, torch.Tensor], out: torch.Tensor
) -> None:
    tokens, heads, _ = x.shape
    values, largest = weight
    # The function's form for experts; here every head has every token.
    lod = torch.arange(heads + 1, dtype=torch.int32, device=x.device) * tokens
    order = torch.arange(heads * tokens, dtype=torch.int32, device=x.device)
    product = out if out.is_contiguous() else out.new_empty(out.shape)
    vendor_ops.mla_bmm_I8(x.contiguous(), values, largest, product, lod, order)
    if product is not out:
        out.copy_(product)
