# SPDX-License-Identifier: Apache-2.0
"""Why a module differs: weights that were loaded wrongly, a formula, or a module left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vllm_kunlun.cli.verify import weights
from vllm_kunlun.cli.verify.locate import Place, Theirs, Zone
from vllm_kunlun.cli.verify.own_class.acting import Acts, acts_of, difference
from vllm_kunlun.cli.verify.pairing import Pairs, parent
from vllm_kunlun.cli.verify.patterns import pattern
from vllm_kunlun.cli.verify.trace import Event

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Cause", "Models", "cause_of"]

Kind = Literal["weights", "formula", "not called"]

_NEXT = {
    "weights": "look at load_weights and its stacked_params_mapping",
    "formula": "compare its forward, and what it is made with, with the judge's",
    "not called": "call it where the judge's forward does",
}


class Cause(NamedTuple):
    """The module to look at.

    Attributes:
        module: in vLLM's model.
        checkpoint: its name in the judge's model; of transformers', that is the checkpoint's.
        kind: what is wrong there.
        weight_error: ``|o - t| / |t|`` of the weights as they act; None where there are none, or
            none that can be compared.
        text: what is wrong, in words that follow the module's name.
        next: what to do.
    """

    module: str
    checkpoint: str
    kind: Kind
    weight_error: float | None
    text: str
    next: str


@dataclass
class Models:
    """Both models, and what was seen of them.

    Args:
        theirs: transformers'; None if the judge ran in another process.
        acts: what the weights of such a judge do.
        head_size: columns of one head.
        dtype, device: of vLLM's activations.
        tolerance: relative error of numbers; that of weights is a tenth of it.
    """

    ours: nn.Module
    theirs: Any
    acts: Acts
    pairs: Pairs
    events: Sequence[Event]
    expected: Theirs
    head_size: int
    dtype: torch.dtype
    device: torch.device
    tolerance: float

    def by_name(self, name: str) -> nn.Module:
        """Of vLLM's model; a module may have several names."""
        return dict(self.ours.named_modules(remove_duplicate=False))[name]

    def how(self, ours: Tensor, theirs: Tensor, tolerance: float, **more: Any) -> str | None:
        """:func:`pattern`, in heads and rows."""
        blocks = {"head": self.head_size, "row": 1}
        return pattern(ours, theirs, tolerance, blocks=blocks, **more)

    def called_beside(self, other: str) -> list[str]:
        """The judge's modules with parameters that are called in the module of ``other``."""
        return [
            name
            for name, what in self.expected
            if what == "output" and parent(name) == parent(other) and self._has_weights(name)
        ]

    def _has_weights(self, name: str) -> bool:
        if self.theirs is None:
            return any(key.rpartition(" ")[0] == name for key in self.acts)
        parameters = self.theirs.get_submodule(name).parameters(recurse=False)
        return next(parameters, None) is not None


def cause_of(place: Place, found: Sequence[Place], zone: Zone, models: Models) -> Cause:
    """Why ``place``, the first of ``found`` that is wrong, is."""
    if place.what in ("output", "attended", "logits"):
        return _of_module(place, models) if models.theirs is not None else _by_acts(place, models)
    between, uncalled = _between(place, found, zone, models)
    container = parent(place.module)
    if place.what in ("query", "key", "value"):
        how = models.how(place.ours, place.theirs, models.tolerance)
        if how:
            return _cause(place, "formula", f"gives attention a {place.what} that {how}", container)
        if place.what != "value" and _same_sizes(place, models):
            return _of_rotation(place, between, models)
    if uncalled:
        names = " and ".join(name.rpartition(".")[2] for name in uncalled)
        text = f"is not called: what comes next lacks {names}"
        inverse = {others[0]: name for name, others in models.pairs.items() if others}
        ours = inverse.get(uncalled[0], container)
        return _cause(place, "not called", text, ours, checkpoint=uncalled[0])
    how = models.how(place.ours, place.theirs, models.tolerance)
    module = between[-1] if between else container
    given = place.what if place.what != "input" else f"input of {place.module.rpartition('.')[2]}"
    text = f"makes another {given}, of parts that are right" + (f": it {how}" if how else "")
    return _cause(place, "formula", text, module)


def _of_module(place: Place, models: Models) -> Cause:
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    module, tolerance = models.by_name(place.module), models.tolerance / 10
    other = models.theirs.get_submodule(place.other)
    if hasattr(module, "w2_weight"):
        return _of_experts(place, module, other, models)
    error = None
    if place.what == "logits":
        return _of_head(place, module, models)
    if isinstance(module, VocabParallelEmbedding):
        for each in weights.compare_named(module, other):
            error = each.error
            if each.error > tolerance:
                how = pattern(each.ours, each.theirs, tolerance)
                text = f"was given a wrong weight: it {how or 'is another'}"
                return _cause(place, "weights", text, error=error)
    elif hasattr(module, "quant_method"):
        return _of_linear(place, module, models)
    else:
        for each in weights.compare_named(module, other):
            error = each.error
            if each.error > tolerance:
                how = models.how(each.ours, each.theirs, tolerance)
                text = f"was given a wrong {each.name}: it {how or 'is another'}"
                return _cause(place, "weights", text, error=error)
    how = models.how(place.ours, place.theirs, models.tolerance)
    whole = next(module.children(), None) is not None and place.what == "output"
    text = (
        f"puts right parts together wrongly{': the result ' + how if how else ''}"
        if whole
        else f"computes something else{': it ' + how if how else ''}"
    )
    return _cause(place, "formula", text, error=error)


def _by_acts(place: Place, models: Models) -> Cause:
    """Of a module whose judge is in another process: the weights by what they do."""
    ours = acts_of(models.ours, models.dtype, models.device)
    error, said = difference(
        place.module, ours, place.other, models.acts, models.tolerance / 10, models.head_size
    )
    if said is not None:
        return _cause(place, "weights", said, error=error)
    how = models.how(place.ours, place.theirs, models.tolerance)
    text = f"computes something else{': it ' + how if how else ''}"
    return _cause(place, "formula", text, error=error)


def _of_head(place: Place, module: Any, models: Models) -> Cause:
    """vLLM does not call the output projection, but has it applied."""
    wanted, _ = _acting(place.other, models)
    held, _ = weights.acting(
        lambda x: module.quant_method.apply(module, x), len(wanted), models.dtype, models.device
    )
    held = held[:, : wanted.shape[1]]  # without the rows that fill it up
    error = float((held - wanted).norm() / wanted.norm())
    if error <= models.tolerance / 10:
        how = pattern(place.ours, place.theirs, models.tolerance)
        text = "the logits" + (f", which each {how}" if how else " are changed after it")
        return _cause(
            place, "formula", f"has the right weight, and gives other {text}", error=error
        )
    how = pattern(held, wanted, models.tolerance / 10) or "is another"
    if models.theirs.config.get_text_config().tie_word_embeddings:
        text = f"is not tied to the embedding, as config.json asks: its weight {how}"
    else:
        text = f"was given a wrong weight: it {how}"
    return _cause(place, "weights", text, error=error)


def _of_linear(place: Place, module: nn.Module, models: Models) -> Cause:
    tolerance = models.tolerance / 10
    inputs = models.expected[place.other, "input"][0].shape[-1]
    held, bias = weights.acting(module, inputs, models.dtype, models.device)
    if place.part is not None:
        sizes = [
            models.expected[name, "output"][0].shape[-1] for name in models.pairs[place.module]
        ]
        held, bias = held.split(sizes, -1)[place.part], bias.split(sizes, -1)[place.part]
    wanted, wanted_bias = _acting(place.other, models)
    error = float((held - wanted).norm() / wanted.norm())
    if error > tolerance:
        others = {
            name: _acting(name, models)[0]
            for name in models.called_beside(place.other)
            if name != place.other
            and models.expected[name, "output"][0].shape == place.theirs.shape
        }
        how = models.how(held, wanted, tolerance, others=others)
        text = f"was given a wrong weight: it {how or 'is another'}"
        return _cause(place, "weights", text, error=error)
    said = weights.bias_difference(bias, wanted_bias)
    if said:
        return _cause(place, "weights", said, error=error)
    how = models.how(place.ours, place.theirs, models.tolerance)
    return _cause(
        place, "formula", f"computes something else{': it ' + how if how else ''}", error=error
    )


def _of_experts(place: Place, module: nn.Module, other: nn.Module, models: Models) -> Cause:
    found = weights.compare_experts(module, other)
    error = max((each.error for each in found), default=None)
    tolerance = max(models.tolerance / 10, 1e-3)
    wrong = [each for each in found if each.error > tolerance]
    if not wrong:
        text = "weighs or chooses them in another way" if found else "computes something else"
        return _cause(place, "formula", text, error=error)
    first = wrong[0]
    moved = [each for each in wrong if each.whose is not None]
    text = f"has {len(wrong)} of {len(found)} experts with wrong weights"
    if moved:
        first = moved[0]
        text += f": expert {first.number} holds those of expert {first.whose}"
    elif first.halves_swapped:
        text += f": gate and up of expert {first.number} are swapped"
    else:
        text += f", expert {first.number} first"
    return _cause(place, "weights", text, error=error)


def _of_rotation(place: Place, between: Sequence[str], models: Models) -> Cause:
    """Rotating leaves the length of a head as it is, so that is what is wrong."""
    held = parent(place.module)
    rotary = [
        name
        for name, module in models.ours.named_modules()
        if name.startswith(f"{held}.") and hasattr(module, "is_neox_style")
    ]
    name = next(iter([each for each in between if each in rotary] or rotary), held)
    module = models.by_name(name)
    text = f"turns the {place.what} by other angles: its base, scaling or positions"
    if hasattr(module, "is_neox_style") and _turned_otherwise(place, name, module, models):
        style = module.is_neox_style
        text = (
            f"turns the {place.what} with is_neox_style={style}, and {not style} gives what is "
            "expected"
        )
    return _cause(place, "formula", text, name)


def _turned_otherwise(place: Place, name: str, module: Any, models: Models) -> bool:
    """Whether the other style, given the same, gives what is expected."""
    import torch

    given = [each.tensors for each in models.events[: place.at]
             if (each.module, each.what) == (name, "input")]  # fmt: skip
    if not given or len(given[-1]) < 2:
        return False
    rows = given[-1][0].shape[0]
    device = module.cos_sin_cache.device
    query, key = (each.to(device, models.dtype) for each in given[-1][-2:])
    module.is_neox_style = not module.is_neox_style
    try:
        with torch.inference_mode():
            turned = module.forward_native(torch.arange(rows, device=device), query, key)
    finally:
        module.is_neox_style = not module.is_neox_style
    ours = turned[0 if place.what == "query" else 1].float().cpu().reshape(place.theirs.shape)
    return bool((ours - place.theirs).norm() <= models.tolerance * place.theirs.norm())


def _same_sizes(place: Place, models: Models) -> bool:
    """Whether each head is as long as it should be, token by token."""
    ours, theirs = (
        each.reshape(each.shape[0], -1, models.head_size).norm(dim=-1)
        for each in (place.ours, place.theirs)
    )
    return bool((ours - theirs).norm() <= models.tolerance * theirs.norm())


def _between(
    place: Place, found: Sequence[Place], zone: Zone, models: Models
) -> tuple[list[str], list[str]]:
    """What vLLM computed since the last thing that is right; what it did not call before here."""
    right = [each.at for each in found if each.at < place.at and each.error < place.error / 2]
    begin = max(right, default=zone.begin)
    compared = {each.module for each in found}
    leaves = {name for name, module in models.ours.named_modules()
              if next(module.children(), None) is None}  # fmt: skip
    between = [
        event.module
        for event in models.events[begin + 1 : place.at]
        if event.what in ("output", "attended")
        and event.module in leaves
        and event.module not in compared
    ]
    called = {event.module for event in models.events[zone.begin : zone.end]}
    answered = {other for name in called for other in models.pairs.get(name, ())}
    order = list(models.expected)
    # transformers' attention holds its projections; vLLM's stands beside them.
    holds = models.theirs is not None and place.what != "input"
    beside = f"{place.other}." if holds else place.other
    before = order.index((place.other, place.what))
    uncalled = [
        name
        for name in models.called_beside(beside)
        if name not in answered and order.index((name, "output")) < before
    ]
    return between, uncalled


def _acting(name: str, models: Models) -> tuple[Tensor, Tensor]:
    import torch
    from torch import nn

    module = models.theirs.get_submodule(name)
    if isinstance(module, nn.Linear) and module.weight.is_floating_point():
        weight = module.weight.detach().float().T
        bias = module.bias
        return weight, weight.new_zeros(weight.shape[1]) if bias is None else bias.detach().float()
    inputs = models.expected[name, "input"][0].shape[-1]
    return weights.acting(module, inputs, torch.float32, torch.device("cpu"))


def _cause(
    place: Place,
    kind: Kind,
    text: str,
    module: str | None = None,
    *,
    checkpoint: str | None = None,
    error: float | None = None,
) -> Cause:
    named = module or place.module
    other = checkpoint or (place.other if module is None else named)
    return Cause(named, other, kind, error, text, _NEXT[kind])
