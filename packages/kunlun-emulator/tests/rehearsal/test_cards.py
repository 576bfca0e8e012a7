# SPDX-License-Identifier: Apache-2.0
"""The cards that a rehearsed process sees, by the variables that hide some."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import cards
from vllm_kunlun.platforms.errors import DeviceUnavailableError


@pytest.fixture(autouse=True)
def _as_new(monkeypatch):
    monkeypatch.setattr(cards, "_index", 0)
    for name in ("XPU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("xpu", "cuda", "seen"),
    [
        (None, None, 8), ("0,1", None, 2), (None, "3", 1), ("0,1", "1", 1), ("4", "0,1", 1),
        ("", None, 0), ("0,1,", None, 2),
    ],
)  # fmt: skip
def test_the_fewest_that_either_variable_leaves(monkeypatch, xpu, cuda, seen) -> None:
    for name, value in (("XPU_VISIBLE_DEVICES", xpu), ("CUDA_VISIBLE_DEVICES", cuda)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cards.count() == seen


def test_the_card_of_a_process_is_what_it_chose() -> None:
    assert cards.current() == 0
    for asked, index in ((3, 3), (torch.device("cuda", 5), 5), ("cuda:1", 1), ("cuda", 1)):
        cards.choose(asked)
        assert cards.current() == index


def test_a_card_for_a_block() -> None:
    cards.choose(2)
    with cards.Chosen(torch.device("cuda", 4)):
        assert cards.current() == 4
    with cards.Chosen(None):
        assert cards.current() == 2
    assert cards.current() == 2


def test_a_hidden_card_is_refused_with_what_hides_it(monkeypatch) -> None:
    with pytest.raises(DeviceUnavailableError, match=r"card 8 .* sees 8 of the 8"):
        cards.choose(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(DeviceUnavailableError, match=r"card 1 .*CUDA_VISIBLE_DEVICES=1"):
        cards.choose("cuda:1")
    assert cards.current() == 0
