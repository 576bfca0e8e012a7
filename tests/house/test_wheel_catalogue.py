# SPDX-License-Identifier: Apache-2.0
"""``wheels.json`` of the platform, which names the wheel to install, against the wheels here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit

from vllm_kunlun.platforms import wheels

PACKAGES = Path(__file__).parents[2] / "packages"
PROJECTS: dict[str, dict[str, Any]] = {
    project["name"]: project
    for file in PACKAGES.rglob("pyproject.toml")
    if (project := tomlkit.parse(file.read_text())["project"].unwrap())
}
GROUPS = {group for provides in wheels.catalogue().values() for group in provides}


def test_it_says_what_each_wheels_entry_points_say() -> None:
    declared = {
        name: {group: sorted(names) for group, names in groups.items() if group in GROUPS}
        for name, project in PROJECTS.items()
        if (groups := project.get("entry-points"))
    }
    said = {
        name: {g: sorted(names) for g, names in provides.items() if g != wheels.ARCHITECTURES}
        for name, provides in wheels.catalogue().items()
    }
    assert {n: p for n, p in said.items() if p} == {n: p for n, p in declared.items() if p}


def test_it_names_every_family() -> None:
    families = {
        name
        for name, project in PROJECTS.items()
        if "vllm_kunlun.model_families" in project.get("entry-points", {})
    }
    named = {n for n, provides in wheels.catalogue().items() if wheels.ARCHITECTURES in provides}
    assert named == families
