# SPDX-License-Identifier: Apache-2.0
"""vLLM's own class on torch formulas as the judge, where transformers has none."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from vllm_kunlun.cli.configuration import architecture_of
from vllm_kunlun.cli.verify.judge import Judge
from vllm_kunlun.cli.verify.own_class import stored
from vllm_kunlun.platforms import emulator, envs
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError

__all__ = ["ask_own_class"]

_VARIABLES = {
    # The host computes, on a machine with a card, too.
    "VLLM_KUNLUN_DEVICE": "emulated",
    # Its layers are looked into.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Weights as vLLM holds them.
    "VLLM_KUNLUN_PACK_LINEAR": "0",
}

_MAIN = "import sys; from vllm_kunlun.cli.verify.own_class.process import main; main(*sys.argv[1:])"


def ask_own_class(
    folder: Path,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    traced: Sequence[int],
    *,
    trust_remote_code: bool,
) -> Judge:
    """What vLLM's own class answers, in a process of its own in which ours are not registered.

    Raises:
        UnsupportedError: vLLM has no class of its own, or it needs what has no formula here.
        MissingWheelError: the emulator is not installed.
        KunlunError: the process ended otherwise; the message names its log.
    """
    _check(folder)
    log = platformdirs.user_log_path("vllm-kunlun", ensure_exists=True) / "verify-judge.log"
    with tempfile.TemporaryDirectory(prefix="kunlun-judge-") as place:
        asked, answered = Path(place, "request.json"), Path(place, "judge.safetensors")
        request = {"folder": str(folder), "prompts": [list(each) for each in prompts],
                   "max_tokens": max_tokens, "traced": list(traced),
                   "trust_remote_code": trust_remote_code}  # fmt: skip
        asked.write_text(json.dumps(request), encoding="utf-8")
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run(
                [sys.executable, "-c", _MAIN, str(asked), str(answered)],
                env=envs.with_values(_VARIABLES),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        refused = answered.with_suffix(".json")
        if refused.is_file():
            reason: str = json.loads(refused.read_text(encoding="utf-8"))
            raise UnsupportedError(reason)
        if not answered.is_file():
            raise KunlunError(
                f"vLLM's own class, which is to judge, ended with code {done.returncode}: the "
                f"first error in {log} says why. Name a checkpoint that transformers loads with "
                "--reference."
            )
        return stored.read(answered)


def _check(folder: Path) -> None:
    from vllm.model_executor.models.registry import _VLLM_MODELS

    architecture = architecture_of(str(folder))
    if architecture not in _VLLM_MODELS:
        raise UnsupportedError(
            f"neither transformers nor vLLM has a class of its own for {architecture}, so nothing "
            "judges it: name a checkpoint that transformers loads with --reference."
        )
    emulator.name_of("worker")
