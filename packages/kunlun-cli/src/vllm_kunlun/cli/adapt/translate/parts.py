# SPDX-License-Identifier: Apache-2.0
"""Which module of a model of transformers is what: embedding, layers, attention, norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Parts", "parts_of"]


@dataclass(frozen=True)
class Parts:
    """A decoder's modules, and the names that its checkpoint has for them.

    Attributes:
        model: for causal language modelling.
        base: name of the decoder in it (``model``), of its embedding, layers and last norm.
        head: name of the output projection.
        attention: name of the attention in a layer, and of the feed-forward part.
        rotary: modules that make rotary angles, wherever they stand.
    """

    model: PreTrainedModel
    base: str
    embedding: str
    layers: str
    norm: str | None
    head: str
    attention: str
    feed_forward: str
    rotary: list[nn.Module]

    @property
    def decoder(self) -> nn.Module:
        return self.model.get_submodule(self.base)

    @property
    def layer(self) -> nn.Module:
        return self.decoder.get_submodule(self.layers)[0]  # type: ignore[index]

    @property
    def config(self) -> Any:
        return self.model.config

    def value(self, expression: str) -> Any:
        """What an expression of ``config``, written in the class of transformers, is."""
        return eval(expression, {"config": self.config, "math": math})


def parts_of(model: PreTrainedModel) -> Parts:
    """The parts of ``model``.

    Raises:
        UnsupportedError: it is no decoder of equal layers with one embedding and one projection.
    """
    kind = type(model).__name__
    base, decoder = _one(
        [
            (name, each)
            for name, each in model.named_children()
            if any(isinstance(part, nn.ModuleList) for part in each.children())
        ],
        kind, "decoder with a list of layers",
    )  # fmt: skip
    head, _ = _one(
        [(n, m) for n, m in model.named_children() if isinstance(m, nn.Linear)],
        kind, "output projection",
    )  # fmt: skip
    layers, stack = _one(
        [(n, m) for n, m in decoder.named_children() if isinstance(m, nn.ModuleList)],
        kind, "list of layers",
    )  # fmt: skip
    embedding, _ = _one(
        [
            (n, m)
            for n, m in decoder.named_children()
            if isinstance(m, nn.Embedding) and m.num_embeddings == model.config.vocab_size
        ],
        kind, "embedding of tokens",
    )  # fmt: skip
    layer = stack[0]  # type: ignore[index]
    if len({type(each) for each in stack.children()}) > 1:
        raise UnsupportedError(f"{kind}: its layers are of several classes; write its class.")
    attention, _ = _one(
        [(n, m) for n, m in layer.named_children() if "attention" in type(m).__name__.lower()],
        kind, "attention in a layer",
    )  # fmt: skip
    feed_forward, _ = _one(
        [
            (n, m)
            for n, m in layer.named_children()
            if n != attention and any(isinstance(part, nn.Linear) for part in m.modules())
        ],
        kind, "feed-forward part in a layer",
    )  # fmt: skip
    norms = [
        n for n, m in decoder.named_children()
        if "norm" in type(m).__name__.lower() and n not in (embedding, layers)
    ]  # fmt: skip
    return Parts(
        model, base, embedding, layers, norms[0] if len(norms) == 1 else None, head, attention,
        feed_forward,
        [m for m in decoder.modules() if "rotary" in type(m).__name__.lower()],
    )  # fmt: skip


def _one(found: list[tuple[str, nn.Module]], kind: str, what: str) -> tuple[str, nn.Module]:
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        raise UnsupportedError(
            f"{kind} is no decoder of the standard shape: wanted one {what}, found {names}. Write "
            "its class as docs/adapting-a-model.md says."
        )
    return found[0]
