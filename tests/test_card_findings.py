# SPDX-License-Identifier: Apache-2.0
"""Vendor libraries that take only the other form of each open point.

With the findings that the real ``ops check`` makes of such a library the models answer as HF
transformers does; without, there is one error that says what to run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import fake_vendor, other_forms, vendor_calls
from support.engine import engine, greedy
from support.reference import Reference

from vllm_kunlun.ops.card_findings import FINDINGS
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.probes import PROBES

pytestmark = pytest.mark.slow

NEW_TOKENS = 4


@dataclass
class Model:
    """A tiny model, vLLM's options, and the functions of :data:`other_forms.OTHER` it calls."""

    checkpoint: str
    functions: tuple[str, ...]
    block_size: int = 16


MODELS = (
    # 48 tokens a step: longer prompts come in chunks, whose context is merged.
    Model("deepseek-v3", ("kunlun_ops.attention_merge_stage",), block_size=64),
    Model("qwen3-moe", ("kunlun_ops.reshape_and_cache_flash",)),
)
CALLS = [
    pytest.param(model, name, id=f"{model.checkpoint}-{name}")
    for model in MODELS
    for name in model.functions
]
INSTEAD = {"kunlun_ops.reshape_and_cache_flash": "kunlun_ops.reshape_and_cache"}
"""Where the other form of a finding is another function."""


def environment(records: Path, functions: Any, findings: Path | None = None) -> dict[str, str]:
    path = [*fake_vendor.import_path(), os.environ.get("PYTHONPATH", "")]
    return {
        **fake_vendor.environment(records),
        other_forms.FORMS: ",".join(functions),
        "PYTHONPATH": os.pathsep.join(path),
        "VLLM_KUNLUN_CARD_FINDINGS": str(findings or ""),
        # A process of its own: in this one the emulator may have been chosen already.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    }


@pytest.fixture
def under(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``under(records, functions, findings)``: what starts next has that library."""

    def put(*arguments: Any) -> None:
        for name, value in environment(*arguments).items():
            if value:
                monkeypatch.setenv(name, value)
        for entry in reversed(fake_vendor.import_path()):
            monkeypatch.syspath_prepend(entry)

    return put


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of ``vllm-kunlun ops check`` on the library of other forms."""
    folder = tmp_path_factory.mktemp("card")
    names = sorted({case.function for case in (*CASES, *PROBES) if case.finding is not None})
    found = environment(folder / "records", other_forms.OTHER)
    del found["VLLM_KUNLUN_CARD_FINDINGS"]
    done = subprocess.run(
        [sys.executable, "-c", "from vllm_kunlun.cli.main import app; app()", "ops", "check",
         "--report", str(folder / "card.json"), *names],
        env={**os.environ, **found}, capture_output=True, text=True, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "card.json"


def test_every_other_form_is_of_a_finding_and_is_tried() -> None:
    assert set(other_forms.OTHER) <= {each.function for each in FINDINGS}
    assert set(other_forms.OTHER) == {name for model in MODELS for name in model.functions}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.checkpoint)
def test_with_its_findings_a_library_of_other_forms_serves(
    model: Model, findings: Path, under: Any, checkpoint: Any, prompts: Any, tmp_path: Path
) -> None:
    records, folder = tmp_path / "records", checkpoint(model.checkpoint)
    under(records, other_forms.OTHER, findings)
    options = {"block_size": model.block_size, "max_num_batched_tokens": 48}
    with engine(folder, enable_prefix_caching=True, **options) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
        again = greedy(llm, prompts, NEW_TOKENS)  # now from the prefix cache
    reference = Reference(folder)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts] == again
    called = {call["function"] for call in vendor_calls.read(records)}
    assert {INSTEAD.get(name, name) for name in model.functions} <= called
    assert not called & INSTEAD.keys()


@pytest.mark.parametrize(("model", "function"), CALLS)
def test_without_findings_one_error_says_what_to_run(
    model: Model, function: str, under: Any, checkpoint: Any, prompts: Any, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    under(tmp_path / "records", [function])
    options = {"block_size": model.block_size, "max_num_batched_tokens": 48}
    with pytest.raises(Exception), engine(checkpoint(model.checkpoint), **options) as llm:  # noqa: B017 -- the engine's process has the error
        greedy(llm, prompts, NEW_TOKENS)
    said = capfd.readouterr()
    (finding,) = [each for each in FINDINGS if each.function == function]
    for part in (f"{function} was called in the form '{finding.default}'", finding.name,
                 "vllm-kunlun ops check --report FILE.json",
                 "VLLM_KUNLUN_CARD_FINDINGS=FILE.json"):  # fmt: skip
        assert part in said.out + said.err
