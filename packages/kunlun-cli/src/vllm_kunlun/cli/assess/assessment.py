# SPDX-License-Identifier: Apache-2.0
"""Everything that ``assess`` says of a model, as one object."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm_kunlun.cli.assess import attention, hf, source
from vllm_kunlun.cli.assess.case import case_of, classes_of_vllm
from vllm_kunlun.cli.assess.fit import CARD_BYTES, Fit, fit, refused
from vllm_kunlun.cli.configuration import configuration_of
from vllm_kunlun.cli.serving.plan import choose, plan
from vllm_kunlun.platforms.errors import KunlunError
from vllm_kunlun.platforms.families import ServingPreset, family_for

__all__ = ["SPREADS", "assess"]

SPREADS = ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 4))
"""Tensor and pipeline parallel sizes that are tried; two hosts and four are for what needs them."""

_LONGEST = 32_768
"""Tokens of a request where nothing is asked: as the manual's templates for large models."""


def assess(
    model: str, length: int | None, options: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """Case, memory and command of ``model``.

    Args:
        model: a checkpoint folder, a config.json, or a name on the hub.
        length: tokens of a request, prompt and answer; None for the model's own, 32,768 at most.
        options: fields of vLLM's ``EngineArgs`` that the user gave.
        say: called with one line about what takes long.

    Raises:
        UnsupportedError: there is no such model, or its configuration cannot be read.
    """
    with source.folder_of(model) as (original, folder):
        content = configuration_of(str(folder))
        assert content is not None, "folder_of gives a folder with a config.json"
        architecture = content["architectures"][0]
        say("importing vLLM")
        supported = classes_of_vllm()
        case = case_of(architecture, content, supported)
        chosen = choose(architecture, content, family_for(architecture))
        found: dict[str, Any] = {
            "model": model,
            "architecture": architecture,
            "case": case._asdict(),
            "card_bytes": CARD_BYTES,
            "checkpoint_bytes": source.weight_bytes_on_disk(original),
            "quantisation": _quantisation(content),
        }
        if architecture in supported:
            found |= _of_vllm(folder, chosen.preset, length, options, say)
        else:
            found |= hf.measure(folder, length, _LONGEST)
        best = next((way for way in found["ways"] if way["fits"]), None)
        found["smallest"] = best["cards"] if best else None
        found["preset"] = chosen.source
        found["command"] = (
            _command(model, best, found["length"], options, chosen.preset) if best else None
        )
        return found


def _quantisation(content: dict[str, Any]) -> str | None:
    said = content.get("quantization_config")
    return str(said.get("quant_method", "of an unnamed method")) if isinstance(said, dict) else None


def _of_vllm(
    folder: Path, preset: ServingPreset, length: int | None, options: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    from vllm_kunlun.cli.assess.built import build, configure

    asked = {**{name.replace("-", "_"): value for name, value in preset.args.items()}, **options}
    ways: list[Fit] = []
    found: dict[str, Any] = {"attention": [], "class": None, "dtype": asked.get("dtype")}
    for tensor, pipeline in SPREADS:
        if pipeline > 1 and any(way.fits for way in ways):
            break
        say(f"building it for {tensor * pipeline} cards")
        try:
            config = configure(
                folder,
                {
                    **asked,
                    "tensor_parallel_size": tensor,
                    "pipeline_parallel_size": pipeline,
                    **({"max_model_len": length} if length else {}),
                },
            )
            if length is None:
                length = min(config.model_config.max_model_len, _LONGEST)
                config.model_config.max_model_len = length
            stages = build(config)
        except (AssertionError, KunlunError, NotImplementedError, ValueError) as error:
            ways.append(refused(tensor, pipeline, _cause(error)))
            continue
        ways.append(fit(config, stages))
        found["attention"] = found["attention"] or attention.kinds(
            spec for stage in stages for spec in stage.cache.values()
        )
        found["class"] = stages[0].model_class
        found["dtype"] = str(config.model_config.dtype).removeprefix("torch.")
    return {**found, "length": length, "ways": [way.as_json() for way in ways]}


def _cause(error: BaseException) -> str:
    """The first line of what vLLM or the platform says, without pydantic's wrapping."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        first = errors()[0]
        error = first.get("ctx", {}).get("error") or ValueError(first["msg"])
    if not str(error):
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"vLLM asserts in {place.name} of {Path(place.filename).name}: {place.line}"
    return str(error).strip().splitlines()[0]


def _command(
    model: str, best: dict[str, Any], length: int, options: dict[str, Any],
    preset: ServingPreset,
) -> str:  # fmt: skip
    user = ["--max-model-len", str(length)]
    for name in ("tensor-parallel-size", "pipeline-parallel-size"):
        if best[name.replace("-", "_")] > 1:
            user += [f"--{name}", str(best[name.replace("-", "_")])]
    if dtype := options.get("dtype"):
        user += ["--dtype", dtype]
    if options.get("trust_remote_code"):
        user.append("--trust-remote-code")
    return shlex.join(["vllm-kunlun", *plan(model, user, preset).argv[1:]])
