# SPDX-License-Identifier: Apache-2.0
"""The table of card findings, the report that overrides it, and a form that is refused."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.probes import PROBES
from vllm_kunlun.ops.contract import findings
from vllm_kunlun.ops.contract.findings import Finding, chosen, in_force
from vllm_kunlun.ops.contract.functions import contract
from vllm_kunlun.ops.vendor_ops import library
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import UnsupportedError, VendorLibraryError

LAYOUT = Finding("layout", "kunlun_ops.merge", "which?", {"a": "A", "b": "B"}, "a", "a test")
PROVEN = Finding(
    "proven", "kunlun_ops.rule", "whether?", {"no": "N", "yes": "Y"}, "no", "a test", "yes"
)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(findings, "FINDINGS", (LAYOUT, PROVEN))
    chosen.cache_clear()
    findings._load.cache_clear()
    yield
    chosen.cache_clear()
    findings._load.cache_clear()


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "vendor_wheels_answer", lambda: True)


def report(folder: Path, **follows: str | None) -> Path:
    file = folder / "card.json"
    found = [{"name": name, "follows": form} for name, form in follows.items()]
    where = {"emulated": False, "wheels": {"kunlun_ops": "1.0"}}
    file.write_text(json.dumps({"surroundings": where, "findings": found}))
    return file


def forms() -> dict[str, tuple[str, str]]:
    return {each.finding.name: (each.form, each.source) for each in in_force()}


def test_the_emulator_has_its_own_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", str(report(tmp_path, layout="b")))
    assert forms() == {"layout": ("a", "the emulator's"), "proven": ("yes", "the emulator's")}
    assert findings.misfits() == ()


@pytest.mark.usefixtures("wheels")
def test_without_a_report_the_defaults_hold() -> None:
    assert forms() == {"layout": ("a", "the default"), "proven": ("no", "the default")}
    assert (chosen("layout"), chosen("proven")) == ("a", "no")


@pytest.mark.usefixtures("wheels")
def test_a_report_overrides_what_it_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = report(tmp_path, layout="b")
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", str(file))
    assert forms() == {"layout": ("b", f"the report {file}"), "proven": ("no", "the default")}
    assert chosen("layout") == "b"
    (text,) = findings.misfits()
    assert "of kunlun_ops 1.0, and None is installed" in text


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read (FileNotFoundError"),
        ("{", "cannot be read (JSONDecodeError"),
        ("[]", "not the JSON of"),
        ('{"findings": []}', "not the JSON of"),
        ('{"surroundings": {"emulated": true, "wheels": {}}, "findings": []}', "on the emulator"),
        (
            '{"surroundings": {"emulated": false, "wheels": {}}, '
            '"findings": [{"name": "layout", "follows": "c"}]}',
            "knows a form 'c'",
        ),
    ],
)
def test_a_file_that_is_no_report_of_a_card(
    text: str | None, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "card.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", str(file))
    with pytest.raises(UnsupportedError) as raised:
        chosen("layout")
    for part in (str(file), why, "vllm-kunlun ops check --report FILE.json"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_bad_report_is_told_when_the_library_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setenv("VLLM_KUNLUN_VENDOR", "wheels")
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", str(tmp_path / "gone.json"))
    with pytest.raises(UnsupportedError, match=r"gone\.json: it cannot be read"):
        library.libraries()


@pytest.mark.usefixtures("wheels")
def test_a_finding_of_which_no_form_passed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", str(report(tmp_path, layout=None)))
    with pytest.raises(UnsupportedError, match=r"no form of 'layout' passed.*kunlun_ops\.merge"):
        chosen("layout")


@pytest.mark.parametrize("refusal", [TypeError("keyword"), RuntimeError("shape"), None])
def test_a_refused_form_names_function_and_command(refusal: Exception | None) -> None:
    def merge(*_: Any) -> None:
        assert refusal is not None
        raise refusal

    wheel = types.SimpleNamespace(**({"merge": merge} if refusal else {}))
    with library.use_libraries(kunlun_ops=wheel), pytest.raises(VendorLibraryError) as raised:
        library.call_form("layout", "kunlun_ops", "merge", 1)
    for part in ("kunlun_ops.merge", "form 'a'", "vllm-kunlun ops check", "a or b",
                 "VLLM_KUNLUN_CARD_FINDINGS=FILE.json", str(refusal or "no function")):  # fmt: skip
        assert part in str(raised.value)


@pytest.mark.parametrize(
    "error", [VendorContractError("f", "x", "y", "z"), torch.OutOfMemoryError("full")]
)
def test_what_is_no_refusal_stays_itself(error: Exception) -> None:
    def merge(*_: Any) -> None:
        raise error

    wheel = types.SimpleNamespace(merge=merge)
    with library.use_libraries(kunlun_ops=wheel), pytest.raises(type(error)) as raised:
        library.call_form("layout", "kunlun_ops", "merge", 1)
    assert raised.value is error


def test_a_form_that_is_taken_returns_what_came() -> None:
    wheel = types.SimpleNamespace(merge=lambda x, y: x + y)
    with library.use_libraries(kunlun_ops=wheel):
        assert library.call_form("layout", "kunlun_ops", "merge", 1, y=2) == 3


def test_the_real_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions exist, defaults are forms, each form but the "no" of a proof has cases."""
    monkeypatch.undo()
    functions = {each.name for each in contract()}
    tried = {(case.finding, case.form) for case in (*CASES, *PROBES) if case.finding}
    known = set()
    for each in findings.FINDINGS:
        assert each.function in functions
        assert {each.default, each.emulated or each.default} <= set(each.forms)
        known |= {(each.name, form) for form in each.forms if form != "no"}
    assert tried == known
