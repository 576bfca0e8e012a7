# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun weights``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllm_kunlun.cli.configuration import architecture_of
from vllm_kunlun.cli.console import JsonFlag, err, out, print_json, quiet_vllm
from vllm_kunlun.cli.serve import refused
from vllm_kunlun.cli.tensors.rows import as_result
from vllm_kunlun.cli.tensors.text import lines
from vllm_kunlun.platforms.checks import checkpoint
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.version import check_vllm

if TYPE_CHECKING:
    from vllm_kunlun.platforms.loading.survey import Survey

__all__ = ["surveyed", "weights"]


def weights(
    model: Annotated[Path, typer.Argument(help="The folder of a checkpoint.")],
    tensor_parallel_size: Annotated[
        int,
        typer.Option(
            "--tensor-parallel-size", "-tp", min=1, help="As one of so many ranks would load it."
        ),
    ] = 1,
    every: Annotated[
        bool, typer.Option("--all", help="List every tensor and where it goes.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="As vLLM's: run the checkpoint's own code.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Use this when weights do not load, or the answers are garbage.

    Puts the checkpoint's names beside the model's parameters: matched,
    renamed, stacked into a fused layer, sharded, tied; and what is missing,
    unexpected, of a wrong shape or dtype, with the nearest name. Headers
    alone are read, and the model is made without memory, so a checkpoint of
    any size takes seconds. Serving refuses the same faults, one at a time.
    """
    check_vllm()
    if not model.is_dir():
        raise UnsupportedError(
            f"{model} is no folder: fetch the checkpoint, and give its folder "
            f"(hf download {model} --local-dir FOLDER)."
        )
    architecture = architecture_of(str(model))
    about = {
        "model": str(model),
        "architecture": architecture,
        "tensor_parallel_size": tensor_parallel_size,
    }
    began = time.perf_counter()
    try:
        checkpoint.check_files(model)
        err.print("importing vLLM, making the model without memory, reading headers ...")
        result = as_result(surveyed(model, tensor_parallel_size, trust_remote_code), **about)
    except (CheckpointError, UnsupportedError) as error:
        result = _refused(about, str(error))
    result["seconds"] = round(time.perf_counter() - began, 2)
    if json:
        print_json(result)
    else:
        for line in lines(result, every=every):
            out.print(line, markup=False)
    raise typer.Exit(0 if result["ok"] else 1)


def surveyed(model: Path, ranks: int, trust_remote_code: bool) -> Survey:
    """What the class of ``model`` would load of it, as one of ``ranks``; no tensor is read.

    Raises:
        UnsupportedError: vLLM refuses the configuration, or the class needs memory to be made.
    """
    quiet_vllm()
    from pydantic import ValidationError
    from vllm.engine.arg_utils import EngineArgs
    from vllm.plugins import load_general_plugins

    from vllm_kunlun.platforms.loading.survey import survey
    from vllm_kunlun.platforms.vllm_compat.swap_space import none_taken

    load_general_plugins()
    try:
        config = EngineArgs(
            model=str(model),
            skip_tokenizer_init=True,
            enforce_eager=True,
            tensor_parallel_size=ranks,
            trust_remote_code=trust_remote_code,
            **none_taken(),
        ).create_engine_config()
    except ValidationError as error:
        raise refused(error) from None
    return survey(config, ranks)


def _refused(about: dict[str, Any], message: str) -> dict[str, Any]:
    """The result where the files or the configuration are wrong, and nothing more can be said."""
    empty: dict[str, Any] = {"counts": {}, "sharded": 0, "missing": [], "tied": {}, "unread": None}
    return {"ok": False, **about, "parameters": 0, "bytes": 0, **empty, "refused": message,
            "tensors": []}  # fmt: skip
