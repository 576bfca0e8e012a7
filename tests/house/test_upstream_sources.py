# SPDX-License-Identifier: Apache-2.0
"""Where vLLM's tests come from: another archive, a lost text, a needless entry are errors."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from vllm_tests import adapters, home, rewrites, sdist, tree
from vllm_tests.errors import UpstreamError


def test_another_archive_is_an_error(tmp_path: Path) -> None:
    archive = tmp_path / "vllm-0.14.1.tar.gz"
    archive.write_bytes(b"the release")
    sdist.verify(archive, hashlib.sha256(b"the release").hexdigest())
    with pytest.raises(UpstreamError, match=r"has SHA-256 [0-9a-f]{64}, expected .*: remove it"):
        sdist.fetch("0.14.1", tmp_path)


def test_only_what_the_tests_need_is_unpacked(tmp_path: Path) -> None:
    for name in ("tests/test_a.py", "vllm/a.py", "pyproject.toml"):
        file = tmp_path / "vllm-9" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    archive = tmp_path / "vllm-9.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(tmp_path / "vllm-9", "vllm-9")
    folder = sdist.unpack(archive, tmp_path / "cache")
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert found == {"tests/test_a.py", "pyproject.toml"}


@pytest.fixture
def releases(tmp_path: Path) -> tuple[Path, Path]:
    """An older and a newer tree, with one file in the same words."""
    for release, changed in (("older", "1"), ("newer", "2")):
        (tmp_path / release).mkdir()
        (tmp_path / release / "same.py").write_text("same")
        (tmp_path / release / "changed.py").write_text(changed)
    (tmp_path / "older" / "gone.py").write_text("1")
    return tmp_path / "older", tmp_path / "newer"


def test_a_changed_file_is_the_newer_one_unless_it_is_named(
    releases: tuple[Path, Path], tmp_path: Path
) -> None:
    into = tmp_path / "tree"
    tree.merge(*releases, [], into)
    assert {file.name: file.read_text() for file in into.iterdir()} == {
        "same.py": "same",
        "changed.py": "2",
    }
    tree.merge(*releases, ["changed.py", "gone.py"], into)
    assert {file.name: file.read_text() for file in into.iterdir()} == {
        "same.py": "same",
        "changed.py": "1",
        "gone.py": "1",
    }


@pytest.mark.parametrize(
    ("name", "says"),
    [("same.py", "is the same in both releases"), ("other.py", "is not in older")],
)
def test_a_needless_name_is_an_error(
    releases: tuple[Path, Path], tmp_path: Path, name: str, says: str
) -> None:
    with pytest.raises(UpstreamError, match=says):
        tree.merge(*releases, [name], tmp_path / "tree")


def test_a_rule_names_our_device(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text('make("cuda"), make("cuda")')
    rule = rewrites.Rule(["test_a.py"], '"cuda"', '"cpu"', "the device")
    rewrites.apply([rule], tmp_path)
    assert (tmp_path / "test_a.py").read_text() == 'make("cpu"), make("cpu")'
    with pytest.raises(UpstreamError, match=r"test_a\.py does not have '\"cuda\"'"):
        rewrites.apply([rule], tmp_path)


def test_a_rule_of_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    rule = rewrites.Rule(["test_b.py"], '"cuda"', '"cpu"', "the device")
    with pytest.raises(UpstreamError, match=r"test_b\.py does not have"):
        rewrites.apply([rule], tmp_path)


def test_the_hub_finds_what_was_added(tmp_path: Path) -> None:
    from huggingface_hub import try_to_load_from_cache

    (tmp_path / "config.json").write_text("{}")
    home.add(tmp_path / "hub", "some/model", iter([tmp_path / "config.json"]))
    found = try_to_load_from_cache("some/model", "config.json", cache_dir=tmp_path / "hub")
    assert isinstance(found, str) and Path(found).read_text() == "{}"


def test_two_models_of_one_name_are_an_error(tmp_path: Path) -> None:
    listed = tmp_path / "hub.toml"
    entry = '[[model]]\ntype = "llama"\nnames = ["some/model"]\n'
    listed.write_text(f"[common]\n{entry}")
    assert [model.names for model in home.read(listed)] == [["some/model"]]
    listed.write_text(f"[common]\n{entry}{entry}")
    with pytest.raises(UpstreamError, match="more than once: \\['some/model'\\]"):
        home.read(listed)


def test_an_adapter_fits_the_layers_of_its_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    layers = {"model.layers.0.self_attn.q_proj": (6, 4), "model.layers.0.mlp.up_proj": (8, 4)}
    weights = {f"{name}.weight": torch.zeros(shape) for name, shape in layers.items()}
    save_file(weights, model / "model.safetensors")
    adapters.write(model, tmp_path / "adapter")
    found = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    assert {name: tuple(matrix.shape) for name, matrix in found.items()} == {
        f"{prefix}A.weight": (adapters.RANK, 4),
        f"{prefix}B.weight": (6, adapters.RANK),
    }
    assert all(matrix.any() for matrix in found.values())
    described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert described["r"] == adapters.RANK


def test_each_adapter_is_of_a_model_of_the_list() -> None:
    names = {name for model in home.read() if model.weights for name in model.names}
    assert {adapter.of for adapter in home.read_adapters()} <= names
