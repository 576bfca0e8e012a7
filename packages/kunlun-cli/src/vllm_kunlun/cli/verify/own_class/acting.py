# SPDX-License-Identifier: Apache-2.0
"""What the weights of a model do, small enough to be handed from one process to another.

Two models that store their weights in other formats are compared by what these make of the same
random rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_kunlun.cli.verify.patterns import pattern
from vllm_kunlun.cli.verify.weights import lone_bias

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Acts", "acts_of", "difference"]

Acts = dict[str, "Tensor"]
"""``module`` and a word for what it is, with a space between -> float32 rows."""

_ROWS = 8
_EXPERTS = ("w13_weight", "w2_weight")


def acts_of(model: nn.Module, dtype: torch.dtype, device: torch.device) -> Acts:
    """Of each module with weights of its own.

    A linear layer is called with random rows: ``weight [rows, outputs]``, ``bias [outputs]``.
    Experts and embeddings in floats are multiplied with them; of what else is in floats, each
    vector is taken as it is.
    """
    import torch
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    found: Acts = {}

    def note(name: str, what: str, value: Tensor) -> None:
        found[f"{name} {what}"] = value.detach().to("cpu", torch.float32, copy=True)

    with torch.inference_mode():
        for name, module in model.named_modules(remove_duplicate=False):
            if isinstance(module, LinearBase):
                bias = _called(module, torch.zeros(1, module.input_size), dtype, device)
                note(name, "bias", bias[0])
                made = _called(module, _random(module.input_size), dtype, device)
                note(name, "weight", made - bias)
            elif isinstance(module, VocabParallelEmbedding) and module.weight.is_floating_point():
                rows, size = _random(module.embedding_dim), module.org_vocab_size
                if module.weight.is_meta:  # packed for the host: its method alone can apply it
                    made = module.quant_method.apply(module, rows.to(device, dtype))[:, :size]
                else:
                    weight = module.weight[:size].float()
                    made = rows.to(weight.device) @ weight.T
                note(name, "weight", made)
            elif hasattr(module, "w2_weight") and module.w2_weight.is_floating_point():
                for part in _EXPERTS:
                    weight = getattr(module, part).float()
                    note(name, part, _random(weight.shape[-1]).to(weight.device) @ weight.mT)
            else:
                for each, value in module.named_parameters(recurse=False):
                    if value.is_floating_point() and value.dim() <= 1 and not value.is_meta:
                        note(name, each, value)
    return found


def difference(
    module: str, ours: Acts, other: str, theirs: Acts, tolerance: float, head_size: int
) -> tuple[float | None, str | None]:
    """The largest relative error of a module's weights, and in words what is wrong with them.

    No error where nothing can be compared; no words where all is within ``tolerance``.
    """
    largest, said = None, None
    for key, held in ours.items():
        name, _, what = key.rpartition(" ")
        wanted = theirs.get(f"{other} {what}")
        if name != module or wanted is None or wanted.shape != held.shape:
            continue
        error = float((held - wanted).norm() / (wanted.norm() or 1.0))
        if largest is None or not error <= largest:
            largest = error
        if said is None and not error <= tolerance:
            said = _words(what, held, wanted, tolerance, head_size)
    return largest, said


def _words(what: str, held: Tensor, wanted: Tensor, tolerance: float, head_size: int) -> str:
    if what in _EXPERTS:
        errors = (held - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
        wrong = (errors > tolerance).nonzero().flatten().tolist()
        return (
            f"has {len(wrong)} of {len(held)} experts with wrong weights, expert {wrong[0]} first"
        )
    if what == "bias" and (said := lone_bias(held, wanted)):
        return said
    held, wanted = (each if each.dim() == 2 else each.unsqueeze(0) for each in (held, wanted))
    how = pattern(held, wanted, tolerance, blocks={"head": head_size, "row": 1})
    return f"was given a wrong {what}: it {how or 'is another'}"


def _random(width: int) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(width)
    return torch.randn(_ROWS, width, generator=generator)


def _called(module: Any, rows: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    made = module(rows.to(device, dtype))
    made = made[0] if isinstance(made, tuple) else made
    result: Tensor = made.float().cpu()
    # A layer that hands its bias on has not added it.
    if module.skip_bias_add and module.bias is not None:
        result = result + module.bias.float().cpu()
    return result
