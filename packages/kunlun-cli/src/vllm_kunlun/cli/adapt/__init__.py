# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun adapt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vllm_kunlun.cli.console import JsonFlag, err, out, print_json, quiet_vllm
from vllm_kunlun.platforms.version import check_vllm

__all__ = ["adapt"]


def adapt(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|FILE",
            help="A checkpoint folder, a config.json, a name on the hub; or a vLLM model file.",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Where the wheel goes; not there, or empty."),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The family's name; from the architecture by default."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Of a FILE with several models, the one to register."),
    ] = None,
    prove: Annotated[
        bool, typer.Option(help="Run the wheel's tests: a tiny model beside transformers'.")
    ] = True,
    json: JsonFlag = False,
) -> None:
    """Use this to get a model onto the card: it writes the family wheel, ready to install.

    An architecture that vLLM has needs no model file: the wheel holds a serving preset. One that
    only transformers has gets a vLLM class, written from the class of transformers; what could not
    be translated is marked TODO(adapt) in the file and listed. A vLLM model file is taken as it is:
    the platform replaces its layers, and each import that the manual would edit is named.

    The wheel has tests that compare a tiny random model with transformers, tokens and
    log-probabilities; they are run at the end, which takes a minute or two.
    """
    from vllm_kunlun.cli.adapt import prove as proof
    from vllm_kunlun.cli.adapt import wheel
    from vllm_kunlun.cli.adapt.naming import check_name
    from vllm_kunlun.cli.adapt.text import show

    wheel.check_destination(folder)
    if name is not None:
        check_name(name, "--name")
    if prove:
        proof.check()
    check_vllm()
    quiet_vllm()

    def say(text: str) -> None:
        err.print(f"{text} ...", markup=False)

    if model.endswith(".py"):
        from vllm_kunlun.cli.adapt.vllm_file import from_file

        adapted = from_file(Path(model), name, architecture)
    else:
        from vllm_kunlun.cli.adapt.adapting import from_model

        adapted = from_model(model, name, say)
    say(f"writing {folder}")
    files = wheel.write(folder, adapted.wheel)
    result: dict[str, Any] = {
        "model": model,
        "architecture": adapted.wheel.architecture,
        "case": adapted.case,
        "wheel": f"kunlun-models-{adapted.wheel.name}",
        "folder": str(folder),
        "files": [str(file) for file in files],
        "said": adapted.said,
        "todo": adapted.todo,
        "proved": None,
        "tests": "",
    }
    if prove and not adapted.todo:
        say("running its tests: a tiny model beside transformers")
        result["proved"], result["tests"] = proof.prove(folder, adapted.wheel)
    if json:
        print_json(result)
    else:
        show(result, out)
    raise typer.Exit(1 if adapted.todo or result["proved"] is False else 0)
