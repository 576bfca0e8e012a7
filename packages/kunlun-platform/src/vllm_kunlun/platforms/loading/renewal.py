# SPDX-License-Identifier: Apache-2.0
"""Weights at run time: a model that serves is given others.

vLLM's ``reload_weights`` and the loops of reinforcement learning both call the model's
``load_weights`` again, and process nothing after it. Here that method does the rest: a tensor that
belongs to a layer with a :mod:`form <vllm_kunlun.platforms.loading.forms>` opens it, and what was
opened is closed again, where the old weights lie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.nn import Parameter
from vllm.logger import init_logger
from vllm.model_executor.model_loader.weight_utils import default_weight_loader

from vllm_kunlun.platforms.errors import CheckpointError, KunlunError, UnsupportedError
from vllm_kunlun.platforms.loading import verdict
from vllm_kunlun.platforms.loading.forms import ConvertedForm, Form, form_of
from vllm_kunlun.platforms.loading.writes import Source
from vllm_kunlun.platforms.vllm_compat.attention_layer import Attention, MLAAttention

__all__ = ["Renewal", "install", "plain", "renewal_of"]

logger = init_logger("vllm.kunlun.loading")

Weights = Iterable[tuple[str, torch.Tensor]]


class Renewal:
    """The ``load_weights`` of a model that serves.

    Args:
        model: loaded, and prepared for the device.
        dtype: what it computes in.
        fixed: whether graphs hold the addresses of its weights.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype, *, fixed: bool) -> None:
        self.model, self._dtype, self._fixed = model, dtype, fixed
        self._opened: dict[Form, str] = {}
        self._closed: set[Form] = set()
        self._current: Source | None = None

    def load_weights(self, weights: Weights, **keywords: Any) -> set[str] | None:
        """As the model's own: ``weights`` are some or all tensors of a checkpoint, by its names.

        Of a layer whose weights are converted for the device all tensors must come in one call.

        Returns: the names of the parameters that were loaded, if the model says.

        Raises:
            CheckpointError: naming what did not come of such a layer, or what a layer cannot take.
            UnsupportedError: a layer cannot be loaded again.
        """
        with _shown(self.model) as forms:
            try:
                with self._followed(forms):
                    loaded: set[str] | None = type(self.model).load_weights(
                        self.model, self._named(weights), **keywords
                    )
                self._check_opened(forms, loaded)
                self._close(forms, loaded)
            finally:
                self._opened.clear()
                self._closed.clear()
        logger.info_once(
            "Weights were loaded at run time. Blocks of the prefix cache are still those of the "
            "old ones: call reset_prefix_cache."
        )
        return loaded

    @contextlib.contextmanager
    def as_loaded(self) -> Iterator[None]:
        """The model with the parameters that loaders know, none of which has memory."""
        with _shown(self.model):
            yield

    def _named(self, weights: Weights) -> Weights:
        for name, tensor in weights:
            self._current = Source(name, "load_weights", tuple(tensor.shape), tensor.dtype)
            yield name, tensor

    @contextlib.contextmanager
    def _followed(self, forms: dict[str, Form]) -> Iterator[None]:
        """Loaders of the parameters in ``forms`` that open the layer first."""
        with contextlib.ExitStack() as back:
            for prefix, form in forms.items():
                for name, parameter in form.parameters.items():
                    before: Any = getattr(parameter, "weight_loader", None)
                    loader = before or default_weight_loader
                    parameter.weight_loader = self._opening(prefix, form, name, loader)
                    back.callback(_set_loader, parameter, before)
            yield

    def _opening(
        self, prefix: str, form: Form, name: str, loader: Callable[..., Any]
    ) -> Callable[..., Any]:
        def load(_: Parameter, loaded: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
            if form in self._closed and name in getattr(form, "shared", ()):
                return True  # what came before was the same
            if form not in self._opened:
                form.open()
                self._opened[form] = prefix
            parameter = form.layer._parameters[name]
            if not isinstance(form, ConvertedForm):
                return loader(parameter, loaded, *arguments, **keywords)
            assert form.writes is not None
            if self._current is not None:
                form.writes.follow(loaded, self._current)
            with form.writes:
                done = loader(parameter, loaded, *arguments, **keywords)
            if form.is_full:  # before the next layer is opened, since it takes memory twice
                self._close_one(form)
            return done

        return load

    def _close_one(self, form: Form) -> None:
        prefix = self._opened.pop(form)
        self._closed.add(form)
        try:
            if isinstance(form, ConvertedForm) and form.writes is not None:
                verdict.check_kinds(form.writes)
            form.close(fixed=self._fixed)
        except KunlunError as error:
            raise type(error)(
                f"{prefix}: {error} Other layers may have new weights by now: load all before "
                "requests come."
            ) from error

    def _check_opened(self, forms: dict[str, Form], loaded: set[str] | None) -> None:
        closed = {
            f"{prefix}.{name}"
            for prefix, form in forms.items()
            if not isinstance(form, ConvertedForm) and form not in self._opened
            for name, parameter in form.parameters.items()
            if parameter.is_meta
        }
        if lost := sorted(closed & (loaded or set())):
            raise UnsupportedError(
                f"{lost[0]} was loaded in a way of the model's own, which cannot be followed once "
                "the model serves. Start the server anew with the new weights."
            )

    def _close(self, forms: dict[str, Form], loaded: set[str] | None) -> None:
        incomplete = []
        for form in [each for each in self._opened if isinstance(each, ConvertedForm)]:
            if form.is_untouched:
                del self._opened[form]  # its tensors were another rank's
            elif form.missing:
                incomplete.append((self._opened.pop(form), form))
            else:
                self._close_one(form)
        absent = self._absent(*incomplete[0]) if incomplete else ""
        for each in forms.values():
            if isinstance(each, ConvertedForm):
                each.hide()  # attention asks such a layer for its weights
        self._renew_attention(forms, loaded)
        for opened in list(self._opened):
            self._close_one(opened)
        if incomplete:
            prefix, _ = incomplete[0]
            raise CheckpointError(
                f"{prefix} keeps its weights, since not all of its tensors came: {absent}. They "
                f"are converted together: give all tensors of such a layer in one call. "
                "Other layers may have new weights by now: load all before requests come."
            )

    def _absent(self, prefix: str, form: ConvertedForm) -> str:
        assert form.writes is not None
        targets = {f"{prefix}.{name}": each for name, each in form.writes.targets.items()}
        fused = verdict.fused_layers(self.model)
        return "; ".join(list(verdict.unfilled(targets, None, fused)) or form.missing)

    def _renew_attention(self, forms: dict[str, Form], loaded: set[str] | None) -> None:
        """What attention layers derive from weights, as vLLM has them do after the first load."""
        names = {id(module): name for name, module in self.model.named_modules()}
        for module in self.model.modules():
            if not isinstance(module, (Attention, MLAAttention)):
                continue
            source = getattr(module.impl, "kv_b_proj", None)
            prefix = names.get(id(source))
            if prefix is not None:
                if loaded is not None and not any(n.startswith(f"{prefix}.") for n in loaded):
                    continue
                form = forms.get(prefix)
                if form is not None and form.partial and form not in self._opened:
                    form.open()
                    self._opened[form] = prefix
            module.process_weights_after_loading(self._dtype)


def _set_loader(parameter: Any, loader: Callable[..., Any] | None) -> None:
    if loader is None:
        del parameter.weight_loader
    else:
        parameter.weight_loader = loader


def install(model: torch.nn.Module, dtype: torch.dtype, *, fixed: bool) -> None:
    """Make :class:`Renewal` the ``load_weights`` of a loaded model; arguments as there."""
    model.load_weights = Renewal(model, dtype, fixed=fixed).load_weights


def renewal_of(model: torch.nn.Module) -> Renewal | None:
    """What :func:`install` gave ``model``."""
    method = model.__dict__.get("load_weights")
    owner = getattr(method, "__self__", None)
    return owner if isinstance(owner, Renewal) else None


@contextlib.contextmanager
def plain(model: torch.nn.Module) -> Iterator[None]:
    """``model`` with all parameters in the form of a checkpoint.

    Raises: UnsupportedError: naming a layer whose weights were converted, or vLLM's own scales.
    """
    for name, module in model.named_modules():
        if isinstance(module, (Attention, MLAAttention)) and "_k_scale" in module._parameters:
            raise UnsupportedError(
                f"{name}: once vLLM has loaded a model of compressed-tensors, the scales of its "
                "attention have other names than a start looks for. Keep the checkpoint that the "
                "server was started with: each rank reads its own part of it."
            )
    for name, form in _forms(model).items():
        if not form.partial:
            raise UnsupportedError(
                f"{name}: its weights were converted for this device as they were loaded, and no "
                "other start could read them. Keep the checkpoint that the server was started "
                "with: each rank reads its own part of it."
            )
    with _shown(model) as forms:
        for form in forms.values():
            form.open()
        yield


def _forms(model: torch.nn.Module) -> dict[str, Form]:
    found = ((name, form_of(module)) for name, module in model.named_modules())
    return {name: form for name, form in found if form is not None}


@contextlib.contextmanager
def _shown(model: torch.nn.Module) -> Iterator[dict[str, Form]]:
    forms = _forms(model)
    with contextlib.ExitStack() as back:
        for form in forms.values():
            form.show()
            back.callback(form.hide)
        yield forms
