# SPDX-License-Identifier: Apache-2.0
"""Every use of :data:`support.matrix.USES`, on one model each: writes ``support/matrix.json``."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support import checkpoints, drafters, served_tokens
from support.engine import engine, greedy
from support.engine_state import drafts
from support.matrix import USES
from support.reference import Reference
from vllm import SamplingParams

from vllm_kunlun.platforms.errors import UnsupportedError

pytestmark = pytest.mark.matrix

PIECES = {"enable_chunked_prefill": True, "max_num_batched_tokens": 40, "max_num_seqs": 8}
Prompts = list[list[int]]


def _expected(folder: Path, prompts: Prompts, count: int = 8) -> Prompts:
    reference = Reference(folder)
    return [reference.greedy(prompt, count) for prompt in prompts]


def _agree(answers: Prompts, expected: Prompts) -> None:
    differing = sum(a != e for a, e in zip(answers, expected, strict=True))
    assert not differing, f"{differing} of {len(expected)} answers differ from HF's"


def _head(method: str, name: str, *paddings: bool):
    def tried(folder: Path, prompts: Prompts) -> None:
        config = copy.deepcopy(checkpoints.CONFIGURATIONS[name])
        config.num_hidden_layers = 4
        if getattr(config, "layer_types", None):
            config.layer_types = ["full_attention"] * 4
        target = drafters.weaken(checkpoints.write_configuration(config, folder / "target"))
        (folder / "head").mkdir()
        more = {"places": 3} if method == "medusa" else {}
        head = getattr(drafters, method)(target, folder / "head", **more)
        expected = _expected(target, prompts, 16)
        for unpadded in paddings:
            speculation = {"method": method, "model": str(head), "num_speculative_tokens": 3}
            speculation |= {"disable_padded_drafter_batch": unpadded}
            with engine(
                target, speculative_config=speculation, disable_log_stats=False, **PIECES
            ) as llm:
                _agree(greedy(llm, prompts, 16), expected)
                proposed, accepted = drafts(llm)
            assert proposed / 10 < accepted < proposed

    return tried


def _suffix(folder: Path, prompts: Prompts) -> None:
    """vLLM asks for a package of its own here, which the tests do not install."""
    target = checkpoints.write("qwen3", folder)
    speculation = {"method": "suffix", "num_speculative_tokens": 3}
    try:
        with engine(target, speculative_config=speculation):
            raise AssertionError("it started without vLLM's package")
    except ImportError as error:
        raise UnsupportedError(f"vLLM itself: {error}") from error


def _pooled(task: str):
    def tried(folder: Path, prompts: Prompts) -> None:
        source = checkpoints.write("qwen3", folder)
        model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32).eval()
        score = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))
        if "class" in task:
            tensors = load_file(source / "model.safetensors")
            tensors = {name: each for name, each in tensors.items() if "lm_head" not in name}
            save_file({**tensors, "score.weight": score}, source / "model.safetensors")
            file = source / "config.json"
            described = {"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 3}
            described["id2label"] = {str(n): str(n) for n in range(3)}
            file.write_text(json.dumps(json.loads(file.read_text()) | described))
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        with engine(source, runner="pooling") as llm:
            outputs = llm.encode(asked, pooling_task=task, use_tqdm=False)
        for prompt, output in zip(prompts, outputs, strict=True):
            with torch.inference_mode():
                states = model(torch.tensor([prompt])).last_hidden_state[0]
            if "class" in task:
                wanted = (states @ score.T).softmax(-1)
            else:
                wanted = torch.nn.functional.normalize(states, dim=-1)
            if not task.startswith("token"):
                wanted = wanted[-1]
            torch.testing.assert_close(output.outputs.data, wanted, rtol=1e-4, atol=2e-5)

    return tried


def _encoder(folder: Path, prompts: Prompts) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=checkpoints.VOCABULARY,
        hidden_size=96,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=3,
        initializer_range=0.15,
    )
    model = transformers.BertModel(config).eval()
    model.save_pretrained(folder)
    with engine(folder, runner="pooling") as llm:
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs = llm.encode(asked, pooling_task="embed", use_tqdm=False)
    for prompt, output in zip(prompts, outputs, strict=True):
        with torch.inference_mode():
            state = model(torch.tensor([prompt])).last_hidden_state[0, 0]
        wanted = torch.nn.functional.normalize(state, dim=0)
        torch.testing.assert_close(output.outputs.data, wanted, rtol=1e-4, atol=2e-5)


def _from_outside(llm: Any) -> int:
    name = "vllm:external_prefix_cache_hits"
    return next(metric.value for metric in llm.get_metrics() if metric.name == name)


def _over_a_folder(folder: Path, prompts: Prompts) -> None:
    source = checkpoints.write("qwen3", folder / "model")
    expected = _expected(source, prompts)
    shared = {"shared_storage_path": str(folder / "shared")}
    (folder / "shared").mkdir()
    for role, count in (("kv_producer", 1), ("kv_consumer", 8)):
        connector = {"kv_connector": "ExampleConnector", "kv_role": role}
        connector |= {"kv_connector_extra_config": shared}
        with engine(
            source, kv_transfer_config=connector, disable_log_stats=False, block_size=16
        ) as llm:
            _agree(greedy(llm, prompts, count), [each[:count] for each in expected])
            found = _from_outside(llm)
    assert found > 0


def _over_host_memory(folder: Path, prompts: Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    expected = _expected(source, prompts)
    connector = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 8 * 2**20},
    }
    a_block = 2 * 16 * 32 * 4 * 3
    with engine(
        source,
        kv_transfer_config=connector,
        disable_log_stats=False,
        block_size=16,
        kv_cache_memory_bytes=10 * a_block,
        max_num_seqs=2,
        max_model_len=96,
    ) as llm:
        for _ in range(2):
            _agree(greedy(llm, prompts, 8), expected)
        assert _from_outside(llm) > 0


def _another_connector(folder: Path, prompts: Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    connector = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
    with engine(source, kv_transfer_config=connector):
        pass


def _whisper(folder: Path, prompts: Prompts) -> None:
    small = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers",)}
    heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    config = transformers.WhisperConfig(
        vocab_size=checkpoints.VOCABULARY, d_model=64, pad_token_id=0, **small, **heads
    )
    config.architectures = ["WhisperForConditionalGeneration"]
    config.save_pretrained(folder)
    with engine(folder, max_model_len=64, load_format="dummy"):
        pass


def _prompt_embeddings(folder: Path, prompts: Prompts) -> None:
    source = checkpoints.write("qwen3", folder)
    reference = Reference(source)
    table = reference.model.get_input_embeddings().weight.detach()
    asked = [{"prompt_embeds": table[torch.tensor(prompt)]} for prompt in prompts]
    asked[1] = {"prompt_token_ids": prompts[1]}
    parameters = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False)
    with engine(source, enable_prompt_embeds=True) as llm:
        outputs = llm.generate(asked, parameters, use_tqdm=False)
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    _agree(answers, [reference.greedy(prompt, 8) for prompt in prompts])


def _served(*options: str):
    def tried(folder: Path, prompts: Prompts) -> None:
        source = checkpoints.write("qwen3-moe", folder)
        expected = _expected(source, prompts)
        with served_tokens.serving(
            source, folder / "log", "--enforce-eager", "--data-parallel-size", "2", *options
        ) as running:
            _agree(served_tokens.greedy(running, prompts, 8), expected)
            _agree(served_tokens.greedy(running, prompts[3:4], 8), expected[3:4])

    return tried


def _balancing(folder: Path, prompts: Prompts) -> None:
    source = checkpoints.write("qwen3-moe", folder)
    with engine(source, tensor_parallel_size=2, enable_expert_parallel=True, enable_eplb=True):
        pass


_TRIED = {
    "EAGLE": _head("eagle", "llama", False, True),
    "EAGLE-3": _head("eagle3", "qwen3", False, True),
    "Medusa": _head("medusa", "qwen3", False),
    "suffix decoding": _suffix,
    "embeddings": _pooled("embed"),
    "token embeddings": _pooled("token_embed"),
    "classification": _pooled("classify"),
    "rewards": _pooled("token_classify"),
    "encoders": _encoder,
    "folder connector": _over_a_folder,
    "host-memory connector": _over_host_memory,
    "other connectors": _another_connector,
    "encoder-decoders": _whisper,
    "prompt embeddings": _prompt_embeddings,
    "data parallelism": _served(),
    "data and expert parallelism": _served("--enable-expert-parallel"),
    "expert load balancing": _balancing,
}


@pytest.mark.parametrize("use", USES)
def test_use(use, prompts, matrix, tmp_path):
    with matrix.cell(use):
        _TRIED[use](tmp_path, prompts)
