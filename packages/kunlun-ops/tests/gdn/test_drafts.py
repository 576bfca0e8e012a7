# SPDX-License-Identifier: Apache-2.0
"""Drafts on a gated delta rule: refused on a card until a report proves where it keeps states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vllm_kunlun.ops.contract import findings
from vllm_kunlun.ops.gdn.drafts import check_drafts
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    findings.chosen.cache_clear()
    findings._load.cache_clear()
    yield
    findings.chosen.cache_clear()
    findings._load.cache_clear()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "vendor_wheels_answer", lambda: True)


def config(drafts: int) -> Any:
    return SimpleNamespace(
        speculative_config=SimpleNamespace(num_speculative_tokens=drafts) if drafts else None,
        model_config=SimpleNamespace(architecture="Qwen3NextForCausalLM"),
    )


def report(folder: Path, form: str) -> str:
    file = folder / "card.json"
    where = {"emulated": False, "wheels": {}}
    found = [{"name": "gdn-speculative-states", "follows": form}]
    file.write_text(json.dumps({"surroundings": where, "findings": found}))
    return str(file)


def test_the_emulated_device_serves_drafts() -> None:
    check_drafts(config(drafts=2))


@pytest.mark.usefixtures("card")
def test_a_card_serves_without_drafts() -> None:
    check_drafts(config(drafts=0))


@pytest.mark.usefixtures("card")
def test_a_card_without_a_report_is_refused() -> None:
    with pytest.raises(UnsupportedError) as raised:
        check_drafts(config(drafts=1))
    for part in ("Qwen3NextForCausalLM", "nobody has shown", "gdn-speculative-states",
                 "Leave --speculative-config out", "vllm-kunlun ops check --report FILE.json",
                 "VLLM_KUNLUN_CARD_FINDINGS=FILE.json"):  # fmt: skip
        assert part in str(raised.value)


@pytest.mark.usefixtures("card")
def test_a_report_that_proves_the_reading_lifts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", report(tmp_path, "columns"))
    check_drafts(config(drafts=3))


@pytest.mark.usefixtures("card")
def test_a_report_of_another_reading_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", report(tmp_path, "flat"))
    with pytest.raises(UnsupportedError, match=r"form 'flat', which is not implemented"):
        check_drafts(config(drafts=3))
