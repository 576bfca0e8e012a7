# SPDX-License-Identifier: Apache-2.0
"""A tokenizer for tiny checkpoints: a token a byte, so that any grammar can be kept to."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<bos>", "<eos>"]
"""Tokens 0 to 2, as in the configurations of :mod:`support.checkpoints`."""

CHAT = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"


def add(checkpoint: Path) -> None:
    """Write the tokenizer, with a chat template, beside the weights."""
    letters = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({each: i for i, each in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad, bos, eos = SPECIAL
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos, chat_template=CHAT
    ).save_pretrained(checkpoint)
