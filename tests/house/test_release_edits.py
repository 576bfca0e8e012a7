# SPDX-License-Identifier: Apache-2.0
"""``support/releasing``: versions, bounds and changelog of a release, in a copy of the tree."""

from __future__ import annotations

import pytest
from members import read_all
from packaging.requirements import Requirement
from packaging.version import Version
from releasing import edits, making, versions

QUANT = "packages/kunlun-quant"
GPT_OSS = "packages/kunlun-models/gpt-oss"


@pytest.mark.parametrize(
    ("part", "version"), [("major", "2.0.0"), ("minor", "1.3.0"), ("patch", "1.2.4")]
)
def test_the_next_version(part, version):
    assert versions.next_version("1.2.3", part) == version
    assert Version(version) > Version("1.2.3")


@pytest.mark.parametrize("version", ["0.1", "0.1.0rc1", "0.1.0.post1"])
def test_a_version_that_is_no_release_is_refused(version):
    with pytest.raises(SystemExit, match="three numbers"):
        versions.next_version(version, "patch")


def test_the_meta_package_follows_vllm_and_counts_its_own():
    assert versions.next_post("0.15.1.post1", "patch") == "0.15.1.post2"
    assert Version("0.15.1") < Version("0.15.1.post2") < Version("0.15.2")
    with pytest.raises(SystemExit, match="no minor release"):
        versions.next_post("0.15.1.post1", "minor")
    for version in ("0.15.1", "0.15.1.postx", "0.15.post1"):
        with pytest.raises(SystemExit, match="postN"):
            versions.next_post(version, "patch")


def test_candidates_count_up_and_come_before_their_version():
    taken = ["a-v0.2.0rc1", "a-v0.2.0rc9", "ba-v0.2.0rc11", "a-v0.3.0rc20", "a-v0.2.0rc1x"]
    assert versions.candidate("a", "0.2.0", taken) == "0.2.0rc10"
    assert versions.candidate("b", "0.2.0", taken) == "0.2.0rc1"
    assert Version("0.1.9") < Version("0.2.0rc10") < Version("0.2.0")
    assert versions.is_candidate("0.2.0rc10") and not versions.is_candidate("0.2.0")


@pytest.mark.parametrize("version", ["0.2.0", "0.2.7", "1.0.0", "0.2.0rc3"])
def test_a_dependents_bound_takes_the_version_and_its_bug_fixes(version):
    asked = Requirement(versions.bound("kunlun-quant", version)).specifier
    major, minor, patch = Version(version).release
    assert asked.contains(version, prereleases=True)
    assert asked.contains(f"{major}.{minor}.{patch + 1}")
    assert not asked.contains(f"{major}.{minor + 1}.0")


def test_a_tag_is_read_as_it_was_written():
    for name, version in (
        ("kunlun-models-gpt-oss", "0.2.0"),
        ("kunlun-quant", "1.0.3rc12"),
        ("vllm-kunlun", "0.15.1.post2"),
    ):
        assert versions.of_tag(versions.tag(name, version)) == (name, version)


@pytest.mark.parametrize("text", ["v0.2.0", "kunlun-quant-0.2.0", "kunlun-quant-v0.2", "a-v1.0.0b"])
def test_another_tag_is_refused(text):
    with pytest.raises(SystemExit, match="NAME-vVERSION"):
        versions.of_tag(text)


def wheel_of(root, name="kunlun-quant"):
    return making.named(root, name)[0]


def texts(root) -> dict[str, str]:
    files = (file for file in root.rglob("*") if file.is_file() and ".git" not in file.parts)
    return {file.relative_to(root).as_posix(): file.read_text() for file in files}


def test_a_patch_moves_no_bound(tree):
    root = tree
    before = texts(root)
    assert edits.move_bounds(root, wheel_of(root), "0.1.1", read_all(root)) == []
    assert texts(root) == before


def test_a_minor_moves_the_bounds_of_those_that_refuse_it(tree):
    root = tree
    moved = edits.move_bounds(root, wheel_of(root), "0.2.0", read_all(root))
    assert moved == ["kunlun-models-gpt-oss"]
    assert '"kunlun-quant>=0.2,<0.3",\n' in (root / GPT_OSS / "pyproject.toml").read_text()
    fragment = root / GPT_OSS / "changelog.d" / "+kunlun-quant-0.2.change.md"
    assert fragment.read_text() == "Asks for `kunlun-quant` 0.2.\n"
    assert edits.move_bounds(root, wheel_of(root), "0.2.0", read_all(root)) == []


def test_all_that_ask_for_the_platform_follow(tree):
    root = tree
    moved = edits.move_bounds(root, wheel_of(root, "kunlun-platform"), "0.2.0", read_all(root))
    assert set(moved) == {wheel.name for wheel in read_all(root)} - {"kunlun-platform"}
    for name, text in texts(root).items():
        if name.startswith(("packages", "examples")):
            assert '"kunlun-platform>=0.1' not in text, name


def test_only_the_version_of_the_one_wheel_is_written(tree):
    root = tree
    before = texts(root)
    edits.set_version(root, wheel_of(root), "0.1.1")
    after = texts(root)
    project = f"{QUANT}/pyproject.toml"
    assert [name for name in after if after[name] != before[name]] == [project]
    assert after[project] == before[project].replace('version = "0.1.0"', 'version = "0.1.1"')


def test_the_fragments_become_an_entry(tree):
    root = tree
    changelog = root / QUANT / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n<!-- towncrier release notes start -->\n")
    with pytest.raises(SystemExit, match=r"no entry for 0\.1\.1"):
        edits.entry(root, wheel_of(root), "0.1.1")
    with pytest.raises(SystemExit, match=r"changelog.d holds no fragment"):
        edits.write_changelog(root, wheel_of(root), "0.1.1")
    folder = root / QUANT / "changelog.d"
    for version, text in (("0.1.1", "Less memory."), ("0.1.2", "Faster.")):
        folder.mkdir(exist_ok=True)
        (folder / "+one.feature.md").write_text(f"{text}\n")
        edits.write_changelog(root, wheel_of(root), version)
        assert not (folder / "+one.feature.md").exists()
    assert "Faster." in edits.entry(root, wheel_of(root), "0.1.2")
    assert "Less memory." in edits.entry(root, wheel_of(root), "0.1.1")
    assert "Less memory." not in edits.entry(root, wheel_of(root), "0.1.2")


def test_an_unknown_wheel_is_told_the_names(tree):
    with pytest.raises(SystemExit, match=r"'quant' is no wheel.*kunlun-quant"):
        making.named(tree, "quant")
