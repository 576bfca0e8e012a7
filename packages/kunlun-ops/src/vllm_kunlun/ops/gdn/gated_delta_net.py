# SPDX-License-Identifier: Apache-2.0
"""One layer of gated delta net between its projections: convolution, delta rule, states."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vllm_kunlun.ops.gdn.metadata import KunlunGDNMetadata, StateDecode, StatePrefill
from vllm_kunlun.ops.torch_ops import causal_conv1d, gdn

__all__ = ["GatedDeltaNet"]


@dataclass(frozen=True)
class GatedDeltaNet:
    """Sizes and weights of one layer on one rank."""

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    conv_weight: Tensor
    """``[2 * key_heads * key_size + value_heads * value_size, width]``"""
    conv_bias: Tensor | None

    def run(
        self,
        mixed_qkv: Tensor,
        beta: Tensor,
        g: Tensor,
        conv_states: Tensor,
        states: Tensor,
        metadata: KunlunGDNMetadata,
        output: Tensor,
    ) -> None:
        """Fill ``output`` and move the states of the step's requests on.

        Shapes: mixed_qkv ``[T, dim]``, beta and g (the log decay, float32) ``[T, HV]``, output
        ``[T, HV, V]``, all contiguous (``T`` may be padded beyond the step's tokens: zeros there);
        conv_states ``[blocks, state_len, dim]``, states ``[blocks, HV, V, K]``.
        """
        tokens = metadata.num_actual_tokens
        if tokens < output.shape[0]:
            output[tokens:].zero_()
        first = 0
        if (decode := metadata.decode) is not None:
            first = decode.num_tokens
            output[:first] = self._decode(
                mixed_qkv[:first], g[:first], beta[:first], conv_states, states, decode
            )
        if (prefill := metadata.prefill) is not None:
            part = slice(first, first + prefill.num_tokens)
            output[part] = self._prefill(
                mixed_qkv[part], g[part], beta[part], conv_states, states, prefill
            )

    def _decode(
        self, x: Tensor, g: Tensor, beta: Tensor, conv_states: Tensor, states: Tensor,
        part: StateDecode,
    ) -> Tensor:  # fmt: skip
        if part.drafts is None:
            x = causal_conv1d.causal_conv1d_update_(
                x, self.conv_weight, self.conv_bias, conv_states,
                part.state_indices_host, part.state_indices,
            )  # fmt: skip
            indices = part.state_indices
        else:
            assert part.num_accepted_tokens is not None and part.draft_indices is not None
            x = causal_conv1d.causal_conv1d_drafts_(
                x, self.conv_weight, self.conv_bias, conv_states, part.state_indices,
                part.num_accepted_tokens, part.drafts,
            )  # fmt: skip
            indices = part.draft_indices
        return gdn.recurrent_gated_delta_rule_(
            *self._split(x),
            g.unsqueeze(0),
            beta.unsqueeze(0),
            states,
            part.cu_seqlens,
            indices,
            part.num_accepted_tokens,
            self.key_size**-0.5,
            True,
        )[0]

    def _prefill(
        self, x: Tensor, g: Tensor, beta: Tensor, conv_states: Tensor, states: Tensor,
        part: StatePrefill,
    ) -> Tensor:  # fmt: skip
        x = causal_conv1d.causal_conv1d_(
            x, self.conv_weight, self.conv_bias, conv_states,
            part.cu_seqlens_host, part.cu_seqlens, part.state_indices_host, part.state_indices,
            part.known_host, part.known,
        )  # fmt: skip
        result, final = gdn.chunk_gated_delta_rule(
            *self._split(x),
            g.unsqueeze(0),
            beta.unsqueeze(0),
            gdn.gather_states(states, part.state_indices, part.known),
            part.cu_seqlens,
            *part.chunks,
            self.key_size**-0.5,
            True,
        )
        gdn.scatter_states_(states, part.state_indices, final)
        return result[0]

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[T, dim]`` as q and k ``[1, T, H, K]``, v ``[1, T, HV, V]``, each contiguous."""
        keys = 2 * self.key_heads * self.key_size
        # q and k side by side: one copy for both.
        qk = x[:, :keys].unflatten(1, (2, self.key_heads, self.key_size)).transpose(0, 1)
        q, k = qk.contiguous().split(1)
        v = x[:, keys:].unflatten(1, (self.value_heads, self.value_size)).unsqueeze(0)
        return q, k, v.contiguous()
