# SPDX-License-Identifier: Apache-2.0
"""The process that measures; request and answer are files of JSON.

A process of its own, because the façade of the vendor's torch and vLLM's platform are chosen once.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

from vllm_kunlun.emulator.rehearsal.measuring.request import Request
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError

__all__ = ["run"]

_VARIABLES = {
    "VLLM_KUNLUN_DEVICE": "rehearsal",
    # The counts are of the process that runs the model.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # What is compiled with our classes must not be found by a run with vLLM's own.
    "VLLM_DISABLE_COMPILE_CACHE": "1",
    # Checkpoints are on this disk, or made here.
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}

_MAIN = f"import sys; from {__name__} import main; main(*sys.argv[1:])"

_ERROR = re.compile(r"^(?:\[rank\d+\]: )?((?:\w+\.)*\w*(?:Error|Exception): .+)$", re.MULTILINE)
"""The last line of a traceback."""


def run(request: Request, log: TextIO) -> dict[str, Any]:
    """Measure in a process of its own; what it prints goes to ``log``.

    Raises:
        UnsupportedError: the model was refused, with the reason.
        KunlunError: the process ended otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="kunlun-rehearsal-") as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(request.as_json()), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, str(asked), str(answered)],
            env=envs.with_values(_VARIABLES),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
        if not answered.is_file():
            raise KunlunError(
                f"the rehearsal ended with code {done.returncode} before it answered"
                f"{_last_error(Path(log.name))}. The place in the code stands in {log.name}."
            )
        answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    if "refused" in answer:
        raise UnsupportedError(answer["refused"])
    return answer


def _last_error(log: Path) -> str:
    found = _ERROR.findall(log.read_text(encoding="utf-8", errors="replace"))
    return f": {found[-1].rstrip('.')}" if found else ""


def main(asked: str, answered: str) -> None:
    """In the process itself."""
    request = Request.from_json(json.loads(Path(asked).read_text(encoding="utf-8")))
    try:
        answer = _measure(request)
    except ValueError as error:  # also pydantic's, which holds the one that was raised in it
        answer = {"refused": _reason(error)}
        sys.stderr.write(f"{error}\n")
    Path(answered).write_text(json.dumps(answer), encoding="utf-8")


def _measure(request: Request) -> dict[str, Any]:
    from vllm_kunlun.emulator.rehearsal.measuring import engine
    from vllm_kunlun.ops.conformance.provenance import surroundings
    from vllm_kunlun.ops.layers.vllm_classes import use_vllm_classes

    _check_architecture(request.folders[0])
    replaced = use_vllm_classes() if request.plain else []
    measured = [engine.measure(folder, request) for folder in request.folders]
    return {
        "surroundings": vars(surroundings()),
        "vllm_classes": replaced,
        "dtype": measured[0].dtype,
        "models": [
            {
                "captured_bytes": each.captured_bytes,
                **{
                    phase: {
                        "steps": sample.steps,
                        "milliseconds": sample.milliseconds,
                        "asked": [[*asked, count] for asked, count in sample.asked.items()],
                    }
                    for phase, sample in (("prefill", each.prefill), ("decode", each.decode))
                },
            }
            for each in measured
        ],
    }


def _check_architecture(folder: str) -> None:
    from vllm import ModelRegistry
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    names = config["architectures"]
    if not set(names) & set(ModelRegistry.get_supported_archs()):
        raise UnsupportedError(
            f"neither vLLM nor an installed wheel has a class for {' or '.join(names)}: "
            "`vllm-kunlun models MODEL` says what to do."
        )


def _reason(error: ValueError) -> str:
    """The message of ``error``, or of what was raised while pydantic built a configuration."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return str(error)
    return "; ".join(str(each.get("ctx", {}).get("error", each["msg"])) for each in errors())
