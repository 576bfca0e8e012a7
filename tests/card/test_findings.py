# SPDX-License-Identifier: Apache-2.0
"""Vendor libraries that take only the other form of each open point.

With the findings that the real ``ops check`` makes of such a library the models answer as HF
transformers does; without, there is one error that says what to run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import checkpoints, draft_layer, fake_vendor, other_forms, vendor_calls, w8a8
from support.agreement import assert_agrees
from support.engine import engine, greedy, greedy_with_logprobs
from support.reference import Reference
from support.w8a8 import Scheme

from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.probes import PROBES
from vllm_kunlun.ops.contract import findings as card_findings
from vllm_kunlun.ops.contract.findings import FINDINGS

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
INT8_PRODUCT = "kunlun_ops.moe_fc"
INT8 = {
    "qwen3-moe": ({}, Scheme()),
    # kv_b_proj in float: see test_quantised_int8.
    "deepseek-v3-even": ({"block_size": 64}, Scheme(keep=(*Scheme().keep, "kv_b_proj"))),
}
"""Models whose experts are quantised: vLLM's options, and the scheme."""


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
    tried = {name for model in MODELS for name in model.functions}
    assert set(other_forms.OTHER) == tried | {INT8_PRODUCT}


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


@pytest.mark.parametrize("name", INT8)
def test_with_its_findings_it_serves_experts_in_int8(
    name: str, findings: Path, under: Any, checkpoint: Any, prompts: Any, tmp_path: Path
) -> None:
    options, scheme = INT8[name]
    source = checkpoint(name)
    folder = w8a8.quantise(source, tmp_path / "model", scheme, prompts)
    records = tmp_path / "records"
    under(records, other_forms.OTHER, findings)
    with engine(folder, max_num_batched_tokens=48, **options) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    in_float = w8a8.reference_model(source, folder, scheme, quantise_activations=False)
    in_int8 = w8a8.reference_model(source, folder, scheme)
    assert_agrees(prompts, answers, in_int8, in_float, tolerance=0.03)
    products = [
        call["kwargs"]
        for call in vendor_calls.read(records)
        if call["function"] == INT8_PRODUCT and call["kwargs"]["x"]["dtype"] == "int8"
    ]
    assert {each["topk_ids"]["type"] for each in products} == {"NoneType"}


def test_experts_in_int8_without_findings(
    under: Any, checkpoint: Any, prompts: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = w8a8.quantise(checkpoint("qwen3-moe"), tmp_path / "model", Scheme(), prompts)
    under(tmp_path / "records", [INT8_PRODUCT])
    with pytest.raises(Exception), engine(folder) as llm:  # noqa: B017 -- as above
        greedy(llm, prompts, NEW_TOKENS)
    said = capfd.readouterr()
    for part in (f"{INT8_PRODUCT} was called in the form 'with'", "moe-int8-topk-ids",
                 "vllm-kunlun ops check --report FILE.json",
                 "VLLM_KUNLUN_CARD_FINDINGS=FILE.json"):  # fmt: skip
        assert part in said.out + said.err


@pytest.fixture
def drafting(tmp_path: Path) -> Path:
    """Qwen3-Next with a multi-token-prediction layer."""
    return draft_layer.add_to_qwen3_next(checkpoints.write("qwen3-next", tmp_path / "model"))


MTP = {"method": "mtp", "num_speculative_tokens": 2}


def test_drafts_on_a_gated_delta_rule_are_refused_before_loading(
    drafting: Path, under: Any, tmp_path: Path, asked_anew: None
) -> None:
    under(tmp_path / "records", [])
    with (
        # What vLLM's configuration makes of an UnsupportedError, which is a ValueError.
        pytest.raises(ValueError, match="Leave --speculative-config out") as raised,
        engine(drafting, speculative_config=dict(MTP)),
    ):
        pass
    assert "vllm-kunlun ops check --report FILE.json" in str(raised.value)
    assert not list(vendor_calls.read(tmp_path / "records"))


def test_drafts_on_a_gated_delta_rule_with_a_proof(
    drafting: Path, findings: Path, under: Any, prompts: Any, tmp_path: Path, asked_anew: None
) -> None:
    report = json.loads(findings.read_text())
    report["findings"] = [f for f in report["findings"] if f["name"] == "gdn-speculative-states"]
    proof = tmp_path / "proof.json"
    proof.write_text(json.dumps(report))
    under(tmp_path / "records", [], proof)
    with engine(drafting, speculative_config=dict(MTP)) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
    reference = Reference(drafting)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """This process forgets which forms it has chosen: it, too, checks the configuration."""
    card_findings.chosen.cache_clear()
    yield
    card_findings.chosen.cache_clear()
