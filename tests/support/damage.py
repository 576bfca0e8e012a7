# SPDX-License-Identifier: Apache-2.0
"""Damaged checkpoints, one change each to a copy of a good one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

__all__ = ["CASES", "Case", "copy"]

Tensors = dict[str, torch.Tensor]
Change = Callable[[Path], None]
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Case(NamedTuple):
    """A kind of checkpoint, what is done to it, and words that its refusal must have."""

    source: str
    change: Change
    words: tuple[str, ...]


def copy(source: Path, folder: Path, change: Change) -> Path:
    """``source`` with one ``change``, in ``folder``."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    change(folder)
    return folder


def tensors(edit: Callable[[Tensors], object]) -> Change:
    """A change of the tensors by ``edit``."""

    def change(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        edit(state)
        save_file({name: each.contiguous() for name, each in state.items()}, folder / WEIGHTS)

    return change


def without(*parts: str) -> Change:
    """The tensors whose names end so are missing."""

    def edit(state: Tensors) -> None:
        gone = [name for name in state if name.endswith(parts)]
        assert gone, parts
        for name in gone:
            del state[name]

    return tensors(edit)


def each(part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """The tensors whose names end so are changed."""

    def edit(state: Tensors) -> None:
        names = [name for name in state if name.endswith(part)]
        assert names, part
        for name in names:
            state[name] = change(state[name])

    return tensors(edit)


def wider(dim: int, by: int = 1) -> Callable[[torch.Tensor], torch.Tensor]:
    """More columns or rows than config.json says."""
    return lambda old: torch.cat([old, old.narrow(dim, 0, by)], dim)


def configured(**values: Any) -> Change:
    """Other values in config.json; those of ``quantization_config`` are merged."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text())
        quantisation = content.get("quantization_config", {}) | values.get(
            "quantization_config", {}
        )
        content.update(values)
        if quantisation:
            content["quantization_config"] = quantisation
        path.write_text(json.dumps(content))

    return change


def sharded(folder: Path, count: int = 3, *, index: bool = True) -> None:
    """Cut the one file of weights into ``count``."""
    state = load_file(folder / WEIGHTS)
    names = sorted(state)
    places = {name: f"model-{1 + n % count:05}-of-{count:05}.safetensors" for n, name in
              enumerate(names)}  # fmt: skip
    for file in set(places.values()):
        save_file({name: state[name] for name in names if places[name] == file}, folder / file)
    (folder / WEIGHTS).unlink()
    if index:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def shards(after: Change, *, index: bool = True) -> Change:
    """A change of a checkpoint of three files."""

    def change(folder: Path) -> None:
        sharded(folder, index=index)
        after(folder)

    return change


def indexed(content: object) -> Change:
    """Three files whose index says this; bytes are written as they are."""

    def change(folder: Path) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / INDEX).write_bytes(raw)

    return shards(change)


def instead(name: str, make: Callable[[Path], object]) -> Change:
    """Something else where the file ``name`` was."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def cut(name: str, keep: Callable[[int], int]) -> Change:
    """The first bytes of a file only."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: keep(len(content))])

    return change


SECOND = "model-00002-of-00003.safetensors"
NORM, HEAD, EMBEDDING = "model.norm.weight", "lm_head.weight", "model.embed_tokens.weight"
IN_NORM = "layers.1.input_layernorm.weight"
_TWICE = "model.layers.1."

FILES: dict[str, Case] = {
    "cut-in-half": Case("float", cut(WEIGHTS, lambda n: n // 2), (WEIGHTS, "download it again")),
    "one-byte-short": Case("float", cut(WEIGHTS, lambda n: n - 1), (WEIGHTS, "not a whole")),
    "empty-file": Case("float", cut(WEIGHTS, lambda n: 0), (WEIGHTS, "0 bytes")),
    "header-only": Case("float", cut(WEIGHTS, lambda n: 200), (WEIGHTS, "200 bytes")),
    "text-instead": Case(
        "float", instead(WEIGHTS, lambda f: f.write_text("version https://git-lfs\n")), (WEIGHTS,)
    ),
    "broken-link": Case(
        "float", instead(WEIGHTS, lambda f: f.symlink_to("gone")), (WEIGHTS, "gone", "link")
    ),
    "looping-link": Case("float", instead(WEIGHTS, lambda f: f.symlink_to(f.name)), (WEIGHTS,)),
    "pipe": Case("float", instead(WEIGHTS, os.mkfifo), (WEIGHTS, "pipe")),
    "folder-instead": Case("float", instead(WEIGHTS, Path.mkdir), (WEIGHTS, "folder")),
    "lost-shard": Case("float", shards(lambda f: (f / SECOND).unlink()), (SECOND, "lacks 1")),
    "lost-shard-no-index": Case(
        "float", shards(lambda f: (f / SECOND).unlink(), index=False), (SECOND, "lacks 1")
    ),
    "lost-shard-awq": Case("awq", shards(lambda f: (f / SECOND).unlink()), (SECOND,)),
    "lost-shard-gptq": Case("gptq", shards(lambda f: (f / SECOND).unlink()), (SECOND,)),
    "lost-shard-w4a16": Case("w4a16", shards(lambda f: (f / SECOND).unlink()), (SECOND,)),
    "lost-shard-w8a8": Case("w8a8", shards(lambda f: (f / SECOND).unlink()), (SECOND,)),
    "shard-broken-link": Case(
        "float", shards(instead(SECOND, lambda f: f.symlink_to("gone"))), (SECOND, "gone")
    ),
    "shard-pipe": Case("float", shards(instead(SECOND, os.mkfifo)), (SECOND, "pipe")),
    "index-not-json": Case("float", indexed(b"{"), (INDEX, "not JSON")),
    "index-not-text": Case("float", indexed(b"\xff\xfe\x00"), (INDEX, "not JSON")),
    "index-deep": Case("float", indexed(b"[" * 100_000), (INDEX, "not JSON")),
    "index-a-list": Case("float", indexed([]), (INDEX, "weight_map")),
    "index-without-map": Case("float", indexed({"metadata": {}}), (INDEX, "weight_map")),
    "index-empty-map": Case("float", indexed({"weight_map": {}}), (INDEX, "weight_map")),
    "index-map-a-list": Case("float", indexed({"weight_map": ["a"]}), (INDEX, "weight_map")),
    "index-of-numbers": Case("float", indexed({"weight_map": {"a": 5}}), (INDEX, "a is in 5")),
    "index-outside": Case(
        "float", indexed({"weight_map": {"a": "../x.safetensors"}}), (INDEX, "../x")
    ),
    "index-absolute": Case(
        "float", indexed({"weight_map": {"a": "/x.safetensors"}}), (INDEX, "/x.safetensors")
    ),
    "index-other-names": Case(
        "float", indexed({"weight_map": {"a": "b.safetensors"}}), ("b.safetensors", INDEX)
    ),
    "index-pipe": Case("float", shards(instead(INDEX, os.mkfifo)), (INDEX, "pipe")),
    "index-link": Case(
        "float", shards(instead(INDEX, lambda f: f.symlink_to("gone"))), (INDEX, "gone")
    ),
}
"""Decided by the files alone, before an engine is made."""

TENSORS: dict[str, Case] = {
    **{
        f"{kind}-without-{what}": Case(kind, without(name), (name,))
        for kind in ("float", "awq", "gptq", "w4a16", "w8a8")
        for what, name in (
            ("norm", NORM),
            ("head", HEAD),
            ("embedding", EMBEDDING),
            ("input-norm", IN_NORM),
        )
    },
    "float-without-k": Case(
        "float", without("layers.1.self_attn.k_proj.weight"), ("layers.1.self_attn.k_proj.weight",)
    ),
    "float-without-up": Case(
        "float", without("layers.0.mlp.up_proj.weight"), ("layers.0.mlp.up_proj.weight",)
    ),
    "float-without-qkv": Case(
        "float",
        without(*(f"layers.1.self_attn.{p}_proj.weight" for p in "qkv")),
        ("layers.1.self_attn.qkv_proj.weight",),
    ),
    "float-without-down": Case(
        "float", without("layers.2.mlp.down_proj.weight"), ("layers.2.mlp.down_proj.weight",)
    ),
    "awq-without-k-scales": Case(
        "awq", without("layers.1.self_attn.k_proj.scales"), ("layers.1.self_attn.k_proj.scales",)
    ),
    "awq-without-k": Case(
        "awq",
        without(*(f"layers.1.self_attn.k_proj.{p}" for p in ("qweight", "qzeros", "scales"))),
        ("layers.1.self_attn.k_proj.",),
    ),
    "gptq-without-up": Case(
        "gptq",
        without(*(f"layers.0.mlp.up_proj.{p}" for p in ("qweight", "qzeros", "scales", "g_idx"))),
        ("layers.0.mlp.up_proj.",),
    ),
    "w4a16-without-v": Case(
        "w4a16",
        without(*(f"layers.2.self_attn.v_proj.weight_{p}" for p in ("packed", "scale", "shape"))),
        ("layers.2.self_attn.v_proj.",),
    ),
    "w8a8-without-q": Case(
        "w8a8",
        without(*(f"layers.1.self_attn.q_proj.weight{p}" for p in ("", "_scale"))),
        ("layers.1.self_attn.q_proj.",),
    ),
    "w8a8-without-scale": Case(
        "w8a8",
        without("layers.1.self_attn.o_proj.weight_scale"),
        ("layers.1.self_attn.o_proj.weight_scale",),
    ),
    "experts-without-one-up": Case(
        "experts", without("experts.3.up_proj.weight"), ("experts.3.up_proj.weight",)
    ),
    "experts-without-one": Case(
        "experts",
        without(*(f"experts.3.{p}_proj.weight" for p in ("gate", "up", "down"))),
        ("experts",),
    ),
    "experts-without-gate": Case(
        "experts", without("layers.1.mlp.gate.weight"), ("layers.1.mlp.gate.weight",)
    ),
    "float-wide-down": Case(
        "float",
        each("layers.0.mlp.down_proj.weight", wider(1)),
        ("layers.0.mlp.down_proj.weight", WEIGHTS),
    ),
    "float-tall-up": Case(
        "float",
        each("layers.0.mlp.up_proj.weight", wider(0)),
        ("layers.0.mlp.up_proj.weight", WEIGHTS),
    ),
    "float-tall-k": Case(
        "float",
        each("layers.0.self_attn.k_proj.weight", wider(0, 32)),
        ("layers.0.self_attn.k_proj.weight", WEIGHTS),
    ),
    "float-narrow-down": Case(
        "float",
        each("layers.0.mlp.down_proj.weight", lambda w: w[:, 1:]),
        ("layers.0.mlp.down_proj.weight", WEIGHTS),
    ),
    "float-short-k": Case(
        "float",
        each("layers.0.self_attn.k_proj.weight", lambda w: w[1:]),
        ("layers.0.self_attn.k_proj.weight", WEIGHTS),
    ),
    "float-long-norm": Case("float", each(NORM, wider(0)), (NORM, WEIGHTS)),
    "float-transposed-o": Case(
        "float",
        each("layers.0.self_attn.o_proj.weight", lambda w: w.T),
        ("layers.0.self_attn.o_proj.weight", WEIGHTS),
    ),
    "float-more-words": Case("float", each(EMBEDDING, wider(0, 8)), (EMBEDDING, WEIGHTS)),
    "experts-wide-down": Case(
        "experts",
        each("layers.1.mlp.experts.0.down_proj.weight", wider(1)),
        ("experts.0.down_proj.weight", WEIGHTS),
    ),
    "w8a8-wide-down": Case(
        "w8a8",
        each("layers.0.mlp.down_proj.weight", wider(1)),
        ("layers.0.mlp.down_proj.weight", WEIGHTS),
    ),
    **{
        f"float-{what}-{dtype}": Case(
            "float",
            each(name, lambda w, dtype=dtype: (w * 9).to(getattr(torch, dtype))),
            (name, dtype, WEIGHTS),
        )
        for dtype in ("int8", "bool", "complex64", "float8_e4m3fn", "int32", "uint8")
        for what, name in (("o", "layers.0.self_attn.o_proj.weight"), ("norm", NORM))
    },
    "w8a8-in-float": Case(
        "w8a8",
        each("layers.0.mlp.down_proj.weight", lambda w: w.float()),
        ("layers.0.mlp.down_proj", "float32"),
    ),
    "gptq-in-float": Case(
        "gptq",
        each("layers.0.mlp.down_proj.qweight", lambda w: w.float()),
        ("layers.0.mlp.down_proj.qweight",),
    ),
    "named-awq": Case(
        "float",
        configured(
            quantization_config={
                "quant_method": "awq",
                "bits": 4,
                "group_size": 16,
                "zero_point": True,
                "version": "gemm",
            }
        ),
        ("awq", "qweight", "quantization_config"),
    ),
    "named-gptq": Case(
        "float",
        configured(
            quantization_config={
                "quant_method": "gptq",
                "bits": 4,
                "group_size": 16,
                "desc_act": False,
                "sym": True,
            }
        ),
        ("gptq", "qweight", "quantization_config"),
    ),
    "w8a8-unnamed": Case("w8a8", lambda folder: _unnamed(folder), ("_proj.weight",)),
    "awq-unnamed": Case("awq", lambda folder: _unnamed(folder), ("_proj.q",)),
    "awq-group-0": Case("awq", configured(quantization_config={"group_size": 0}), ("groups of 0",)),
    "gptq-group-0": Case(
        "gptq", configured(quantization_config={"group_size": 0}), ("groups of 0",)
    ),
    "awq-group-32": Case("awq", configured(quantization_config={"group_size": 32}), ("scales",)),
    "gptq-bits-8": Case("gptq", configured(quantization_config={"bits": 8}), ("_proj",)),
    "config-hidden": Case("float", configured(intermediate_size=164), (WEIGHTS, "mlp.")),
    "config-smaller": Case("float", configured(intermediate_size=144), (WEIGHTS, "mlp.")),
    "config-layers-more": Case(
        "float", configured(num_hidden_layers=5), ("num_hidden_layers", "5")
    ),
    "config-vocabulary": Case("float", configured(vocab_size=328), (WEIGHTS, HEAD)),
    "other-names": Case(
        "float",
        tensors(lambda state: state.update({f"x.{name}": state.pop(name) for name in list(state)})),
        ("x.",),
    ),
}
"""Decided by the headers and the model's parameters, before a weight is read."""


def _unnamed(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["quantization_config"]
    path.write_text(json.dumps(content))


TOKENIZERS: dict[str, Case] = {
    "no-tokenizer": Case(
        "float",
        lambda folder: [file.unlink() for file in folder.glob("tokenizer*")],
        ("no tokenizer", "--tokenizer"),
    ),
    **{
        f"{name}-{what}": Case("float", cut(name, keep), (name, "not JSON"))
        for name in ("tokenizer.json", "tokenizer_config.json")
        for what, keep in (("cut", lambda n: n // 2), ("empty", lambda n: 0))
    },
    "tokenizer-a-list": Case(
        "float", lambda folder: (folder / "tokenizer.json").write_text("[]"), ("tokenizer.json",)
    ),
}
"""Decided by the files of the tokenizer, which a server needs."""

CASES = {**FILES, **TENSORS, **TOKENIZERS}
