# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint's configuration to what its wheel is written of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm_kunlun.cli.adapt import tiny
from vllm_kunlun.cli.adapt.naming import name_of
from vllm_kunlun.cli.adapt.wheel import Wheel
from vllm_kunlun.cli.assess import source
from vllm_kunlun.cli.assess.case import case_of, classes_of_vllm
from vllm_kunlun.cli.configuration import configuration_of
from vllm_kunlun.cli.serving.templates import experts_of
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.families import family_for

__all__ = ["Adapted", "from_model", "tiny_config"]


@dataclass(frozen=True)
class Adapted:
    """What is to be written, and what is to be said of it.

    Attributes:
        case: the manual's letter, or ``file``.
        said: sentences, what was done and why.
        todo: what is left to write by hand.
    """

    wheel: Wheel
    case: str
    said: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)


def from_model(model: str, name: str | None, say: Callable[[str], None]) -> Adapted:
    """The wheel for a checkpoint folder, a config.json or a name on the hub.

    Raises:
        UnsupportedError: there is no such model, a family serves it, or nothing has its class.
    """
    with source.folder_of(model) as (_, folder):
        content = configuration_of(str(folder))
        assert content is not None, "folder_of gives a folder with a config.json"
        architecture = content["architectures"][0]
        if (family := family_for(architecture)) is not None:
            raise UnsupportedError(
                f"{architecture} is of the family {family.name} ({family.distribution}), which is "
                f"installed: there is nothing to adapt. Serve it: vllm-kunlun serve {model}."
            )
        say("importing vLLM")
        supported = classes_of_vllm()
        case = case_of(architecture, content, supported)
        name = name or name_of(architecture)
        experts = experts_of(content)
        if architecture in supported:
            config = tiny_config(folder, architecture)
            wheel = Wheel(name, architecture, experts, config=config)
            said = [f"{case.reason}: no model file is needed, the wheel has a preset"]
            if config is None:
                said.append(
                    "transformers has no such model for text alone: the wheel's tests do not "
                    "compare answers"
                )
            return Adapted(wheel, case.letter, said)
        if case.letter == "D":
            raise UnsupportedError(f"{case.reason}: {case.todo} (docs/adapting-a-model.md).")
        say("reading the class of transformers")
        return _translated(folder, architecture, name, case.letter, experts)


def _translated(folder: Path, architecture: str, name: str, letter: str, experts: bool) -> Adapted:
    from vllm_kunlun.cli.adapt.translate.translated import translate

    config = tiny_config(folder, architecture)
    if config is None:
        raise UnsupportedError(
            f"neither vLLM nor transformers has {architecture}: there is no class to write one "
            "from. Write it as docs/adapting-a-model.md says, and adapt that file."
        )
    model = tiny.built(config)
    found = translate(model)
    wheel = Wheel(
        name, architecture, experts, f"{name.replace('-', '_')}.py", found.text,
        type(model).__name__, f"written from {type(model).__module__}", config,
    )  # fmt: skip
    return Adapted(
        wheel, letter,
        [f"vLLM has no {architecture}: its class is written from {type(model).__module__}"],
        found.todo,
    )  # fmt: skip


def tiny_config(folder: Path | None, architecture: str) -> dict[str, Any] | None:
    """The configuration in ``folder``, or the default one, small; None if it is of no decoder.

    Raises:
        UnsupportedError: transformers has the model and cannot build it so small.
    """
    from transformers import CONFIG_MAPPING, AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kinds = [kind for kind, each in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
             if each == architecture]  # fmt: skip
    if not kinds:
        return None
    try:
        config = AutoConfig.from_pretrained(folder) if folder else CONFIG_MAPPING[kinds[0]]()
        small = tiny.shrunk(config)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"the configuration cannot be read by transformers ({type(error).__name__}: {error}): "
            "correct config.json."
        ) from error
    small.architectures = [architecture]
    told: dict[str, Any] = json.loads(small.to_json_string(use_diff=False))
    return told
