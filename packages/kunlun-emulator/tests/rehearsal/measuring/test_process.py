# SPDX-License-Identifier: Apache-2.0
"""The process that measures: what it is given, and what is said where it does not answer."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import pytest

from vllm_kunlun.emulator.rehearsal.measuring import process
from vllm_kunlun.emulator.rehearsal.measuring.request import Request
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError

REQUEST = Request(("folder",), 320, False, 1, 1, 1, "auto", "dummy", True, False)


@pytest.fixture
def log(tmp_path):
    with (tmp_path / "log").open("w") as file:
        yield file


@pytest.fixture
def child(monkeypatch):
    """``child(answer)``: stands for the process; the list holds its environments."""
    environments = []

    def install(answer):
        def run(command, env, **_):
            environments.append(env)
            if answer is not None:
                with open(command[-1], "w") as file:
                    json.dump(answer, file)
            return subprocess.CompletedProcess(command, 3)

        monkeypatch.setattr(process.subprocess, "run", run)
        return environments

    return install


def test_it_rehearses_whatever_this_process_serves(monkeypatch, child, log):
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "emulated")
    monkeypatch.setenv("A_NAME_OF_THE_USERS", "kept")
    [environment] = (child({"models": []}), process.run(REQUEST, log))[0]
    assert environment["VLLM_KUNLUN_DEVICE"] == "rehearsal"
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert environment["A_NAME_OF_THE_USERS"] == "kept"


def test_a_refusal_comes_back_as_one(child, log):
    child({"refused": "no fp8"})
    with pytest.raises(UnsupportedError, match=r"^no fp8$"):
        process.run(REQUEST, log)


def test_an_end_without_an_answer_says_why_and_names_the_log(child, log):
    child(None)
    log.write(
        "ValueError: the first\n[rank0]: Traceback\n[rank0]:   raise\n"
        "[rank0]: vllm_kunlun.faults.MovedInputError: input 2 has moved.\nINFO bye\n"
    )
    log.flush()
    with pytest.raises(KunlunError) as caught:
        process.run(REQUEST, log)
    assert str(caught.value) == (
        "the rehearsal ended with code 3 before it answered: vllm_kunlun.faults.MovedInputError: "
        f"input 2 has moved. The place in the code stands in {log.name}."
    )


def test_an_end_without_a_word_names_the_log(child, log):
    child(None)
    with pytest.raises(KunlunError, match=f"before it answered. The place .* {log.name}"):
        process.run(REQUEST, log)


def test_what_pydantic_wrapped_is_taken_out():
    from pydantic import ValidationError
    from pydantic.dataclasses import dataclass

    @dataclass
    class Configuration:
        value: int

        def __post_init__(self):
            raise UnsupportedError("say this only")

    with pytest.raises(ValidationError) as caught:
        Configuration(1)
    assert process._reason(caught.value) == "say this only"
    assert process._reason(ValueError("plain")) == "plain"


def test_an_architecture_without_a_class_is_refused_and_answered(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["NobodyForCausalLM"]}))
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    request = dataclasses.replace(REQUEST, folders=(str(tmp_path),))
    asked.write_text(json.dumps(request.as_json()))
    process.main(str(asked), str(answered))
    assert "a class for NobodyForCausalLM" in json.loads(answered.read_text())["refused"]
