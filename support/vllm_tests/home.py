# SPDX-License-Identifier: Apache-2.0
"""A folder for ``HF_HOME`` with tiny models under the names that vLLM's tests ask the hub for.

``hub.toml`` lists them: ``type`` and ``values`` of the configuration, ``names``, and ``weights``
(random ones, unless it is false, for tests that read a configuration or text only). The text models
of vLLM's own list of examples are added, each with its configuration's defaults made narrow. Each
has SmolLM2's tokenizer, with ``tokens`` added; where ``type`` is "smollm2", the model is SmolLM2
itself. An ``adapter`` has random matrices for the model that ``of`` names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tomlkit

from vllm_tests import adapters, registry
from vllm_tests.errors import UpstreamError

__all__ = ["LIST", "Adapter", "Model", "add", "has", "make", "read", "read_adapters"]

LIST = Path(__file__).with_name("hub.toml")
_REVISION = "0" * 40
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_LENGTH = 131072


class Model(NamedTuple):
    """One entry of the list."""

    names: list[str]
    type: str
    values: dict[str, Any] = {}
    architectures: list[str] = []
    weights: bool = True
    tokens: list[str] = []
    narrow: bool = False


class Adapter(NamedTuple):
    """One adapter of the list, and the model that it is of."""

    names: list[str]
    of: str


def read(file: Path = LIST) -> list[Model]:
    """The models of the list.

    Raises:
        UpstreamError: two entries have one name.
    """
    found = tomlkit.parse(file.read_text()).unwrap()
    common = found["common"]
    models = [
        Model(**{**entry, "values": {**common, **entry.get("values", {})}})
        for entry in found["model"]
    ]
    names = [name for model in models for name in model.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UpstreamError(f"{file.name} lists more than once: {twice}")
    return models


def read_adapters(file: Path = LIST) -> list[Adapter]:
    """The adapters of the list."""
    found = tomlkit.parse(file.read_text()).unwrap()
    return [Adapter(**entry) for entry in found.get("adapter", [])]


def make(into: Path, tree: Path) -> Path:
    """The folder for ``HF_HOME``, made anew when the list, or vLLM's of examples, has changed."""
    made_of = (
        *(LIST, Path(__file__), Path(adapters.__file__)),
        tree / "tests" / "models" / "registry.py",
    )
    word = hashlib.sha256(b"".join(file.read_bytes() for file in made_of)).hexdigest()
    home = into / f"hf-home-{word[:12]}"
    if not (home / "made").exists():
        models = read()
        named = {name for model in models for name in model.names}
        for name, kind, architecture in registry.text_models(tree):
            if name not in named:
                models.append(Model([name], kind, {}, [architecture], False, narrow=True))
                named.add(name)
        for index, model in enumerate(models):
            folder = home / "models" / str(index)
            _write(model, folder)
            for name in model.names:
                add(home / "hub", name, folder.iterdir())
        for adapter in read_adapters():
            index = next(index for index, model in enumerate(models) if adapter.of in model.names)
            folder = home / "adapters" / str(index)
            adapters.write(home / "models" / str(index), folder)
            for name in adapter.names:
                add(home / "hub", name, folder.iterdir())
        (home / "made").touch()
    return home


def add(hub: Path, name: str, files: Iterator[Path]) -> None:
    """Put ``files`` into a cache of the hub as the model ``name``."""
    model = _folder(hub, name)
    snapshot = model / "snapshots" / _REVISION
    snapshot.mkdir(parents=True, exist_ok=True)
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / "main").write_text(_REVISION)
    for file in files:
        link = snapshot / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())


def has(name: str) -> bool:
    """Whether the process's ``HF_HOME`` has the model ``name``, which may be no name at all."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return _folder(Path(HF_HUB_CACHE), name).is_dir()


def _folder(hub: Path, name: str) -> Path:
    return hub / f"models--{name.replace('/', '--')}"


def _write(model: Model, folder: Path) -> None:
    """A checkpoint of ``model``: configuration, tokenizer, weights if it has any."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

    from vllm_kunlun.cli import weights
    from vllm_kunlun.emulator.rehearsal.measuring.sizes import small

    smollm2 = weights.smollm2()
    if model.type == "smollm2":
        shutil.copytree(smollm2, folder, dirs_exist_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG_MAPPING[model.type](**model.values)
    if model.weights:
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
    else:
        config = small(config.to_dict()) if model.narrow else config.to_dict()
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    if model.architectures:
        config["architectures"] = model.architectures
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str))
    for name in _TOKENIZER:
        shutil.copy(smollm2 / name, folder / name)
    for template in smollm2.glob("*.jinja"):
        shutil.copy(template, folder / template.name)
    settings = folder / "tokenizer_config.json"
    settings.write_text(
        json.dumps({**json.loads(settings.read_text()), "model_max_length": _LENGTH})
    )
    if model.tokens:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(model.tokens)
        tokenizer.save_pretrained(folder)
