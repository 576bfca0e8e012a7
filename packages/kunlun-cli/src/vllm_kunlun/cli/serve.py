# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun serve``: vLLM's own server, with the preset where the user said nothing."""

from __future__ import annotations

import json as jsonlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from vllm_kunlun.cli.console import JsonFlag, err, print_json
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.checks import checkpoint
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError
from vllm_kunlun.platforms.families import ModelFamily, family_for
from vllm_kunlun.platforms.starting import folders
from vllm_kunlun.platforms.version import check_vllm

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["Plan", "architecture_of", "plan", "refused", "serve"]


class Plan(NamedTuple):
    """What ``serve`` will do: the arguments of ``vllm`` and the variables to set, if not set."""

    argv: list[str]
    environment: dict[str, str]
    applied: dict[str, str]
    """Preset argument -> why, for those that the user did not give."""


def serve(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A checkpoint folder, or a name on the hub.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and stop.")] = False,
    json: JsonFlag = False,
) -> None:
    """Use this to serve a model over HTTP with the settings that suit it on the card.

    Every other option goes to `vllm serve` as it is (`vllm serve --help` lists them), and wins
    over the preset. `vllm serve MODEL` works the same without the preset.
    """
    folders.check()
    check_vllm()
    if model.startswith("-"):
        raise UnsupportedError(
            f"expected MODEL first, got {model!r}: write `vllm-kunlun serve MODEL [options]`."
        )
    architecture = architecture_of(model)
    family = family_for(architecture) if architecture else None
    todo = plan(model, ctx.args, family)
    environment = {
        name: value for name, value in todo.environment.items() if envs.set_default(name, value)
    }
    if json:
        print_json(
            {
                "model": model,
                "architecture": architecture,
                "family": family.name if family else None,
                "argv": todo.argv,
                "environment": environment,
                "applied": todo.applied,
            }
        )
    else:
        _explain(architecture, family, todo, environment)
    if not dry_run:
        _run(todo.argv)


def plan(model: str, user: Sequence[str], family: ModelFamily | None) -> Plan:
    """The arguments for vLLM: the user's, then those of the preset that the user did not give.

    Raises:
        UnsupportedError: the file that the user's ``--config`` names cannot be read.
    """
    argv = ["vllm", "serve", model, *user]
    if family is None:
        return Plan(argv, {}, {})
    given = _given(user)
    applied = {}
    for name, value in family.preset.args.items():
        if name in given:
            continue
        argv += _flag(name, value)
        applied[name] = family.preset.why.get(name, "")
    return Plan(argv, dict(family.preset.environment), applied)


def architecture_of(model: str) -> str | None:
    """First of ``architectures`` in the checkpoint's config.json; None if that is not on this disk.

    Raises:
        UnsupportedError: the folder has no config.json, it cannot be read, or names none.
    """
    path = Path(model) / "config.json"
    if not Path(model).is_dir():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(model, "config.json")
        except HFValidationError:  # a path, and no folder is there
            raise UnsupportedError(
                f"MODEL {model!r} is neither a folder nor a name on the hub (owner/name): "
                "correct the path."
            ) from None
        if not isinstance(cached, str):
            return None
        path = Path(cached)
    if not path.is_symlink() and not path.exists():
        raise UnsupportedError(
            f"{model} holds no config.json: MODEL must be a checkpoint in Hugging Face's layout."
        )
    checkpoint.check_file(path)
    try:
        configuration = jsonlib.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnsupportedError(
            f"{path} is not JSON ({error}): the file is damaged, fetch the checkpoint again."
        ) from error
    names = configuration.get("architectures") if isinstance(configuration, dict) else None
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        found = names if isinstance(configuration, dict) else configuration
        raise UnsupportedError(
            f'{path} must hold "architectures", a list of names such as ["Qwen3ForCausalLM"], and '
            f"has {jsonlib.dumps(found)[:80]}: the file is damaged or not a model's. Fetch the "
            "checkpoint again, or add the name of its class in Hugging Face's transformers."
        )
    return str(names[0])


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _given(user: Sequence[str]) -> set[str]:
    """Long names, with dashes, of the options that the user gave, also in vLLM's --config file."""
    given: set[str] = set()
    for position, text in enumerate(user):
        if not text.startswith("--"):
            continue
        name, _, value = text[2:].partition("=")
        name = name.replace("_", "-")
        given |= {name, name.removeprefix("no-")}
        if name == "config":
            if not value and position + 1 == len(user):
                raise UnsupportedError("--config wants a file: write --config FILE.yaml.")
            given |= _config_file_keys(Path(value or user[position + 1]))
    return given


def _config_file_keys(path: Path) -> set[str]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnsupportedError(f"--config {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UnsupportedError(
            f"--config {path} must hold one option a line, such as `dtype: float16`; it holds "
            f"{type(content).__name__}."
        )
    return {str(key).replace("_", "-") for key in content}


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _explain(
    architecture: str | None, family: ModelFamily | None, todo: Plan, environment: dict[str, str]
) -> None:
    if family is None:
        which = f"no installed family has a preset for {architecture}"
        if architecture is None:
            which = "its config.json is not on this disk, so no preset was chosen"
        err.print(f"{which}; vLLM's defaults apply", markup=False)
    else:
        err.print(f"preset of the {family.name} family for {architecture}:", markup=False)
        for name, why in todo.applied.items():
            err.print(f"  --{name} {family.preset.args[name]}: {why}", markup=False)
        for name, value in environment.items():
            err.print(f"  {name}={value}: {family.preset.why.get(name, '')}", markup=False)
    err.print(shlex.join(todo.argv), markup=False)


def _run(argv: list[str]) -> None:
    """vLLM's command; what vLLM's own checks of the options refuse is one sentence, too."""
    from pydantic import ValidationError
    from vllm.entrypoints.cli.main import main

    sys.argv = argv
    try:
        main()
    except ValidationError as error:
        raise refused(error) from None


def refused(error: ValidationError) -> KunlunError:
    """What pydantic wraps: vLLM's configurations are checked by it, and ours within them."""
    first, *_ = error.errors()
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, KunlunError):
        return raised
    where = ".".join(map(str, first["loc"]))
    return UnsupportedError(
        f"vLLM refuses its {error.title}{where and f', {where}'}: "
        f"{first['msg'].removeprefix('Value error, ')}"
    )
