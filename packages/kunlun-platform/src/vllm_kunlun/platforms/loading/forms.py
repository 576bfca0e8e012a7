# SPDX-License-Identifier: Apache-2.0
"""Layers that compute with other parameters than those which a checkpoint fills.

What was prepared once, when the model was loaded, has to be filled again when weights come at run
time. So such a layer keeps a description of the parameters that loaders know, which takes no
memory, in its attribute ``checkpoint_form``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch.nn import Parameter

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading.writes import Writes

__all__ = ["ConvertedForm", "Form", "blank", "filled", "form_of", "lose", "lost", "remember"]


class Form:
    """A layer as the loaders know it, and the way there and back."""

    layer: torch.nn.Module
    parameters: dict[str, Parameter]
    """Those that loaders fill, without memory of their own until the layer is opened."""
    partial = False
    """Whether a part of :attr:`parameters` may come, and the rest stays as it is."""

    def show(self) -> None:
        """Give the layer :attr:`parameters` in the place of those that it computes with."""
        raise NotImplementedError

    def hide(self) -> None:
        """The inverse of :meth:`show`; does nothing where that did not come before."""
        raise NotImplementedError

    def open(self) -> None:
        """Of a layer that is shown: give it parameters that can be written to."""
        raise NotImplementedError

    def close(self, *, fixed: bool) -> None:
        """Of a layer that is opened: compute with what was written, and show it again.

        Args:
            fixed: whether graphs hold the addresses of what the layer computes with.
        """
        raise NotImplementedError


class ConvertedForm(Form):
    """A layer whose tensors of the checkpoint are gone once they have been converted.

    It is filled as a whole, beside the weights that it computes with; those are written over where
    they lie when everything has come, since a captured graph holds their addresses.
    """

    def __init__(
        self,
        layer: torch.nn.Module,
        names: Collection[str],
        convert: Callable[[torch.nn.Module], None],
        optional: Collection[str],
        shared: Collection[str],
    ) -> None:
        """Args: as of :func:`remember`."""
        self.layer, self._convert = layer, convert
        present = layer._parameters
        self.parameters = {
            name: blank(parameter, "meta")
            for name, parameter in present.items()
            if parameter is not None and name in names
        }
        self._device = next(p.device for n, p in present.items() if p is not None and n in names)
        self._others = set(present) - set(names)
        self._first = {name: present[name].data.cpu() for name in optional if name in names}
        self._optional, self.shared = optional, shared
        self._computed: dict[str, Parameter | None] = {}
        self._is_shown = self.is_open = False
        self.writes: Writes | None = None
        """What was written since the layer was opened."""

    def show(self) -> None:
        present, self._is_shown = self.layer._parameters, True
        self._computed = {n: present.pop(n) for n in set(present) - self._others}
        present.update(self.parameters)

    def hide(self) -> None:
        if not self._is_shown:
            return
        self.writes, self._is_shown, self.is_open = None, False, False
        present = self.layer._parameters
        for name in set(present) - self._others:
            del present[name]
        present.update(self._computed)
        self._computed = {}

    def open(self) -> None:
        present, self.is_open = self.layer._parameters, True
        for name, parameter in self.parameters.items():
            present[name] = blank(parameter, self._device)
            if (first := self._first.get(name)) is not None:
                present[name].data.copy_(first)
        self.writes = Writes({name: present[name].data for name in self.parameters}, real=True)

    @property
    def is_full(self) -> bool:
        """Whether all has come that a checkpoint can have."""
        return not self._missing(())

    @property
    def is_untouched(self) -> bool:
        """Whether the layer was opened, and nothing was written."""
        assert self.writes is not None
        return not any(target.written for target in self.writes.targets.values())

    @property
    def missing(self) -> list[str]:
        """Parameters of the layer that were not written, or in part."""
        return self._missing(self._optional)

    def _missing(self, optional: Collection[str]) -> list[str]:
        assert self.writes is not None
        return [
            name
            for name, target in self.writes.targets.items()
            if target.written < target.size and name not in optional
        ]

    def close(self, *, fixed: bool) -> None:
        """Convert what was written.

        Raises: KunlunError: as of the layer's conversion, or the new weights want other parameters
            than the graphs were captured with; in both cases the layer computes as before.
        """
        self.writes = None
        self._convert(self.layer)
        self.is_open = False
        present = self.layer._parameters
        new = {name: present[name] for name in set(present) - self._others}
        if changed := sorted(n for n in {*new, *self._computed} if not self._fits(n, new)):
            if fixed:
                raise UnsupportedError(
                    f"the new weights of a layer differ from the old ones in {', '.join(changed)}, "
                    "whose place in memory is part of the captured graphs. Start the server anew "
                    "with the new weights, or serve with --enforce-eager."
                )
            self._computed.update({name: new.get(name) for name in changed})
        for name in set(self._computed) - set(changed):
            if (parameter := self._computed[name]) is not None:
                parameter.data.copy_(present[name].data)
        present.update(self.parameters)

    def _fits(self, name: str, new: dict[str, Parameter | None]) -> bool:
        old, other = self._computed.get(name), new.get(name)
        if old is None or other is None:
            return old is other
        return old.shape == other.shape and old.dtype == other.dtype


class _LostForm(Form):
    """A layer that was converted with a loss, so nothing can be loaded into it.

    Raises: UnsupportedError: from :meth:`show`.
    """

    def __init__(self, layer: torch.nn.Module, name: str) -> None:
        self.layer, self._name = layer, name
        self.parameters = {}

    def show(self) -> None:
        raise lost(self._name)


def form_of(layer: torch.nn.Module) -> Form | None:
    """The form of a layer that has one."""
    found: Form | None = layer.__dict__.get("checkpoint_form")
    return found


def remember(
    layer: torch.nn.Module,
    names: Collection[str],
    convert: Callable[[torch.nn.Module], None],
    *,
    optional: Collection[str] = (),
    shared: Collection[str] = (),
) -> bool:
    """Note how to load ``layer`` again; to be called before its tensors are converted.

    Returns:
        Whether they are there: False where they were converted before, and nothing came since.

    Args:
        names: the parameters that ``convert`` takes down.
        convert: makes of them what the layer computes with; it is called again after each load.
        optional: those of ``names`` that need not come; then their first value holds.
        shared: those that several tensors of a checkpoint fill alike.
    """
    form = form_of(layer)
    if form is None:
        layer.checkpoint_form = ConvertedForm(layer, names, convert, optional, shared)
        return True
    return isinstance(form, ConvertedForm) and form.is_open


def lost(name: str) -> UnsupportedError:
    """The error for a layer, called ``name``, that cannot be loaded again."""
    return UnsupportedError(
        f"{name}: weights were converted as they were loaded and cannot be loaded again in place. "
        "Start the server anew, or serve an int8 checkpoint."
    )


def lose(layer: torch.nn.Module, name: str) -> None:
    """Note that nothing can be loaded into ``layer``, called ``name``, any more: a load says so."""
    layer.checkpoint_form = _LostForm(layer, name)


def blank(parameter: Parameter, device: torch.device | str) -> Parameter:
    """A parameter of the same class, shape, dtype and attributes, with memory that is not set."""
    return filled(parameter, torch.empty(parameter.shape, dtype=parameter.dtype, device=device))


def filled(parameter: Parameter, data: torch.Tensor) -> Parameter:
    """A parameter of the class and attributes of another one. Shapes: both alike, any."""
    new: Any = torch.Tensor._make_subclass(type(parameter), data, False)
    new.__dict__.update(parameter.__dict__)
    return new
