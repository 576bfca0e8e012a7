# SPDX-License-Identifier: Apache-2.0
"""benchmarks/versus.py without the engines that it compares: turns, ratios, errors and the page."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def versus() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("versus", ROOT / "benchmarks" / "versus.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["versus"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["versus"]


class Fake:
    """Seconds of an engine that reads 1,000 tokens and writes ``rate`` tokens per second."""

    def __init__(self, rate: float, turns: list[str], name: str) -> None:
        self.rate, self.turns, self.name = rate, turns, name

    def seconds(self, prompts: list[list[int]], count: int) -> float:
        self.turns.append(self.name)
        read = sum(map(len, prompts)) / 1000
        return read + len(prompts) * (count - 1) / self.rate


def test_a_decode_leaves_the_prompt_out(versus):
    fake = Fake(50.0, [], "ours")
    assert versus.speed(fake, "decode-16", 0) == pytest.approx(50)
    assert versus.speed(fake, "prefill-16", 0) == pytest.approx(1000)
    assert versus.speed(fake, "first-8000", 0) == pytest.approx(1000)


def test_prompts_differ_between_repeats(versus):
    first, again, other = (versus.prompts(2, 5, seed) for seed in (0, 0, 1))
    assert first == again != other and [len(prompt) for prompt in other] == [5, 5]


def test_the_ratio_is_to_the_best_of_the_others_and_they_take_turns(versus):
    turns: list[str] = []
    rates = {"ours": 60.0, "slow": 20.0, "quick": 120.0}
    engines = {name: Fake(rate, turns, name) for name, rate in rates.items()}
    result = versus.compare(engines, "prefill-1", 2)
    assert turns == ["ours", "slow", "quick"] * 3, "one that does not count, and two"
    assert {name: len(values) for name, values in result.speeds.items()} == dict.fromkeys(rates, 2)
    assert versus.compare(engines, "decode-1", 1).ratio == pytest.approx(0.5)
    assert versus.compare({"ours": engines["ours"]}, "decode-1", 1).ratio is None


def test_who_fails_sits_out_and_is_named(versus):
    class Failing(Fake):
        def seconds(self, prompts: list[list[int]], count: int) -> float:
            if len(self.turns) > 5:
                raise versus.PeerError("no memory")
            return super().seconds(prompts, count)

    engines = {"ours": Fake(60.0, [], "ours"), "other": Failing(20.0, [], "other")}
    result = versus.compare(engines, "decode-1", 4)
    assert result.errors == {"other": "no memory"} and result.ratio is None
    assert list(result.speeds) == ["ours"] and len(result.speeds["ours"]) == 4


def test_a_peer_that_is_not_there_says_why(versus, tmp_path):
    settings = {"scratch": str(tmp_path), "threads": "1", "dtype": "float32", "checkpoint": ""}
    with pytest.raises(
        versus.PeerError, match="ModuleNotFoundError: No module named 'ctranslate2'"
    ):
        versus.Peer(Path(sys.executable), "ctranslate2", settings, "wall")


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
    summary = versus.compare(engines, "decode-1", 3).summary()
    each = dict.fromkeys(engines, 1.0)
    run = {
        "dtype": "float32", "threads": 1, "figures": {"decode-1": summary}, "start_s": each,
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
    assert "P (avx2)" in text and "- c: not installed: no wheel\n" in text and "old" not in text
