# SPDX-License-Identifier: Apache-2.0
"""Which norm of vLLM a norm of transformers is: it is called with numbers, and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vllm_kunlun.cli.adapt.translate.reading import UntranslatedError

__all__ = ["Norm", "norm_of"]


@dataclass(frozen=True)
class Norm:
    """A norm in vLLM's terms.

    Attributes:
        layer: ``RMSNorm``, ``GemmaRMSNorm`` or ``nn.LayerNorm``.
        size: how many values it normalises.
        epsilon: expression for what is added to the variance.
        biased: whether a LayerNorm has a bias.
    """

    layer: str
    size: int
    epsilon: str
    biased: bool = False

    def made(self, size: str) -> str:
        """The expression that makes it, for ``size`` values."""
        bias = ", bias=False" if self.layer == "nn.LayerNorm" and not self.biased else ""
        return f"{self.layer}({size}, eps={self.epsilon}{bias})"


@torch.no_grad()  # type: ignore[untyped-decorator]
def norm_of(module: nn.Module, config: Any) -> Norm:
    """The norm that computes what ``module`` does on random numbers.

    y = x / sqrt(mean(x^2) + eps) * w is ``RMSNorm``, with 1 + w in place of w ``GemmaRMSNorm``;
    (x - mean) / sqrt(var + eps) * w + b is ``LayerNorm``.

    Raises:
        UntranslatedError: it computes something else.
    """
    weight = getattr(module, "weight", None)
    name = type(module).__name__
    if weight is None or weight.dim() != 1:
        raise UntranslatedError(f"the norm {name} has no weight of one dimension")
    bias = getattr(module, "bias", None)
    saved = {key: each.clone() for key, each in module.named_parameters()}
    epsilons = [v for v in vars(module).values() if isinstance(v, float) and 0 < v < 0.1]
    generator = torch.Generator().manual_seed(0)
    try:
        for each in module.parameters():
            each.copy_(torch.randn(each.shape, generator=generator, dtype=torch.float32))
        x = torch.randn(3, weight.numel(), generator=generator).to(weight.dtype)
        x[0] *= 1e-3  # where epsilon is seen
        came = module(x).double()
        x, w, b = x.double(), weight.double(), bias.double() if bias is not None else 0.0
        for epsilon in epsilons:
            rms = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
            centred = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(
                x.var(-1, keepdim=True, unbiased=False) + epsilon
            )
            said = _expression(epsilon, config)
            for layer, expected in (
                ("RMSNorm", rms * w),
                ("GemmaRMSNorm", rms * (1 + w)),
                ("nn.LayerNorm", centred * w + b),
            ):
                if torch.allclose(came, expected, rtol=1e-4, atol=1e-6):
                    return Norm(layer, weight.numel(), said, bias is not None)
    finally:
        for key, each in module.named_parameters():
            each.copy_(saved[key])
    raise UntranslatedError(f"the norm {name} is neither an RMSNorm nor a LayerNorm")


def _expression(epsilon: float, config: Any) -> str:
    """``config.<name>`` of the value that a norm has, or the value where none has it."""
    named = [name for name, value in config.to_dict().items() if "eps" in name and value == epsilon]
    return f"config.{named[0]}" if named else repr(epsilon)
