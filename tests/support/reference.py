# SPDX-License-Identifier: Apache-2.0
"""HF transformers as the judge: greedy tokens and log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers


def judgement(logits: torch.Tensor, tokens: Sequence[int]) -> tuple[list[int], torch.Tensor]:
    """From logits ``[len(tokens), V]``: the most probable tokens, and the given ones' logarithm."""
    logprobs = logits.float().log_softmax(-1).gather(1, torch.tensor(tokens).unsqueeze(1))
    return logits.argmax(-1).tolist(), logprobs.squeeze(1)


class Reference:
    """A checkpoint, or a model that is made already, under HF's own eager implementation."""

    def __init__(
        self,
        checkpoint: Path | transformers.PreTrainedModel,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if isinstance(checkpoint, transformers.PreTrainedModel):
            self.model = checkpoint
            return
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=dtype, attn_implementation="eager"
        ).eval()

    @torch.inference_mode()
    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """``count`` greedy tokens after ``prompt``, end-of-sequence ignored."""
        output = self.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
        )
        return output[0, len(prompt) :].tolist()

    @torch.inference_mode()
    def judge(self, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """What greedy decoding would say at each place of ``tokens``, in one pass.

        Returns:
            The most probable token after ``prompt`` and each proper beginning of ``tokens`` (all
            equal to ``tokens`` exactly if these are the greedy ones), and the log-probability of
            each of ``tokens``, float32 ``[len(tokens)]``.
        """
        logits = self.model(torch.tensor([[*prompt, *tokens[:-1]]])).logits[0, len(prompt) - 1 :]
        return judgement(logits, tokens)
