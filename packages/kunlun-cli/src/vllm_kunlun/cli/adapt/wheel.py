# SPDX-License-Identifier: Apache-2.0
"""The files of a family wheel, around a model file or around none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Any

from vllm_kunlun.cli.adapt.naming import begin_of
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.families import GROUP

__all__ = ["Wheel", "check_destination", "write"]

_PLUGIN = """[project.entry-points."vllm.general_plugins"]
kunlun_model_{module} = "vllm_kunlun.models.{module}.plugin:register"

"""
_PYTEST = """[tool.pytest.ini_options]
addopts = "-m 'not slow'"
testpaths = ["tests"]
markers = ["slow: compiled, on two ranks, on two stages"]

"""
_COMPARED = """\
pytest             # greedy tokens and log-probabilities against transformers
pytest -m slow     # the same compiled, on two ranks, on two stages"""
_FOUND = "pytest             # the family is found by its architecture"
_BY_VLLM = (
    "vLLM's own model class (`{architecture}`) runs with the layers and the attention of\n"
    "`kunlun-custom-ops`: no model file is needed."
)
_OWN = (
    "The class of `{architecture}` is `{file}` of this wheel, {origin}. Its layers are\n"
    "vLLM's, which the platform replaces by those of `kunlun-custom-ops`."
)


@dataclass(frozen=True)
class Wheel:
    """What a wheel is written of.

    Attributes:
        name: the family's, lower case with hyphens.
        architecture: as config.json names it.
        experts: whether the preset is that of a mixture of experts.
        file, text: name and content of the model file; empty without one.
        model: class in that file.
        origin: where the file comes from, as a sentence goes on.
        config: a tiny configuration to test with; None where transformers has no such model.
    """

    name: str
    architecture: str
    experts: bool = False
    file: str = ""
    text: str = ""
    model: str = ""
    origin: str = ""
    config: dict[str, Any] | None = None

    @property
    def module(self) -> str:
        """Of the package ``vllm_kunlun.models``."""
        return self.name.replace("-", "_")

    @property
    def entry_points(self) -> dict[str, dict[str, str]]:
        """Group -> name -> object."""
        package = f"vllm_kunlun.models.{self.module}"
        groups = {GROUP: {self.name: f"{package}.family:family"}}
        if self.text:
            groups["vllm.general_plugins"] = {
                f"kunlun_model_{self.module}": f"{package}.plugin:register"
            }
        return groups


def check_destination(folder: Path) -> None:
    """Whether ``folder`` can be written without losing anything.

    Raises:
        UnsupportedError: it is a file, or holds something.
    """
    if folder.exists() and not folder.is_dir():
        raise UnsupportedError(f"--out {folder} is a file: name a folder that is not there yet.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UnsupportedError(
            f"--out {folder} holds files, and nothing is written over them: name another folder, "
            "or move it away."
        )


def write(folder: Path, wheel: Wheel) -> list[Path]:
    """Every file of ``wheel``; returns their paths in ``folder``."""
    module = wheel.module
    package = f"src/vllm_kunlun/models/{module}"
    what = (_OWN if wheel.text else _BY_VLLM).format(
        architecture=wheel.architecture, file=wheel.file, origin=wheel.origin
    )
    against = "against HF transformers" if wheel.config else "that the class loads"
    path = f"vllm_kunlun.models.{module}.{Path(wheel.file).stem}:{wheel.model}"
    values = {
        "name": wheel.name,
        "module": module,
        "architecture": wheel.architecture,
        "begin": begin_of(wheel.architecture),
        "title": begin_of(wheel.architecture),
        "architectures": (
            f'\n            "{wheel.architecture}": "{path}",\n        '
            if wheel.text
            else f'"{wheel.architecture}": None'
        ),
        "preset": "experts=True" if wheel.experts else "",
        "status": f"emulated: its tests are {against}; card: untested",
        "plugin": _PLUGIN.format(module=module) if wheel.text else "",
        "pytest": _PYTEST,
        "what": what,
        "tests": _COMPARED if wheel.config else _FOUND,
        "history": f"Serving preset of {wheel.architecture}"
        + (f", and its class, {wheel.origin}." if wheel.text else "; vLLM has its class."),
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        "adapted.md": "README.md",
        "history.md": "CHANGELOG.md",
        "package.py": f"{package}/__init__.py",
        "family.py": f"{package}/family.py",
        "test_family.py": "tests/test_family.py",
        **({"plugin.py": f"{package}/plugin.py"} if wheel.text else {}),
        **({"test_parity.py": "tests/test_parity.py"} if wheel.config else {}),
    }
    files = {file: Template(_template(name)).substitute(values) for name, file in templates.items()}
    files["LICENSE"] = _license()
    files[f"{package}/py.typed"] = ""
    if wheel.text:
        files[f"{package}/{wheel.file}"] = wheel.text
    if wheel.config:
        files["tests/config.json"] = json.dumps(wheel.config, indent=2) + "\n"
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    return [Path(file) for file in sorted(files)]


def _template(name: str) -> str:
    folder = resources.files(__package__).joinpath("family_template")
    return folder.joinpath(f"{name}.template").read_text(encoding="utf-8")


def _license() -> str:
    """The licence of this wheel, which the new one has, too."""
    for file in metadata.files("kunlun-cli") or ():
        if file.name == "LICENSE":
            return Path(str(file.locate())).read_text(encoding="utf-8")
    raise UnsupportedError("kunlun-cli was installed without its LICENSE: reinstall it.")
