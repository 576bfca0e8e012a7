# SPDX-License-Identifier: Apache-2.0
"""A model measured on the rehearsed card: what each step and each layer asks of the device."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from vllm_kunlun.emulator.rehearsal.measuring import known, layers, process, sizes, tally
from vllm_kunlun.emulator.rehearsal.measuring.request import Request
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

__all__ = ["Options", "rehearse"]

Classes = Literal["ours", "vllm"]


@dataclass(frozen=True)
class Options:
    """How a model is rehearsed."""

    shape: Literal["tiny", "real"] = "tiny"
    layers: int | None = None
    """By default one of each kind, in the model's own pattern."""
    load_format: Literal["dummy", "auto"] = "dummy"
    dtype: str = "auto"
    batch: int = 4
    prompt_tokens: int = 64
    steps: int = 16
    eager: bool = False
    classes: tuple[Classes, ...] = ("ours",)
    """With whose layers and models: ours, vLLM's own, or both side by side."""


def rehearse(
    model: str, options: dict[str, Any], log: TextIO, say: Callable[[str], object]
) -> dict[str, Any]:
    """Measure ``model`` and return what ``--json`` prints.

    Args:
        model: a checkpoint's folder, or one of :data:`~.known.NAMES`.
        options: of :class:`Options`, by name; one that is absent or None has its default.
        log: a file for what the measuring processes print.
        say: is told what happens next.

    Raises:
        UnsupportedError: the model, its architecture or an option cannot be rehearsed.
        CheckpointError: its config.json cannot be read.
        KunlunError: the measuring process ended without an answer.
    """
    chosen = Options(**{name: value for name, value in options.items() if value is not None})
    config = _configuration(model)
    whole = chosen.load_format == "auto"
    if whole:
        _check_whole(model, chosen)
        depths, pattern = [config_depth(config)], None
    else:
        pattern = layers.pattern_of(config)
        depth = chosen.layers or min(pattern.first, 1) + pattern.period
        depths = [depth, depth + pattern.period]
    with tempfile.TemporaryDirectory(prefix="kunlun-rehearsed-") as scratch:
        made = [
            model
            if whole
            else str(_write(config, model, (depths[0], depth - depths[0]), chosen, Path(scratch)))
            for depth in depths
        ]
        run = config if chosen.shape == "real" else sizes.small(config)
        runs, answer = {}, {}
        for classes in chosen.classes:
            say(f"{model} with {_NAMES[classes]}, {' and '.join(map(str, depths))} layers ...")
            answer = process.run(
                Request(
                    folders=tuple(made),
                    vocabulary=layers.text_of(run)["vocab_size"],
                    pictures="vision_config" in config,
                    batch=chosen.batch,
                    prompt_tokens=chosen.prompt_tokens,
                    steps=chosen.steps,
                    dtype=chosen.dtype,
                    load_format=chosen.load_format,
                    eager=chosen.eager,
                    plain=classes == "vllm",
                ),
                log,
            )
            runs[classes] = tally.run_of(answer, pattern.period if pattern else None)
    quantised = config.get("quantization_config") or {}
    return {
        "schema": tally.SCHEMA,
        "model": model,
        "architecture": config["architectures"][0],
        "quantisation": quantised.get("quant_method"),
        "shape": chosen.shape,
        "layers": depths[0],
        "layers_compared_with": depths[1] if pattern else None,
        "batch": chosen.batch,
        "prompt_tokens": chosen.prompt_tokens,
        "steps": chosen.steps,
        "dtype": answer["dtype"],
        "eager": chosen.eager,
        "surroundings": answer["surroundings"],
        "runs": runs,
    }


_NAMES = {"ours": "our classes", "vllm": "vLLM's own classes"}


def config_depth(config: dict[str, Any]) -> int:
    """How many layers ``config`` has."""
    return int(layers.text_of(config)[layers.depth_name(config)])


def _configuration(model: str) -> dict[str, Any]:
    folder = Path(model)
    if not folder.is_dir():
        return known.configuration(model)
    path = folder / "config.json"
    if not path.is_file():
        raise UnsupportedError(
            f"MODEL {model} holds no config.json: give the folder of a checkpoint in Hugging "
            "Face's layout."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or not config.get("architectures"):
        raise CheckpointError(f"{path} names no architecture: add `architectures`.")
    if not isinstance(layers.text_of(config).get("vocab_size"), int):
        raise CheckpointError(f"{path} has no vocab_size: add it.")
    return config


def _check_whole(model: str, chosen: Options) -> None:
    if not Path(model).is_dir() or chosen.shape == "tiny" or chosen.layers is not None:
        raise UnsupportedError(
            "--load-format auto reads a checkpoint's own weights: give its folder, --shape real "
            "and no --layers; or leave it out for random weights."
        )


def _write(
    config: dict[str, Any], model: str, depth: tuple[int, int], chosen: Options, scratch: Path
) -> Path:
    """A checkpoint's folder without weights; ``depth`` as :func:`layers.with_layers` takes it."""
    made = layers.with_layers(config, *depth)
    folder = scratch / str(sum(depth))
    if chosen.shape == "tiny":
        made = sizes.small(made)
    folder.mkdir()
    if Path(model).is_dir():  # what describes its tokens and pictures
        for file in Path(model).iterdir():
            if file.suffix in (".json", ".txt", ".jinja", ".py") and "index" not in file.name:
                shutil.copy(file, folder)
    (folder / "config.json").write_text(json.dumps(made), encoding="utf-8")
    return folder
