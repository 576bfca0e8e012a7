# SPDX-License-Identifier: Apache-2.0
"""Why each argument and each variable of a server is there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import NamedTuple

from vllm_kunlun.cli.serving.options import Given, given
from vllm_kunlun.cli.serving.plan import Chosen, Plan
from vllm_kunlun.platforms import envs

__all__ = ["Row", "explain"]

_END = re.compile(r":?\n\s*(?:\n|-)|\.(?:\s|$)")
"""Where the first sentence of a description ends."""


class Row(NamedTuple):
    """One argument (``--name``) or variable (``NAME``) of the server.

    Attributes:
        name: as it is written.
        value: as text; empty for a switch.
        source: who said so.
        why: what it does, or the reason for its value.
    """

    name: str
    value: str
    source: str
    why: str


def explain(
    user: Sequence[str], chosen: Chosen, todo: Plan, added: Mapping[str, str]
) -> list[Row]:  # fmt: skip
    """Arguments first: the user's, the preset's; then variables: set, added now, set on a card.

    Args:
        user: the user's arguments after the model.
        chosen: the preset.
        todo: what will be run.
        added: variables that the preset added, as the user had not set them.
    """
    meanings = _of_vllm()
    rows = [_given(option, chosen, meanings) for option in given(user)]
    for name, why in todo.applied.items():
        rows.append(Row(f"--{name}", str(chosen.preset.args[name]), chosen.source, why))
    on_card = envs.card_values()
    for described in envs.describe():
        name, meaning = described["name"], described["meaning"]
        if name in added:
            why = chosen.preset.why.get(name, meaning)
            rows.append(Row(name, added[name], chosen.source, why))
        elif described["set"]:
            instead = chosen.preset.environment.get(name)
            rows.append(_user_set(name, str(described["value"]), meaning, instead))
        elif name in on_card:
            rows.append(Row(name, on_card[name], "the platform, on a card", meaning))
    return rows


def _given(option: Given, chosen: Chosen, meanings: Mapping[str, str]) -> Row:
    name = option.name if option.name.startswith("-") else f"--{option.name}"
    why = meanings.get(name, "an option of vLLM's")
    preset = chosen.preset.args.get(option.settles)
    if preset is not None:
        reason = chosen.preset.why.get(option.settles, chosen.source)
        why = f"{why}. Without it {preset}: {reason}"
    return Row(name, option.value, f"you, in {option.file}" if option.file else "you", why)


def _user_set(name: str, value: str, meaning: str, instead: str | None) -> Row:
    why = meaning if instead in (None, value) else f"{meaning}; the preset has {instead}"
    return Row(name, value, "you, in the environment", why)


def _of_vllm() -> dict[str, str]:
    """Option as it is written -> the first sentence that vLLM's configurations say about it."""
    import vllm.config
    from vllm.config.utils import get_attr_docs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from vllm_kunlun.platforms.vllm_compat.server_options import FrontendArgs, make_arg_parser

    owners = [getattr(vllm.config, name) for name in vllm.config.__all__]
    said: dict[str, str] = {}
    for owner in [*filter(is_dataclass, owners), FrontendArgs]:
        said = {**get_attr_docs(owner), **said}  # type: ignore[arg-type]
    return {
        option: " ".join(_END.split(said.get(action.dest, "an option of vLLM's"))[0].split())
        for action in make_arg_parser(FlexibleArgumentParser(add_help=False))._actions
        for option in action.option_strings
    }
