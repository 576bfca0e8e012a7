# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` says of graphs: the settings of a card, and logs of starts that failed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from vllm_kunlun.cli import checks, graphs
from vllm_kunlun.cli.main import app
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.card import capture_causes
from vllm_kunlun.platforms.ledger import patch_ledger

BEGIN = "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):   0%|          | 0/4 [00:00<?]"
END = "INFO 11-28 [gpu_model_runner.py:1] Graph capturing finished in 5 secs, took 0.50 GiB"
OURS = (
    "(EngineCore_DP0 pid=7) ERROR 11-28 [core.py:936] \x1b[31mvllm_kunlun.platforms.errors."
    "GraphCaptureError: Capturing a graph failed (32 tokens, piece 2 of 4). What it means: "
    "`vllm-kunlun doctor --log FILE`. Cause: RuntimeError: CUDA error: operation not permitted "
    "when stream is capturing\x1b[0m"
)


@pytest.fixture
def on_card(monkeypatch):
    """The settings of a card, none of them set by the user."""
    monkeypatch.setattr(device, "detect", lambda: device.Device("xpu", "planted"))
    monkeypatch.setattr(patch_ledger, "left_out", dict)
    for name in ("XMLIR_ENABLE_MOCK_TORCH_COMPILE", "XMLIR_FORCE_USE_XPU_GRAPH"):
        monkeypatch.delenv(name, raising=False)


def only(lines):
    [found] = graphs.check_log(lines)
    return found


def test_the_emulated_device_captures_nothing():
    [found] = graphs.check_settings()
    assert (found.name, found.status) == ("graphs", "ok")
    assert "the emulated device captures nothing" in found.detail


def test_a_machine_without_a_device_says_nothing(monkeypatch):
    monkeypatch.setattr(device, "detect", lambda: device.Device("none", "planted"))
    assert list(graphs.check_settings()) == []


def test_a_card_captures_pieces(on_card):
    [found] = graphs.check_settings()
    assert found.status == "ok" and "captured in pieces" in found.detail


@pytest.mark.parametrize(
    ("name", "value", "warned"),
    [
        ("XMLIR_ENABLE_MOCK_TORCH_COMPILE", "1", True),
        ("XMLIR_ENABLE_MOCK_TORCH_COMPILE", "false", False),
        ("XMLIR_FORCE_USE_XPU_GRAPH", "0", True),
        ("XMLIR_FORCE_USE_XPU_GRAPH", "1", False),
    ],
)
def test_variables_that_are_in_the_way(on_card, monkeypatch, name, value, warned):
    monkeypatch.setenv(name, value)
    [found] = graphs.check_settings()
    assert found.status == ("warn" if warned else "ok")
    assert (name in found.detail and name in found.fix) == warned


def test_a_torch_that_does_not_compile_captures_nothing(on_card, monkeypatch):
    monkeypatch.setattr(patch_ledger, "left_out", lambda: {"one": "changed"})
    [found] = graphs.check_settings()
    assert found.status == "warn" and "none is captured" in found.detail


def test_the_section_is_one_of_doctors():
    assert checks.CHECKS["graphs"] is graphs.check_settings


def test_the_error_of_a_cards_worker_is_explained_whatever_stands_around_it():
    found = only([BEGIN, "ERROR ValueError: something before", OURS, "RuntimeError: later"])
    assert (found.name, found.status) == ("capture", "fail")
    assert "piece 2 of 4" in found.detail and "\x1b" not in found.detail
    assert "waits for the device" in found.detail
    assert "splitting_ops" in found.fix and "--enforce-eager" in found.fix


def test_the_cause_is_what_is_explained_and_not_the_words_around_it():
    around = "GraphCaptureError: Capturing a graph failed (out of memory.py). Cause: KeyError: 'x'"
    assert "no known kind" in only([around]).detail


@pytest.mark.parametrize("separate", [True, False], ids=["lines", "one line"])
def test_without_it_the_first_error_of_the_capture_is(separate):
    error = "(Worker pid=3) ERROR torch.OutOfMemoryError: XPU out of memory. Tried to allocate"
    lines = [BEGIN, error] if separate else [BEGIN + error]
    found = only(["ImportError: before it", *lines, "RuntimeError: Engine core failed"])
    assert found.status == "fail"
    assert "did not fit" in found.detail and "torch.OutOfMemoryError" in found.detail
    assert "--gpu-memory-utilization" in found.fix


def test_graphs_that_are_on_and_not_there_are_a_class_that_is_not_compiled():
    warning = "WARNING No graph was captured, though graphs are on: decoding is slower"
    found = only([BEGIN, END, warning])
    assert found.status == "warn"
    assert "none was captured" in found.detail and "@support_torch_compile" in found.fix


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([BEGIN, END, "RuntimeError: much later"], "Graph capturing finished in 5 secs"),
        (["INFO Cudagraph is disabled under eager mode"], "graphs are off"),
        (["INFO nothing of it"], "tells of no capture"),
    ],
)
def test_a_log_without_a_failed_capture(lines, said):
    found = only(lines)
    assert found.status == "ok" and said in found.detail


def test_a_log_that_ends_in_the_middle():
    found = only([BEGIN])
    assert found.status == "fail" and "without an error" in found.detail


def test_an_unknown_failure_says_how_to_go_on():
    found = only([BEGIN, "ERROR RuntimeError: flux capacitor"])
    assert "no known kind" in found.detail and "flux capacitor" in found.detail
    assert "VLLM_KUNLUN_DEVICE=rehearsal" in found.fix


def test_doctor_reads_a_file_or_standard_input(run, run_json, monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "run", lambda say: [])
    log = tmp_path / "start.log"
    log.write_bytes(OURS.encode() + b"\n\xff\n")
    code, value = run_json("doctor", "--log", log)
    assert (code, value["ok"]) == (1, False)
    assert [each["name"] for each in value["checks"]] == ["capture"]
    log.write_text(END)
    assert run("doctor", "--log", log).exit_code == 0
    assert run("doctor", "--log", tmp_path / "absent").exit_code == 2
    piped = CliRunner().invoke(app, ["doctor", "--log", "-"], input=OURS)
    assert piped.exit_code == 1 and "piece 2 of 4" in piped.stdout
    assert run("doctor").exit_code == 0


def test_each_known_cause_is_found_in_a_log():
    """A cause that no line leads to would be dead; the first that fits must be the one meant."""
    said = {
        "did not fit": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "not registered": "AttributeError: '_OpNamespace' '_C' has no attribute 'weak_ref_tensor'",
        "second stream": "RuntimeError: dependency created on uncaptured work in another stream",
        "waits for the device": "RuntimeError: CUDA error: operation not permitted when stream is "
        "capturing",
        "not captured at the start": "RuntimeError: CUDA graph capturing detected at an "
        "inappropriate time. This operation is currently disabled.",
        "lies elsewhere": "AssertionError: Input addresses for cudagraphs are different",
        "does not take": "VendorContractError: kunlun_ops.swiglu: x",
        "earlier call": "RuntimeError: operation failed due to a previous error during capture",
    }
    assert len(said) == len(capture_causes.CAUSES)
    for meaning, error in said.items():
        assert meaning in only([BEGIN, error]).detail
