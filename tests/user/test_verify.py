# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun verify`` on tiny checkpoints; HF transformers has the figures."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from support import json_output, quantised
from support.quantised import Scheme
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from vllm_kunlun.cli.verify.inputs import windows_of

TOKENS, WINDOW = 256, 64
COMMAND = [sys.executable, "-c", "from vllm_kunlun.cli.main import app; app()"]


@pytest.fixture(scope="module")
def pair(checkpoint, tmp_path_factory):
    """A checkpoint with a tokenizer, the same in 4 bits, and that one dequantised."""
    source = checkpoint("qwen3")
    scheme = Scheme("compressed-tensors", group=32, symmetric=True)
    packed, plain = quantised.write(source, tmp_path_factory.mktemp("verify"), scheme)
    words = Tokenizer(models.WordLevel({chr(i): i for i in range(320)}, unk_token=chr(0)))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token=chr(0)).save_pretrained(source)
    return source, packed, plain


@torch.inference_mode()
def judged(folder, windows):
    """Log-probability of each token but a window's first, and the states behind each layer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found, states = [], None
    for window in windows:
        ids = torch.tensor([window])
        output = model(ids, output_hidden_states=True)
        states = output.hidden_states if states is None else states
        logprobs = output.logits[0, :-1].log_softmax(-1)
        found.append(logprobs.gather(1, ids[0, 1:, None])[:, 0])
    # The last of HF's states has passed the final norm: it is left out.
    return torch.cat(found), states[1:-1]


def test_figures_are_transformers(pair, tmp_path):
    source, packed, plain = pair
    report = tmp_path / "report.json"
    told = subprocess.run(
        [*COMMAND, "verify", "--quantised", packed, "--reference", source, "--layers",
         "--tokens", str(TOKENS), "--window", str(WINDOW), "--dtype", "float32",
         "--limit", "0", "--report", report],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert report.exists(), told.stderr
    result = json_output.read("verify-quantised", report.read_text())
    assert result["ok"] == (result["increase"] <= 0) == (told.returncode == 0)
    windows = windows_of(source, None, TOKENS, WINDOW)
    (right, states), (rounded, rounded_states) = (judged(f, windows) for f in (source, plain))
    assert result["tokens"] == len(right) == TOKENS - len(windows)
    assert result["reference_perplexity"] == pytest.approx(math.exp(-right.mean()), rel=1e-3)
    assert result["quantised_perplexity"] == pytest.approx(math.exp(-rounded.mean()), rel=1e-3)
    assert result["mean_difference"] == pytest.approx(
        float((right - rounded).abs().mean()), rel=1e-2
    )
    expected = [
        float((q - r).norm() / r.norm()) for r, q in zip(states, rounded_states, strict=True)
    ]
    assert [layer["after"] for layer in result["layers"]][:-1] == pytest.approx(expected, rel=1e-2)
    assert "perplexity" in told.stdout
