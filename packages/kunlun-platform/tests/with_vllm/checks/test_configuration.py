# SPDX-License-Identifier: Apache-2.0
"""What the platform refuses and fills in, through vLLM's own ``EngineArgs``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers import quantization
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.worker import gpu_worker

from vllm_kunlun.platforms import envs, wheels
from vllm_kunlun.platforms.checks import configuration
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.ledger import patch_ledger

INDEXER_OP = "vllm::sparse_attn_indexer_vllm_kunlun"

_DENSE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "torch_dtype": "float16",
}
_LATENT = {
    **_DENSE,
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": None,
}

# 4 heads of states 32 x 32 and the convolution's: 9.5 KiB in float16, as 76 tokens of attention.
_HYBRID = {
    **_DENSE,
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "head_dim": 32,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "num_experts": 4,
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_WORKER_MULTIPROC_METHOD", "VLLM_DISABLE_SHARED_EXPERTS_STREAM"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores what the platform sets
        monkeypatch.delenv(name)


@pytest.fixture
def build(tmp_path: Path) -> Any:
    """``build(option=...)``: the engine configuration of a small model with these options."""

    def make(model: dict[str, Any] = _DENSE, **options: Any) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(model))
        arguments = {"model": str(tmp_path), "skip_tokenizer_init": True, **options}
        return EngineArgs(**arguments).create_engine_config()

    return make


def refusal(build: Any, *args: Any, **options: Any) -> str:
    """The message under which these options are refused."""
    # vLLM's own validation may wrap the error; the sentence has to reach the user all the same.
    with pytest.raises(ValueError) as caught:
        build(*args, **options)
    return str(caught.value)


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        ({"enable_sleep_mode": True}, ["Sleep mode is not supported"]),  # vLLM asks the platform
        ({"kv_cache_dtype": "fp8"}, ["--kv-cache-dtype fp8", "--kv-cache-dtype auto"]),
        ({"kv_cache_dtype": "fp8_e5m2"}, ["--kv-cache-dtype fp8_e5m2"]),
        ({"block_size": 8}, ["--block-size 8", "16, 32, 64, 128"]),
        ({"block_size": 256}, ["--block-size 256", "16, 32, 64, 128"]),
        ({"quantization": "fp8"}, ["quantization='fp8'", "int8", "AWQ"]),
        (
            {"tensor_parallel_size": 2, "decode_context_parallel_size": 2},
            ["context parallelism", "--tensor-parallel-size"],
        ),
        ({"enable_dbo": True}, ["--enable-dbo", "Leave it out"]),
        (
            {"enable_lora": True, "lora_dtype": "bfloat16"},
            ["--lora-dtype torch.bfloat16", "torch.float16", "--lora-dtype auto"],
        ),
    ],
    ids=lambda item: "-".join(map(str, item)) if isinstance(item, dict) else "",
)
def test_refused(build: Any, options: dict[str, Any], sentences: list[str]) -> None:
    message = refusal(build, **options)
    for sentence in sentences:
        assert sentence in message


def test_sleep_mode_that_got_past_vllm_is_refused(build: Any) -> None:
    config = build()
    config.model_config.enable_sleep_mode = True
    with pytest.raises(UnsupportedError, match=r"--enable-sleep-mode.*stop the server"):
        configuration.check_and_update(config, on_card=False)


def test_a_latent_cache_in_other_pages_is_refused(build: Any) -> None:
    message = refusal(build, _LATENT, block_size=16)
    assert "--block-size 16" in message and "--block-size 64" in message


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("MambaForCausalLM", {"model_type": "mamba", "state_size": 8, "expand": 2}),
        ("BambaForCausalLM", {"model_type": "bamba", "attn_layer_indices": [1]}),
    ],
)
def test_layers_of_a_state_space_are_refused(
    build: Any, architecture: str, more: dict[str, Any]
) -> None:
    message = refusal(build, {**_DENSE, "architectures": [architecture], **more})
    assert f"{architecture} has layers of a state space" in message


def test_adapters_on_experts_are_refused(build: Any) -> None:
    experts = {
        **_DENSE,
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "num_experts": 4,
    }
    message = refusal(build, experts, enable_lora=True)
    assert "--enable-lora with a mixture of experts" in message
    assert "Merge the adapter" in message
    assert build(experts).lora_config is None


@pytest.mark.parametrize("dtype", ["auto", "float16"])
def test_adapters_in_the_models_dtype_are_allowed(build: Any, dtype: str) -> None:
    assert build(enable_lora=True, lora_dtype=dtype).lora_config.lora_dtype == torch.float16


@pytest.mark.parametrize("method", [*sorted(configuration._NO_FP8), "bitsandbytes"])
def test_quantisation_without_arithmetic_on_the_card(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the wheel that converts some of them as they are loaded."""
    monkeypatch.setattr(quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {})
    with pytest.raises(UnsupportedError, match=f"quantization='{method}'"):
        configuration.check_quantization(method)


def test_a_method_that_a_wheel_converts_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = type("Config", (), {"__module__": "vllm_kunlun.quantization.somewhere"})
    monkeypatch.setattr(quantization, "_CUSTOMIZED_METHOD_TO_QUANT_CONFIG", {"fp8": ours})
    configuration.check_quantization("fp8")
    with pytest.raises(UnsupportedError):
        configuration.check_quantization("mxfp4")


@pytest.mark.parametrize(("dtype", "warned"), [("bfloat16", True), ("float16", False)])
def test_bfloat16_names_the_better_choice(
    build: Any, dtype: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(configuration.logger, "warning", lambda text, *_: said.append(text))
    build(dtype=dtype)
    assert any("--dtype float16" in text for text in said) == warned


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors", "gguf"])
def test_quantisation_that_is_allowed(method: str) -> None:
    configuration.check_quantization(method)


# ------------------------------------------------------------------------------- defaults


def test_defaults_of_an_emulated_device(build: Any) -> None:
    config = build()
    assert config.cache_config.block_size == 64
    assert config.model_config.disable_cascade_attn
    assert config.parallel_config.worker_cls == "vllm_kunlun.emulator.device.worker.KunlunWorker"
    assert config.parallel_config.distributed_executor_backend == "uni"
    assert config.parallel_config.disable_custom_all_reduce
    assert config.scheduler_config.async_scheduling is False
    compilation = config.compilation_config
    assert compilation.backend == configuration.COMPILER
    assert compilation.splitting_ops == []
    assert compilation.mode == CompilationMode.VLLM_COMPILE
    assert compilation.cudagraph_mode == CUDAGraphMode.NONE
    assert compilation.cudagraph_capture_sizes == []
    assert compilation.compile_sizes == []
    assert compilation.custom_ops == ["all"]
    assert not compilation.use_inductor_graph_partition
    passes = compilation.pass_config
    assert not passes.fuse_norm_quant and not passes.fuse_act_quant and not passes.enable_sp
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_eager_is_honoured(build: Any) -> None:
    assert build(enforce_eager=True).compilation_config.mode == CompilationMode.NONE


def test_a_latent_cache_gets_pages_of_64(build: Any) -> None:
    assert build(_LATENT).cache_config.block_size == configuration.MLA_BLOCK_SIZE == 64


@pytest.mark.parametrize(("asked", "given"), [(None, 128), (64, 128), (192, 192), (200, 256)])
def test_a_hybrid_models_blocks_are_whole_pages(build: Any, asked: Any, given: int) -> None:
    """As long as a recurrent state is large, and a multiple of a page of attention."""
    cache = build(_HYBRID, block_size=asked).cache_config
    assert cache.block_size == given
    token_bytes = 2 * 32 * 2  # a key and a value of one head in float16
    assert cache.mamba_page_size_padded == given * token_bytes
    state_bytes = 2 * (4 * 32 * 32 + 3 * (2 * 64 + 128))
    assert state_bytes <= cache.mamba_page_size_padded


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


def test_ranks_run_in_processes_of_their_own(build: Any) -> None:
    config = build(tensor_parallel_size=2)
    assert config.parallel_config.distributed_executor_backend == "mp"


def test_more_requests_than_the_decode_function_takes(build: Any) -> None:
    config = build(max_num_seqs=2048, max_num_batched_tokens=4096)
    assert config.scheduler_config.max_num_seqs == configuration.MAX_DECODE_BATCH == 1023


@pytest.mark.parametrize("asked", ["none", "all", "+rms_norm"])
def test_our_layers_are_on_whatever_was_asked(build: Any, asked: str) -> None:
    names = build(compilation_config={"custom_ops": [asked]}).compilation_config.custom_ops
    assert names.count("all") == 1 and "none" not in names
    assert ("+rms_norm" in names) == (asked == "+rms_norm")


def test_compilation_that_was_asked_for_is_kept_and_uses_no_code_generator(build: Any) -> None:
    config = build(compilation_config={"mode": 3, "backend": "inductor"})
    assert config.compilation_config.mode == CompilationMode.VLLM_COMPILE
    assert config.compilation_config.backend == configuration.COMPILER


def test_a_graph_of_torch_alone_has_a_backend_of_torch(build: Any) -> None:
    config = build(compilation_config={"mode": 2})
    assert config.compilation_config.mode == CompilationMode.DYNAMO_TRACE_ONCE
    assert config.compilation_config.backend == "eager"


def test_pieces_that_were_asked_for_are_kept(build: Any) -> None:
    pieces = ["vllm::unified_attention_with_output"]
    config = build(compilation_config={"splitting_ops": pieces})
    assert config.compilation_config.splitting_ops == pieces


def test_the_manuals_names_of_pieces_are_read(build: Any) -> None:
    names = ["vllm.unified_attention", "vllm.sparse_attn_indexer_vllm_kunlun"]
    config = build(compilation_config={"splitting_ops": names})
    assert config.compilation_config.splitting_ops == [
        "vllm::unified_attention",
        INDEXER_OP,
    ]


@pytest.mark.parametrize(
    ("model", "kind"),
    [(_LATENT, "mla"), ({**_LATENT, "index_topk": 64}, "mla_sparse")],
    ids=["mla", "mla_sparse"],
)
def test_latent_attention_without_its_wheel_names_it(
    build: Any, model: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "entry_points", lambda **_: [])
    with pytest.raises(Exception, match=f"'{kind}'.*pip install kunlun-mla"):
        build(model)


# -------------------------------------------------------------------------------- a card


def on_card(config: Any) -> Any:
    """The same configuration as it comes out where there is a card."""
    config.parallel_config.worker_cls = "auto"
    configuration.check_and_update(config, on_card=True)
    return config


def test_a_card_is_driven_by_vllms_worker(build: Any) -> None:
    name = on_card(build()).parallel_config.worker_cls
    assert issubclass(resolve_obj_by_qualname(name), gpu_worker.Worker)


def test_a_card_splits_its_graphs_at_vllms_attention_and_at_the_indexer(build: Any) -> None:
    config = build()
    config.compilation_config.splitting_ops = None  # as the user left it
    names = on_card(config).compilation_config.splitting_ops
    assert {*CompilationConfig._attention_ops, INDEXER_OP} <= set(names)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (CUDAGraphMode.FULL, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.FULL_AND_PIECEWISE, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.FULL_DECODE_ONLY, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.PIECEWISE, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.NONE, CUDAGraphMode.NONE),
        (None, CUDAGraphMode.NONE),
    ],
    ids=str,
)
def test_graphs_on_a_card_never_hold_attention(build: Any, asked: Any, given: Any) -> None:
    config = build()
    config.compilation_config.cudagraph_mode = asked
    config.compilation_config.cudagraph_capture_sizes = [1, 2, 4]
    on_card(config)
    assert config.compilation_config.cudagraph_mode == given
    if given == CUDAGraphMode.PIECEWISE:
        assert config.compilation_config.cudagraph_capture_sizes == [1, 2, 4]


@pytest.mark.parametrize("on_card", [True, False])
def test_compilation_is_off_where_an_entry_for_it_is_left_out(monkeypatch, on_card):
    monkeypatch.setattr(patch_ledger, "left_out", lambda: {"one": "changed", "two": "changed"})
    compilation = CompilationConfig(
        mode=CompilationMode.VLLM_COMPILE, cudagraph_mode=CUDAGraphMode.PIECEWISE
    )
    configuration._turn_off_compilation_that_does_not_fit(compilation)
    configuration._update_compilation(compilation, on_card=on_card)
    assert compilation.mode == CompilationMode.NONE
    assert compilation.cudagraph_mode == CUDAGraphMode.NONE
    assert compilation.cudagraph_capture_sizes == []
