# SPDX-License-Identifier: Apache-2.0
"""Ways to start one engine, and what it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from support import checkpoints
from support.engine import engine, greedy
from support.reference import Reference
from support.tried import judged
from vllm import SamplingParams

from vllm_kunlun.ops.contract.limits import SUPPORTED_BLOCK_SIZES

__all__ = ["TRIED"]


def _whisper(folder: Path, prompts: judged.Prompts) -> None:
    small = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers",)}
    heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    config = transformers.WhisperConfig(
        vocab_size=checkpoints.VOCABULARY, d_model=64, pad_token_id=0, **small, **heads
    )
    config.architectures = ["WhisperForConditionalGeneration"]
    config.save_pretrained(folder)
    with engine(folder, max_model_len=64, load_format="dummy"):
        pass


def _prompt_embeddings(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    reference = Reference(source)
    table = reference.model.get_input_embeddings().weight.detach()
    asked = [{"prompt_embeds": table[torch.tensor(prompt)]} for prompt in prompts]
    asked[1] = {"prompt_token_ids": prompts[1]}
    parameters = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False)
    with engine(source, enable_prompt_embeds=True) as llm:
        outputs = llm.generate(asked, parameters, use_tqdm=False)
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    judged.agree(answers, [reference.greedy(prompt, 8) for prompt in prompts])


def _executors(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    expected = judged.expected(source, prompts)
    for executor in ("uni", "mp"):
        with engine(source, distributed_executor_backend=executor) as llm:
            judged.agree(greedy(llm, prompts, 8), expected)


def _block_sizes(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    expected = judged.expected(source, prompts)
    for size in SUPPORTED_BLOCK_SIZES:
        with engine(source, block_size=size) as llm:
            judged.agree(greedy(llm, prompts, 8), expected)


def _another_block_size(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    with engine(source, block_size=48):
        pass


def _beyond_the_table(folder: Path, prompts: judged.Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    length = transformers.AutoConfig.from_pretrained(source).max_position_embeddings
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
        with engine(source, max_model_len=length + 1):
            pass


TRIED = {
    "encoder-decoders": _whisper,
    "prompt embeddings": _prompt_embeddings,
    "executors": _executors,
    "block sizes": _block_sizes,
    "other block sizes": _another_block_size,
    "positions beyond the table": _beyond_the_table,
}
