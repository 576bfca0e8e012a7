# SPDX-License-Identifier: Apache-2.0
"""The pages' commands: each is one that something runs or that needs what a test has not, and what
this project or vLLM parses is parsed by their own parsers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from members import read_all
from typer.core import TyperGroup

from vllm_kunlun.cli.main import app
from vllm_kunlun.platforms import envs

ROOT = Path(__file__).parents[2]
WHEELS = read_all()
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / wheel.folder / "README.md" for wheel in WHEELS),
]
HOLES = {"RANKS": "2", "CARDS": "1", "card/bin/": "", "uv run ": ""}
"""What a reader fills in, or writes in front, and what the parsers are given."""

RUN_BY = {
    "vllm-kunlun demo": "packages/kunlun-cli/tests/test_demo.py",
    "vllm-kunlun serve": "packages/kunlun-cli/tests/test_serve.py",
    "vllm-kunlun doctor": "packages/kunlun-cli/tests/test_doctor.py",
    "vllm-kunlun env": "packages/kunlun-cli/tests/test_env.py",
    "vllm-kunlun models": "packages/kunlun-cli/tests/test_models.py",
    "vllm-kunlun assess": "packages/kunlun-cli/tests/assess/test_assess.py",
    "vllm-kunlun adapt": "packages/kunlun-cli/tests/adapt/test_adapt.py",
    "vllm-kunlun rehearse": "tests/rehearsal/test_rehearse_command.py",
    "vllm-kunlun verify": "tests/user/test_verify.py",
    "vllm-kunlun lint": "packages/kunlun-cli/tests/lint/test_lint.py",
    "vllm-kunlun weights": "tests/user/test_weights.py",
    "vllm-kunlun ops check": "packages/kunlun-cli/tests/ops/test_checking.py",
    "vllm-kunlun ops bench": "packages/kunlun-cli/tests/ops/test_benching.py",
    "vllm serve": "tests/user/test_server.py",
    "curl http://localhost:8000/v1/completions": "tests/user/test_server.py",
    "uv build --wheel DIR": "tests/user/test_adapted_wheel.py",
    "pip install DIR/dist/": "tests/user/test_adapted_wheel.py",
    "pip install": "tests/wheels/test_wheels.py",
    "uv pip install --no-config -p card/bin/python": "noxfile.py",
    "cat > overrides.txt": "noxfile.py",
    "uv build --all-packages": "noxfile.py",
    "uv run nox": "noxfile.py",
    "uv run python benchmarks/versus.py": "tests/house/test_versus.py",
    "ray ": "tests/rehearsal/test_two_hosts.py",
    "export ": "packages/kunlun-platform/tests/test_envs.py",
}
"""How a command begins -> the test that runs its like, or the noxfile if a session does."""

NEEDS = {
    "docker run": "a card and the vendor's image",
    "pip install uv": "a network",
    "uv sync": "a network",
    "pre-commit ": "a clone to change",
    "git ": "a clone to change",
    "sha256sum ": "a release to compare with",
}
"""Commands that nothing runs here, and what they need."""


def commands(text: str) -> list[str]:
    """Each command of the text's bash blocks, one line each, without comments; a document that a
    command is given (``<<'EOF'``) belongs to it and is dropped."""
    found = []
    for block in re.findall(r"^ *```bash[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        block = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)
        waiting = ""
        for line in block.replace("\\\n", " ").splitlines():
            waiting += f"\n{line}" if waiting else line
            try:
                words = shlex.split(waiting, comments=True)
            except ValueError:  # a quoted text goes on in the next line
                continue
            if words:
                found += [part.strip() for part in _without_comment(waiting).split(" && ")]
            waiting = ""
        assert not waiting, f"a quote is not closed: {waiting}"
    return found


def _without_comment(line: str) -> str:
    for mark in re.finditer(r"(?:^|\s)#", line):
        before = line[: mark.start()]
        if before.count("'") % 2 == 0 and before.count('"') % 2 == 0:
            return before.strip()
    return line.strip()


ALL = sorted({command for page in PAGES for command in commands(page.read_text())})


def bare(command: str) -> str:
    """Without variables in front, holes filled."""
    command = re.sub(r"^(?:[A-Z_]+=\S+ +)+", "", command)
    for hole, value in HOLES.items():
        command = command.replace(hole, value)
    return command


def begins(command: str, table: dict[str, str]) -> list[str]:
    return [
        start for start in table if command.startswith(start) or bare(command).startswith(start)
    ]


@pytest.mark.parametrize("command", ALL)
def test_something_runs_it_or_it_says_what_it_needs(command):
    assert begins(command, RUN_BY) or begins(command, NEEDS), "name it in RUN_BY or NEEDS"


def test_the_tables_name_what_is_there():
    assert [file for file in RUN_BY.values() if not (ROOT / file).is_file()] == []
    unused = {
        start
        for start in {**RUN_BY, **NEEDS}
        if not any(begins(command, {start: ""}) for command in ALL)
    }
    assert unused == set()


@pytest.mark.parametrize("command", [c for c in ALL if bare(c).startswith("vllm-kunlun ")])
def test_the_command_takes_its_options(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    words = shlex.split(bare(command).split(" > ")[0])[1:]
    found, name = typer.main.get_command(app), "vllm-kunlun"
    while isinstance(found, TyperGroup):
        name = words.pop(0)
        assert name in found.commands, f"there is no command {name}"
        found = found.commands[name]
    found.make_context(name, words)


@pytest.fixture(scope="module")
def vllm_parser():
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser(exit_on_error=False))


OURS = ("--dry-run", "--explain")
"""What `vllm-kunlun serve` does not hand on."""

SERVED = [c for c in ALL if re.match(r"vllm(-kunlun)? serve ", bare(c))]


@pytest.mark.parametrize("command", SERVED)
def test_vllm_takes_the_options_of_a_server(command, vllm_parser):
    words = [word for word in shlex.split(bare(command))[3:] if word not in OURS]
    vllm_parser.parse_args(words)


@pytest.mark.parametrize("command", [c for c in ALL if " nox -s " in f" {bare(c)}"])
def test_nox_has_the_session(command):
    words = shlex.split(bare(command).split(" -- ")[0])[2:]
    noxfile = (ROOT / "noxfile.py").read_text()
    sessions = set(re.findall(r"^@nox\.session\n(?:@.*\n)?def (\w+)", noxfile, re.MULTILINE))
    assert {word.partition("(")[0] for word in words} <= sessions


@pytest.mark.parametrize("command", [c for c in ALL if re.match(r"(uv )?pip install ", c)])
def test_pip_is_asked_for_what_there_is(command):
    names = {wheel.name for wheel in WHEELS}
    meta = (ROOT / "pyproject.toml").read_text()
    for word in shlex.split(command):
        name, _, extras = word.rstrip("]").partition("[")
        if name.startswith("kunlun-"):
            assert name in names
        if name == "vllm-kunlun":
            missing = [e for e in extras.split(",") if not re.search(rf"^{e} = \[", meta, re.M)]
            assert missing == []


@pytest.mark.parametrize("command", [c for c in ALL if re.match(r"(export )?[A-Z_]+=", c)])
def test_variables_are_known(command):
    names = re.findall(r"\b([A-Z][A-Z_]+)=", command.partition(" vllm")[0])
    assert [name for name in names if name not in envs.TABLE and name != "GLOO_SOCKET_IFNAME"] == []


def test_what_is_wrong_is_noticed():
    text = "```bash\nA=1 vllm serve X \\\n  --y 'a\nb'   # why\npip install uv && ls\n```\n"
    assert commands(text) == ["A=1 vllm serve X    --y 'a\nb'", "pip install uv", "ls"]
    assert begins("ls", {**RUN_BY, **NEEDS}) == []
    assert bare("A=1 uv run vllm-kunlun doctor") == "vllm-kunlun doctor"
