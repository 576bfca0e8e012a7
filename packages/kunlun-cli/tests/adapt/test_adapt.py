# SPDX-License-Identifier: Apache-2.0
"""``adapt`` as a person or a script calls it; its proof is run in ``tests/user/test_adapt.py``."""

from __future__ import annotations


def test_a_wheel_is_written_and_lint_finds_nothing(run, run_json, checkpoint, tmp_path):
    out = tmp_path / "wheel"
    file = checkpoint("helium", "HeliumForCausalLM")
    code, found = run_json("adapt", file, "--out", out, "--no-prove")
    assert code == 0
    assert (found["case"], found["todo"], found["proved"]) == ("B", [], None)
    assert {*found["files"]} == {
        str(each.relative_to(out)) for each in out.rglob("*") if each.is_file()
    }
    linted = run("lint", out)
    assert linted.exit_code == 0, linted.output


def test_what_is_left_to_write_ends_with_code_1(run, checkpoint, tmp_path):
    out = tmp_path / "wheel"
    result = run("adapt", checkpoint("bitnet", "BitNetForCausalLM"), "--out", out)
    assert result.exit_code == 1
    assert "self.attn_sub_norm" in result.stdout
    assert "TODO(adapt)" in next(out.rglob("bit*net.py")).read_text()


def test_a_folder_that_holds_something_is_left_alone(run, checkpoint, tmp_path):
    out = tmp_path / "wheel"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    result = run("adapt", checkpoint("arcee", "ArceeForCausalLM"), "--out", out)
    assert result.exit_code == 2
    assert "nothing is written over them" in result.stderr
    assert [each.name for each in out.iterdir()] == ["mine.txt"]


def test_a_proof_that_fails_ends_with_code_1(run_json, checkpoint, tmp_path, monkeypatch):
    from vllm_kunlun.cli.adapt import prove

    monkeypatch.setattr(prove, "prove", lambda folder, wheel: (False, "1 failed"))
    file = checkpoint("arcee", "ArceeForCausalLM")
    code, found = run_json("adapt", file, "--out", tmp_path / "wheel")
    assert (code, found["proved"], found["tests"]) == (1, False, "1 failed")
