# SPDX-License-Identifier: Apache-2.0
"""The file that ``--report`` names: refused before, written after."""

from __future__ import annotations

import json
import os

import pytest

from vllm_kunlun.cli import report_file
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.txt", "ends in .html or .json"), ("missing/a.html", "does not exist"),
     ("folder.html", "cannot be written")],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UnsupportedError, match=message):
        report_file.check(tmp_path / name)


def test_a_folder_or_file_of_someone_else_is_refused(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(path))
    (tmp_path / "there.html").write_text("")
    for name, looked_at in (("there.html", tmp_path / "there.html"), ("new.html", tmp_path)):
        with pytest.raises(UnsupportedError, match="cannot be written"):
            report_file.check(tmp_path / name)
        assert asked.pop() == looked_at


def test_a_check_writes_nothing(tmp_path):
    report_file.check(None)
    report_file.check(tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_the_name_decides_the_form(tmp_path):
    result = {"größe": 1}
    report_file.write(tmp_path / "a.html", result, lambda: "<page>")
    report_file.write(tmp_path / "a.json", result, lambda: "<page>")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "<page>"
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == result
