# SPDX-License-Identifier: Apache-2.0
"""What the dense and the sparse MLA layer share: checks, and weights for the absorbed products."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.quantization.utils.quant_utils import get_and_maybe_dequant_weights
from vllm.v1.attention.backend import AttentionType

from vllm_kunlun.mla.projections import FloatProjections, Int8Projections
from vllm_kunlun.ops.vllm_modules.latent_attention import LatentAttentionImpl
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["KunlunMLAImpl", "refuse_output_scale"]

_LACKING = "alibi_slopes", "sliding_window", "logits_soft_cap", "kv_sharing_target_layer_name"


class KunlunMLAImpl(LatentAttentionImpl):
    """One MLA layer. Every size and the softmax scale come from the model.

    Raises: UnsupportedError: an option of attention that the vendor's functions lack.

    Terms: ``L = kv_lora_rank``, ``R = qk_rope_head_dim``, ``P = qk_nope_head_dim``,
    ``V = v_head_dim``; a row of the cache is ``[latent L | rope R]``.
    """

    def __init__(
        self,
        *,
        num_heads: int,
        scale: float,
        kv_lora_rank: int,
        qk_nope_head_dim: int,
        qk_rope_head_dim: int,
        v_head_dim: int,
        kv_b_proj: Any,
        indexer: Any = None,
        **options: Any,
    ) -> None:
        self.num_heads, self.scale = num_heads, float(scale)
        self.kv_lora_rank, self.qk_rope_head_dim = kv_lora_rank, qk_rope_head_dim
        self.qk_nope_head_dim, self.v_head_dim = qk_nope_head_dim, v_head_dim
        self.qk_head_dim = qk_nope_head_dim + qk_rope_head_dim
        self.kv_b_proj, self.indexer = kv_b_proj, indexer
        for option in _LACKING:
            if options.get(option):
                raise UnsupportedError(
                    f"this model's latent attention asks for {option}, which the vendor's MLA "
                    "functions lack. No option turns it off; run the model on another platform."
                )
        if options.get("attn_type", AttentionType.DECODER) != AttentionType.DECODER:
            raise UnsupportedError(
                f"latent attention is implemented for decoders only; this layer is "
                f"{options['attn_type']!r}. Run the model on another platform."
            )
        self.projections: FloatProjections | Int8Projections

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        """Split ``kv_b_proj`` into the weights of the absorbed products.

        Of a plain layer they are views. With ``VLLM_KUNLUN_ENABLE_INT8_BMM`` they are int8 copies.

        Raises: UnsupportedError: the layer's activations have a static scale.
        """
        if getattr(self.kv_b_proj, "int8_input_scale", None) is not None:
            # vLLM reads quantised weights off the layer's answer to ones and zeros.
            raise UnsupportedError(
                "kv_b_proj is quantised with a static scale of its activations, which cannot hold "
                "the ones that its weights are read with. Quantise its activations dynamically per "
                "token, or leave the layer in float (`ignore` of the quantisation's configuration)."
            )
        weight = get_and_maybe_dequant_weights(self.kv_b_proj, out_dtype=act_dtype)
        heads = weight.unflatten(0, (self.num_heads, self.qk_nope_head_dim + self.v_head_dim))
        w_uk, w_uv = heads.split([self.qk_nope_head_dim, self.v_head_dim], 1)
        w_uv = w_uv.transpose(1, 2)
        if not hasattr(self, "projections"):
            kind = Int8Projections if envs.VLLM_KUNLUN_ENABLE_INT8_BMM else FloatProjections
            self.projections = kind(w_uk, w_uv)
            self.unit_scale = torch.ones((), dtype=torch.float32, device=weight.device)
        else:  # weights that came at run time
            self.projections.renew(w_uk, w_uv)

    def absorbed(self, query: torch.Tensor) -> torch.Tensor:
        """Queries that latent rows are compared with: ``[T, H, P + R]`` -> ``[T, H, L + R]``."""
        tokens, heads, _ = query.shape
        result = query.new_empty(tokens, heads, self.kv_lora_rank + self.qk_rope_head_dim)
        self.projections.to_latent(
            query[..., : self.qk_nope_head_dim], result[..., : self.kv_lora_rank]
        )
        result[..., self.kv_lora_rank :] = query[..., self.qk_nope_head_dim :]
        return result

    def write_values(self, latent: torch.Tensor, output: torch.Tensor) -> None:
        """``latent [T, H, L]`` multiplied up into ``output [T, H V]``."""
        self.projections.to_values(latent, output.view(-1, self.num_heads, self.v_head_dim))


def refuse_output_scale(*scales: torch.Tensor | None) -> None:
    """No attention function of the vendor writes a quantised output. Shapes: any.

    Raises: UnsupportedError: a scale is given.
    """
    if any(scale is not None for scale in scales):
        raise UnsupportedError(
            "attention with a quantised output is not implemented. Turn off "
            "pass_config.fuse_attn_quant in --compilation-config."
        )
