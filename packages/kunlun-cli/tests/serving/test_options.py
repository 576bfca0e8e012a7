# SPDX-License-Identifier: Apache-2.0
"""Options in every way that vLLM's parser takes them."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.serving.options import Given, given


@pytest.mark.parametrize(
    ("user", "found"),
    [
        (["--dtype", "float16"], [("dtype", "float16")]),
        (["--dtype=float16"], [("dtype", "float16")]),
        (["--block_size", "64"], [("block-size", "64")]),
        (["-tp", "2", "-O3"], [("-tp", "2"), ("-O3", "")]),
        (["--lora-modules", "a=b", "c=d", "--x"], [("lora-modules", "a=b c=d"), ("x", "")]),
        (["--seed", "-1"], [("seed", "-1")]),
        ([], []),
    ],
)
def test_command_line(user, found):
    assert given(user) == [Given(*pair) for pair in found]


def test_file(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("block_size: 16\nenforce-eager: true\n")
    assert given(["--config", str(file)])[1:] == [
        Given("block-size", "16", str(file)),
        Given("enforce-eager", "True", str(file)),
    ]


def test_a_switch_settles_its_opposite():
    [option] = given(["--no-enable-prefix-caching"])
    assert option.settles == "enable-prefix-caching"
