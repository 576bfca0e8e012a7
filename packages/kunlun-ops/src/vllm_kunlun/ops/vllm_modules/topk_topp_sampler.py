# SPDX-License-Identifier: Apache-2.0
"""Takes the place of ``vllm.v1.sample.ops.topk_topp_sampler``.

Only the layer differs; every other name of the module is vLLM's own.
"""

from __future__ import annotations

from typing import Any

import torch

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops import random_draw
from vllm_kunlun.ops.torch_ops.random_draw import Generators
from vllm_kunlun.platforms.ledger import import_hook

_vllm = import_hook.import_original("vllm.v1.sample.ops.topk_topp_sampler")


class TopKTopPSampler(_vllm.TopKTopPSampler):  # type: ignore[misc, name-defined]
    """Top-k and top-p filtering, then one random draw per row.

    Rows without a seed are drawn by the vendor's functions, which keep their random state inside.
    Rows with a seed are drawn with their own generator, so that a request's tokens depend on
    neither the batch nor the other requests. Where the filtered logits are asked for as well, or
    noise in float64, all rows go through torch.
    """

    def __init__(
        self, logprobs_mode: str = "raw_logprobs", *use_fp64_gumbel: Any, **options: Any
    ) -> None:
        super().__init__(logprobs_mode, *use_fp64_gumbel, **options)
        plain = logprobs_mode in ("processed_logits", "processed_logprobs") or any(
            (*use_fp64_gumbel, *options.values())
        )
        self.forward = self.forward_native if plain else self.forward_kunlun

    def forward_kunlun(
        self,
        logits: torch.Tensor,
        generators: Generators,
        k: torch.Tensor | None,
        p: torch.Tensor | None,
    ) -> tuple[torch.Tensor, None]:
        """Token ids drawn from ``softmax(filter(logits))``.

        Shapes: logits ``[B, V]``, k int and p float32 ``[B]`` -> int ``[B]``.
        """
        if k is None and p is None:
            return random_draw.draw(logits.softmax(dim=-1, dtype=torch.float32), generators), None
        if len(generators) == logits.shape[0]:
            return _draw_seeded(logits, generators, k, p), None
        ids = _draw(logits, k, p)
        if generators:
            rows = torch.tensor(list(generators), device=logits.device)
            ids[rows] = _draw_seeded(
                logits[rows],
                dict(enumerate(generators.values())),
                None if k is None else k[rows],
                None if p is None else p[rows],
            ).to(ids.dtype)
        return ids, None


def _draw(logits: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None) -> torch.Tensor:
    probs = _proper(logits.softmax(dim=-1, dtype=torch.float32))
    if k is None:
        return vendor_ops.top_p_sampling_from_probs(probs, top_p=p, deterministic=True).view(-1)
    k = k.to(torch.int32)  # vLLM's warm-up passes int64, which the vendor's functions would misread
    if p is None:
        return vendor_ops.top_k_sampling_from_probs(probs, top_k=k, deterministic=True).view(-1)
    return vendor_ops.top_k_top_p_sampling_from_probs(
        probs, top_k=k, top_p=p, deterministic=True
    ).view(-1)


def _proper(probs: torch.Tensor) -> torch.Tensor:
    """``probs``, in place, with every row that is not numbers made to draw token 0.

    A logit of NaN or infinity makes NaN of its whole row. ``argmax`` of such a row, by which the
    paths in torch draw, is 0, too; the vendor's functions want probabilities in every row, and must
    not answer the others' requests with an error.

    Shapes: ``[B, V]``, float32.
    """
    first = probs[:, :1]
    lost = first.isnan()
    probs.nan_to_num_(nan=0.0)
    first.masked_fill_(lost, 1.0)
    return probs


def _draw_seeded(
    logits: torch.Tensor,
    generators: Generators,
    k: torch.Tensor | None,
    p: torch.Tensor | None,
) -> torch.Tensor:
    filtered = _vllm.apply_top_k_top_p(logits, k, p)
    return random_draw.draw(filtered.softmax(dim=-1, dtype=torch.float32), generators)


_drawn_by_vllm = _vllm.random_sample


def random_sample(
    probs: torch.Tensor, generators: Generators, use_fp64_gumbel: bool = False
) -> torch.Tensor:
    """:func:`random_draw.draw`, or vLLM's own draw with noise in float64, where that is asked for.

    Shapes: ``[B, V]`` -> int64 ``[B]``.
    """
    if use_fp64_gumbel:
        return _drawn_by_vllm(probs, generators, use_fp64_gumbel)  # type: ignore[no-any-return]
    return random_draw.draw(probs, generators)


# The name by which vLLM's own forward draws, which also returns what the filters left.
_vllm.random_sample = random_sample  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    return getattr(_vllm, name)
