# SPDX-License-Identifier: Apache-2.0
"""``support/releasing/artifacts.py``: two builds of one commit must agree."""

from __future__ import annotations

import hashlib

import pytest
from members import ROOT
from releasing import artifacts
from releasing.making import named


def test_a_digest_is_of_the_bytes(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"wheel")
    assert artifacts.digests(tmp_path) == {"a.whl": hashlib.sha256(b"wheel").hexdigest()}


@pytest.mark.parametrize(
    "second",
    [{"a.whl": "1", "a.tar.gz": "3"}, {"a.whl": "1"}, {"a.whl": "1", "b.tar.gz": "2"}],
)
def test_two_builds_that_differ_are_refused(tmp_path, monkeypatch, second):
    first = {"a.whl": "1", "a.tar.gz": "2"}
    wheel, _ = named(ROOT, "kunlun-quant")
    monkeypatch.setattr(artifacts, "clone", lambda root, folder: folder)
    for builds, refused in (([first, second], True), ([first, first], False)):
        made = iter(builds)
        monkeypatch.setattr(artifacts, "build", lambda *_, made=made: next(made))
        if refused:
            with pytest.raises(SystemExit, match="two builds of kunlun-quant must give"):
                artifacts.build_twice(ROOT, wheel, tmp_path)
        else:
            assert artifacts.build_twice(ROOT, wheel, tmp_path) == first
