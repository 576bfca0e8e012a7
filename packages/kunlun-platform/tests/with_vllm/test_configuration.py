# SPDX-License-Identifier: Apache-2.0
"""A whole configuration, through vLLM's own ``EngineArgs``: defaults, and what the user set."""

from __future__ import annotations

import os
from typing import Any

import pytest
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

from vllm_kunlun.platforms import configuration, envs
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.settings import compilation as compilation_settings
from vllm_kunlun.platforms.settings import engine


def test_defaults_of_an_emulated_device(build: Any) -> None:
    config = build()
    assert config.cache_config.block_size == 64
    assert config.model_config.disable_cascade_attn
    assert config.parallel_config.worker_cls == "vllm_kunlun.emulator.device.worker.KunlunWorker"
    assert config.parallel_config.distributed_executor_backend == "uni"
    assert config.parallel_config.disable_custom_all_reduce
    assert config.scheduler_config.async_scheduling is False
    compilation = config.compilation_config
    assert compilation.backend == compilation_settings.COMPILER
    assert compilation.splitting_ops == []
    assert compilation.mode == CompilationMode.VLLM_COMPILE
    assert compilation.cudagraph_mode == CUDAGraphMode.NONE
    assert compilation.cudagraph_capture_sizes == []
    assert compilation.compile_sizes == []
    assert compilation.custom_ops == ["all"]
    assert not compilation.use_inductor_graph_partition
    passes = compilation.pass_config
    assert not passes.fuse_norm_quant and not passes.fuse_act_quant
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert os.environ["VLLM_DISABLE_SHARED_EXPERTS_STREAM"] == "1"


def test_what_the_user_set_stays(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    config = build(
        block_size=64,
        worker_cls="somewhere.else.Worker",
        distributed_executor_backend="mp",
        kv_cache_dtype="auto",
        max_num_seqs=7,
    )
    assert config.cache_config.block_size == 64
    assert config.parallel_config.worker_cls == "somewhere.else.Worker"
    assert config.parallel_config.distributed_executor_backend == "mp"
    assert config.scheduler_config.max_num_seqs == 7
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "fork"
    assert envs.set_default("VLLM_WORKER_MULTIPROC_METHOD", "spawn") is False


def test_sleep_mode_that_got_past_vllm_is_refused(build: Any) -> None:
    config = build()
    config.model_config.enable_sleep_mode = True
    with pytest.raises(UnsupportedError, match=r"--enable-sleep-mode.*stop the server"):
        configuration.check_and_update(config, on_card=False)


@pytest.mark.parametrize(("dtype", "warned"), [("bfloat16", True), ("float16", False)])
def test_bfloat16_names_the_better_choice(
    build: Any, dtype: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(configuration.logger, "warning", lambda text, *_: said.append(text))
    build(dtype=dtype)
    assert any("--dtype float16" in text for text in said) == warned


def test_what_serves_the_architecture_is_said(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(
        configuration.logger, "info_once", lambda _, sentence, **__: said.append(sentence)
    )
    build()
    assert said == ["Qwen2ForCausalLM is of the family qwen (kunlun-models-qwen): vLLM's class."]


def test_a_card_gets_its_worker_and_pieces_to_capture(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration.not_yet, "check", lambda *_, **__: None)
    config = build()
    config.parallel_config.worker_cls = "auto"
    config.parallel_config.distributed_executor_backend = None
    config.scheduler_config.async_scheduling = True
    config.compilation_config.splitting_ops = None  # as the user left it
    config.compilation_config.cudagraph_mode = CUDAGraphMode.FULL
    configuration.check_and_update(config, on_card=True)
    assert config.parallel_config.worker_cls == engine.WORKER_ON_CARD
    assert config.parallel_config.distributed_executor_backend is None
    assert config.scheduler_config.async_scheduling is True
    assert set(CompilationConfig._attention_ops) <= set(config.compilation_config.splitting_ops)
    assert config.compilation_config.cudagraph_mode == CUDAGraphMode.PIECEWISE
