# SPDX-License-Identifier: Apache-2.0
"""The hooks of the site, and the Python of its pages."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pages
import pytest
import torch
from mkdocs.exceptions import PluginError
from safetensors.torch import save_file
from support import smollm2

from vllm_kunlun.cli.checks import CHECKS
from vllm_kunlun.ops.contract.functions import contract
from vllm_kunlun.platforms import envs

DOCS = Path(__file__).parents[2] / "docs"


def python(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)


@pytest.mark.parametrize(
    ("source", "link", "becomes"),
    [
        ("README.md", "[a](docs/graphs.md#x)", "[a](graphs.md#x)"),
        ("README.md", "[a](packages/kunlun-mla)", "[a](wheels/kunlun-mla.md)"),
        ("docs/serve.md", "[a](../CONTRIBUTING.md)", "[a](contributing.md)"),
        ("docs/serve.md", "[a](graphs.md)", "[a](graphs.md)"),
        ("docs/serve.md", "[a](../noxfile.py)", '<span title="noxfile.py">a</span>'),
        ("packages/kunlun-mla/README.md", "[a](../../README.md)", "[a](../index.md)"),
        ("docs/serve.md", "[a](https://b.c/d)", "[a](https://b.c/d)"),
        ("docs/serve.md", "[a](#b)", "[a](#b)"),
        (
            "docs/json-output.md",
            "[a](../packages/kunlun-cli/src/vllm_kunlun/cli/schemas/env.json)",
            "[a](schemas/env.json)",
        ),
        ("docs/serve.md", "```\n[a](../noxfile.py)\n```", "```\n[a](../noxfile.py)\n```"),
    ],
)
def test_a_link_becomes_one_of_the_site(source, link, becomes):
    assert pages.relinked(link, source) == becomes


def test_a_table_takes_the_place_of_its_line():
    assert pages.filled("a\n<!-- site: b -->\nc", {"b": lambda: "|B|"}) == "a\n|B|\nc"
    with pytest.raises(PluginError, match="no table 'gone': there are b"):
        pages.filled("<!-- site: gone -->", {"b": str})


def test_what_another_host_is_asked_for_is_found():
    html = (
        '<script src="https://a.b/c.js"></script><link rel="stylesheet" href="//d.e/f.css">'
        '<a href="https://fine.example">x</a><link href="site.css"><img src="images/y.png">'
        "@import 'https://g.h/i.css'; a { background: url(http://j.k/l.png) }"
    )
    assert len(list(pages.loaded_from_elsewhere(html))) == 4


def test_each_table_is_whole():
    environment, functions, changes = (table() for table in pages.TABLES.values())
    assert [name for name in envs.TABLE if f"| `{name}` |" not in environment] == []
    assert [each.name for each in contract() if f"[`{each.name}`]" not in functions] == []
    assert [wheel.name for wheel in pages.read_all() if f"## {wheel.name}\n" not in changes] == []
    assert "- `vllm-kunlun rehearse MODEL`:" in changes


def test_each_check_of_doctor_is_on_the_page():
    page = (DOCS / "install-on-a-card.md").read_text()
    assert [name for name in CHECKS if f"`{name}`" not in page] == []


def test_the_pages_model_class_and_family():
    names: dict = {}
    for block in python("adapting-a-model.md"):
        exec(block, names)
    assert [*names["NAMES"].apply([("head.weight", 1)])] == [("lm_head.weight", 1)]
    assert issubclass(names["KunlunMyModelForCausalLM"], names["LlamaForCausalLM"])
    assert names["family"]().classes.keys() == {"MyModelForCausalLM"}


def test_the_pages_listing_of_a_checkpoint(tmp_path, capsys):
    save_file({"a.weight": torch.zeros(2, 3)}, tmp_path / "model.safetensors")
    (block,) = python("troubleshooting.md")
    exec(block, {"file": tmp_path / "model.safetensors"})
    assert capsys.readouterr().out == "a.weight [2, 3]\n"


@pytest.mark.slow
@pytest.mark.weights
def test_the_pages_program(tmp_path):
    (block,) = python("quick-start.md")
    program = tmp_path / "program.py"
    head = f"checkpoint = {str(smollm2.checkpoint())!r}\nif __name__ == '__main__':\n"
    program.write_text(head + textwrap.indent(block, "    "))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert "Paris" in done.stdout
