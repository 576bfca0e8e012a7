# SPDX-License-Identifier: Apache-2.0
"""Linear layers of an emulated device in oneDNN's own weight format.

On this kind of processor a prepacked float32 weight multiplies one and a half to five times as fast
as ``torch.nn.functional.linear`` at every batch size, so all plain layers are packed. In bfloat16
the rows of a decode step do, up to two and a half times, where oneDNN computes in it. Layers of 16
bits that it does not compute in stay: :mod:`.half_linear` multiplies them. This belongs to the
emulated device, and a card never sees it.

A packed layer keeps one copy of its weight. The one exception is an output projection that shares
its weight with the embedding: the embedding reads rows, which the packed form cannot give.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.library import Library
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)

from vllm_kunlun.emulator.device import half_linear, huge_pages
from vllm_kunlun.emulator.device.packed_weight import PackedWeight
from vllm_kunlun.platforms.loading import forms

__all__ = ["memory", "pack"]

_library = Library("vllm_kunlun_emulated", "FRAGMENT")
_library.define("packed_linear(Tensor x, int handle, int rows, Tensor? bias) -> Tensor")

_packed_weights: list[PackedWeight | None] = []
"""None while a layer's weight is dense."""


def _packed_linear(x: torch.Tensor, handle: int, rows: int, bias: torch.Tensor | None) -> Any:
    weight = _packed_weights[handle]
    assert weight is not None  # no step runs while weights are read or written
    return weight.multiply(x, bias)


def _packed_linear_fake(x: torch.Tensor, handle: int, rows: int, bias: Any) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], rows))


_library.impl("packed_linear", _packed_linear, "CPU")
_library._register_fake("packed_linear", _packed_linear_fake)
_op = torch.ops.vllm_kunlun_emulated.packed_linear.default
_op.implementation = _packed_linear


class _PackedLayer:
    """The ``apply`` of a layer whose weight lies in :data:`_packed_weights`.

    A graph cannot hold a packed tensor, so the op takes its position in the list.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.rows = weight.shape[0]
        self.handle = len(_packed_weights)
        _packed_weights.append(PackedWeight(weight))

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W^T + bias`` of the weight's dtype, float32 sums."""
        return _op(x, self.handle, self.rows, bias)


class _PackedForm(forms.Form):
    """A packed layer, whose weight comes out of the packed one as it went in.

    Args:
        kept: its weight is an embedding's, too, and stays beside the packed one.
    """

    partial = True

    def __init__(self, layer: torch.nn.Module, handle: int, *, kept: bool) -> None:
        self.layer, self._handle = layer, handle
        weight = layer.weight
        self.parameters = {"weight": weight if kept else forms.blank(weight, "meta")}
        self._kept, self._is_open = kept, False
        layer._parameters.update(self.parameters)

    def show(self) -> None:
        pass  # it is always

    def open(self) -> None:
        self._is_open = True
        if not self._kept:
            packed = _packed_weights[self._handle]
            assert packed is not None  # it is open once at a time
            dense = packed.to_dense()
            self.layer._parameters["weight"] = forms.filled(self.parameters["weight"], dense)
            _packed_weights[self._handle] = None

    def close(self, *, fixed: bool) -> None:
        self._is_open = False
        packed = _packed_weights[self._handle] = PackedWeight(self.layer.weight)
        huge_pages.gather([packed.memory()])
        self.layer._parameters.update(self.parameters)

    def hide(self) -> None:
        if self._is_open:
            self.close(fixed=False)


class _PackedLinearMethod(_PackedLayer, UnquantizedLinearMethod):
    pass


class _PackedEmbeddingMethod(_PackedLayer, UnquantizedEmbeddingMethod):
    pass


_METHODS = {
    UnquantizedLinearMethod: _PackedLinearMethod,
    UnquantizedEmbeddingMethod: _PackedEmbeddingMethod,
}
_PACKED = (torch.float32, torch.bfloat16)
"""Dtypes whose packed product is quicker, where oneDNN computes in them."""
_HALF_METHODS = {
    UnquantizedLinearMethod: half_linear.HalfLinearMethod,
    UnquantizedEmbeddingMethod: half_linear.HalfEmbeddingMethod,
}


def pack(model: torch.nn.Module) -> int:
    """Pack every plain linear layer and output projection of ``model`` that gains by it.

    Those of 16 bits that oneDNN does not compute in get the method of :mod:`.half_linear`.

    Returns:
        How many layers were packed; 0 where torch has no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    holders = Counter(
        id(parameter)
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
    )
    halves, packed = half_linear.dtypes(), 0
    for name, module in model.named_modules(remove_duplicate=False):
        kind = type(getattr(module, "quant_method", None))
        weight = module._parameters.get("weight")
        if kind not in _METHODS or weight is None or weight.dim() != 2:
            continue
        is_embedding = isinstance(module, VocabParallelEmbedding) and not isinstance(
            module, ParallelLMHead
        )
        if is_embedding and not name.endswith("lm_head"):
            continue
        if weight.dtype in halves:
            module.quant_method = _HALF_METHODS[kind]()
            continue
        if weight.dtype not in _PACKED:
            continue
        module.quant_method = _METHODS[kind](weight)
        kept = holders[id(weight)] > 1 or is_embedding
        # Shape and dtype stay readable; a use of the values fails with an error.
        form = _PackedForm(module, module.quant_method.handle, kept=kept)
        if forms.form_of(module) is None:
            module.checkpoint_form = form
        packed += 1
    return packed


def memory(*models: torch.nn.Module) -> list[tuple[int, int]]:
    """Address and size in bytes of each tensor that a step reads: packed, or as it was loaded."""
    found: list[tuple[int, int]] = []
    modules = [module for model in models for module in model.modules()]
    unread: set[int] = set()
    for module in modules:
        # Its own: a layer with adapters passes on the method of the layer that it wraps.
        method = vars(module).get("quant_method")
        packed = _packed_weights[method.handle] if isinstance(method, _PackedLayer) else None
        if packed is not None:
            found.append(packed.memory())
            unread.add(id(module._parameters["weight"]))
    tensors = {
        id(tensor): tensor
        for module in modules
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if tensor.device.type == "cpu" and id(tensor) not in unread
    }
    return found + [(tensor.data_ptr(), tensor.nbytes) for tensor in tensors.values()]
