# SPDX-License-Identifier: Apache-2.0
"""Write the wheel of a new model family, whose models run with vLLM's own classes.

python support/new_family.py mistral
python support/new_family.py command-r --architecture CohereForCausalLM --title 'Command R'
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from string import Template

import sync
from members import FAMILIES, ROOT, read_all

from vllm_kunlun.cli.adapt import naming
from vllm_kunlun.platforms.errors import UnsupportedError

TEMPLATES = ROOT / "packages/kunlun-cli/src/vllm_kunlun/cli/adapt/family_template"
"""Those of ``vllm-kunlun adapt``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="such as mistral or gpt-oss: lower case, hyphens")
    parser.add_argument("--architecture", help="as config.json names it (NameForCausalLM)")
    parser.add_argument("--title", help="how people write the family's name")
    options = parser.parse_args()
    check_name(options.name)
    folder = ROOT / FAMILIES / options.name
    write(folder, values(options.name, options.architecture, options.title))
    sync.bring_up_to_date()
    print(
        f"wrote {folder.relative_to(ROOT)}. Next: `uv sync`, then correct its family.py "
        "(architectures, preset, status); docs/adding-a-model-family.md goes on from there"
    )


def check_name(name: str) -> None:
    """Exit with a sentence unless a family can be called ``name``."""
    try:
        naming.check_name(name, "NAME")
    except UnsupportedError as error:
        sys.exit(str(error))
    taken = {"all", "xpu", *(wheel.extra for wheel in read_all())}
    if name in taken or (ROOT / FAMILIES / name).exists():
        sys.exit(f"{name!r} exists: it is an extra of vllm-kunlun or a folder of {FAMILIES}")


def values(name: str, architecture: str | None, title: str | None) -> dict[str, str]:
    """What the templates' placeholders stand for."""
    camel = "".join(word.capitalize() for word in name.split("-"))
    architecture = architecture or f"{camel}ForCausalLM"
    if not re.fullmatch(r"[A-Z]\w*", architecture):
        sys.exit(
            f"--architecture {architecture!r} must be a class's name, such as LlamaForCausalLM"
        )
    if title and re.search(r'["\\\n]', title):
        sys.exit(f"--title {title!r} must be one line without quotation marks and backslashes")
    return {
        "name": name,
        "module": name.replace("-", "_"),
        "architecture": architecture,
        "begin": naming.begin_of(architecture),
        "title": title or camel,
        "architectures": f'"{architecture}": None',
        "preset": "",
        "status": "untested",
        "plugin": "",
        "pytest": "",
    }


def write(folder: Path, placeholders: dict[str, str]) -> None:
    """Every file of the wheel."""
    package = folder / "src" / "vllm_kunlun" / "models" / placeholders["module"]
    for template, file in {
        "pyproject.toml": folder / "pyproject.toml",
        "README.md": folder / "README.md",
        "CHANGELOG.md": folder / "CHANGELOG.md",
        "family.feature.md": folder / "changelog.d" / "+family.feature.md",
        "package.py": package / "__init__.py",
        "family.py": package / "family.py",
        "test_family.py": folder / "tests" / "test_family.py",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        text = Template((TEMPLATES / f"{template}.template").read_text())
        file.write_text(text.substitute(placeholders))
    (package / "py.typed").touch()
    (folder / "changelog.d" / ".gitignore").write_text("!.gitignore\n")
    shutil.copy(ROOT / "LICENSE", folder)


if __name__ == "__main__":
    main()
