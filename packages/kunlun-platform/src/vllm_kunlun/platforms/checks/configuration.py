# SPDX-License-Identifier: Apache-2.0
"""vLLM's configuration, checked and completed for a Kunlun device."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from vllm.logger import init_logger

from vllm_kunlun.platforms import emulator, envs, families
from vllm_kunlun.platforms.card.limits import (
    MAX_DECODE_BATCH,
    MLA_BLOCK_SIZE,
    SUPPORTED_BLOCK_SIZES,
)
from vllm_kunlun.platforms.checks import attention_backends, checkpoint
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.torch25 import refusals

if TYPE_CHECKING:
    from vllm.config import CompilationConfig, VllmConfig

__all__ = ["check_and_update", "check_quantization"]

logger = init_logger("vllm.kunlun.configuration")

DEFAULT_BLOCK_SIZE = 64
"""Of the manual's start-up templates. Attention reads longer runs than from vLLM's 16."""

WORKER_ON_CARD = "vllm_kunlun.platforms.card.worker.KunlunCardWorker"
COMPILER = "vllm_kunlun.platforms.compiler.KunlunCompiler"

INDEXER_OP = "vllm::sparse_attn_indexer_vllm_kunlun"
"""The sparse indexer (kunlun-mla), which no graph may hold: it reads host metadata of the step."""

_NO_FP8 = {
    "fp8",
    "fbgemm_fp8",
    "ptpc_fp8",
    "fp_quant",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
    "petit_nvfp4",
}


def check_quantization(method: str) -> None:
    """Refuse a quantisation whose arithmetic the card lacks, unless a wheel converts it.

    Raises:
        UnsupportedError: for the fp8 and fp4 families, and for bitsandbytes.
    """
    if method == "bitsandbytes":
        raise UnsupportedError(
            "quantization='bitsandbytes' runs on kernels of a CUDA library, and the vendor's "
            "libraries have none for its formats. Use a checkpoint in int8 (compressed-tensors "
            "W8A8), AWQ or GPTQ, or serve the float checkpoint with --dtype float16."
        )
    if method in _NO_FP8 and not _is_converted(method):
        raise UnsupportedError(
            f"quantization={method!r} needs fp8 or fp4 arithmetic, which the P800 has not. "
            "Use a checkpoint in int8 (compressed-tensors W8A8), AWQ or GPTQ."
        )


def _is_converted(method: str) -> bool:
    """Our quantisation wheel has taken the method over from vLLM."""
    from vllm.model_executor.layers.quantization import get_quantization_config

    return str(get_quantization_config(method).__module__).startswith("vllm_kunlun.")


def check_and_update(config: VllmConfig, *, on_card: bool) -> None:
    """Refuse what the device cannot do, then fill in what was left open.

    Args:
        config: changed in place.
        on_card: False when the device is emulated in host memory.

    Raises:
        UnsupportedError: naming the option, what came, and the alternative.
    """
    _check_model(config)
    _check_lora(config)
    _check_cache(config)
    _check_scheduler(config)
    _check_parallel(config, on_card=on_card)
    _turn_off_compilation_that_does_not_fit(config.compilation_config)
    refusals.check(config.compilation_config)
    _update_compilation(config.compilation_config, on_card=on_card)
    if not on_card:
        _update_for_emulation(config)


def _check_model(config: VllmConfig) -> None:
    model = config.model_config
    if model is None:
        return
    if model.enable_sleep_mode:
        raise UnsupportedError(
            "--enable-sleep-mode needs CUDA's virtual memory API, which this device has not. "
            "Leave it out; to free the device, stop the server."
        )
    logger.info_once("%s", families.served_by(model.architecture), scope="local")
    if model.is_hybrid or model.is_attention_free:
        _check_linear_attention(model.architecture)
    if model.use_mla:
        # Named here, before minutes of loading; the layers look it up again.
        sparse = hasattr(model.hf_text_config, "index_topk")
        attention_backends.find("mla_sparse" if sparse else "mla")
    if (folder := Path(model.model)).is_dir():
        checkpoint.check_files(folder)
    if model.dtype == torch.bfloat16:
        logger.warning(
            "dtype bfloat16: the card is reported to keep bfloat16 weights twice and to multiply "
            "at half of float16's speed. Use --dtype float16 unless the model needs bfloat16's "
            "range."
        )
    # Cascade attention is a kernel of another backend; ours has no shared-prefix pass.
    model.disable_cascade_attn = True


def _check_linear_attention(architecture: str) -> None:
    family = families.family_for(architecture)
    if family is not None and family.classes[architecture] is not None:
        return
    wheel = None if family else families.wheel_for(architecture)
    raise UnsupportedError(
        f"{architecture} has layers of a state space or of linear attention that vLLM computes by "
        "triton kernels, and the vendor's libraries have functions for the gated delta rule of "
        "Qwen3-Next only. "
        + (
            f"Install its family's wheel: pip install {wheel}"
            if wheel
            else "No option turns the layers off: run the model on another platform, or write a "
            "family wheel with a model class of its own."
        )
    )


def _check_lora(config: VllmConfig) -> None:
    lora, model = config.lora_config, config.model_config
    if lora is None or model is None:
        return
    if model.is_moe:
        raise UnsupportedError(
            "--enable-lora with a mixture of experts: vLLM gives every expert layer adapters, and "
            "the vendor's libraries have no function for them. Merge the adapter into the "
            "checkpoint, and leave --enable-lora out."
        )
    if lora.lora_dtype != model.dtype:
        raise UnsupportedError(
            f"--lora-dtype {lora.lora_dtype} with a model in {model.dtype}: the vendor's functions "
            "take tokens and adapters of one dtype. Use --lora-dtype auto; adapters are converted."
        )


def _check_cache(config: VllmConfig) -> None:
    cache, model = config.cache_config, config.model_config
    if cache is None:
        return
    if cache.cache_dtype not in ("auto", "float16", "bfloat16"):
        raise UnsupportedError(
            f"--kv-cache-dtype {cache.cache_dtype}: the P800 has no fp8, and attention functions "
            "read the cache in the model's dtype. Use --kv-cache-dtype auto."
        )
    use_mla = model is not None and model.use_mla
    if model is not None and model.is_hybrid and not use_mla:
        _fit_hybrid_pages(config)
        return
    if cache.block_size is None:
        cache.block_size = MLA_BLOCK_SIZE if use_mla else DEFAULT_BLOCK_SIZE
    if use_mla and cache.block_size != MLA_BLOCK_SIZE:
        raise UnsupportedError(
            f"--block-size {cache.block_size}: the vendor's MLA functions read their cache in "
            f"pages of {MLA_BLOCK_SIZE} tokens. Use --block-size {MLA_BLOCK_SIZE}, or leave it out."
        )
    if cache.block_size not in SUPPORTED_BLOCK_SIZES:
        sizes = ", ".join(str(size) for size in SUPPORTED_BLOCK_SIZES)
        raise UnsupportedError(
            f"--block-size {cache.block_size} is not a page size of the vendor's attention "
            f"functions. Use one of {sizes}."
        )


def _fit_hybrid_pages(config: VllmConfig) -> None:
    """Round the block of a hybrid model up to whole pages of the attention functions.

    vLLM has made it as long as a recurrent state is large, a multiple of 16 tokens. The runner cuts
    it into the longest pages that fit, and attention reads long ones faster.
    """
    from vllm.utils.torch_utils import get_kv_cache_torch_dtype
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    cache, model = config.cache_config, config.model_config
    cache.block_size = -(-cache.block_size // DEFAULT_BLOCK_SIZE) * DEFAULT_BLOCK_SIZE
    # Attention and recurrent layers share one pool of blocks, so their pages are equally large.
    cache.mamba_page_size_padded = FullAttentionSpec(
        block_size=cache.block_size,
        num_kv_heads=model.get_num_kv_heads(config.parallel_config),
        head_size=model.get_head_size(),
        dtype=get_kv_cache_torch_dtype(cache.cache_dtype, model.dtype),
    ).page_size_bytes
    if cache.mamba_cache_mode == "align":
        cache.mamba_block_size = cache.block_size


def _check_scheduler(config: VllmConfig) -> None:
    scheduler = config.scheduler_config
    if scheduler.max_num_seqs > MAX_DECODE_BATCH:
        logger.warning(
            "--max-num-seqs %d is above what the decode attention function takes: using %d.",
            scheduler.max_num_seqs,
            MAX_DECODE_BATCH,
        )
        scheduler.max_num_seqs = MAX_DECODE_BATCH


def _check_parallel(config: VllmConfig, *, on_card: bool) -> None:
    parallel = config.parallel_config
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        raise UnsupportedError(
            "context parallelism needs log-sum-exp from the decode attention function, which the "
            "vendor's does not return. Use --tensor-parallel-size."
        )
    if parallel.enable_dbo:
        raise UnsupportedError(
            "--enable-dbo (dual batch overlap) is built on CUDA streams of DeepEP. Leave it out."
        )
    parallel.disable_custom_all_reduce = True
    if parallel.worker_cls == "auto":
        parallel.worker_cls = WORKER_ON_CARD if on_card else emulator.name_of("worker")


def _turn_off_compilation_that_does_not_fit(compilation: CompilationConfig) -> None:
    """Where this build of torch is not the one that the ledger's entries for Dynamo were made for.

    The model then runs as with ``--enforce-eager``: slower, and as right.
    """
    from vllm.config import CompilationMode

    left_out = patch_ledger.left_out()
    if left_out and compilation.mode != CompilationMode.NONE:
        logger.warning(
            "Compilation is turned off: this build of torch differs from the one that %s were "
            "made for. `vllm-kunlun doctor` says where.",
            ", ".join(left_out),
        )
        compilation.mode = CompilationMode.NONE


def _update_compilation(compilation: CompilationConfig, *, on_card: bool) -> None:
    """Graphs that run as they were traced: no inductor, no fusion pass, no captured attention.

    A card captures the pieces between attention ops; nothing is captured on an emulated device, so
    its graph stays whole unless ``splitting_ops`` asks for pieces.
    """
    from vllm.config import CompilationMode, CUDAGraphMode

    # vLLM asks the platform for its compiler only under a name that is not one of its own.
    own = compilation.mode in (None, CompilationMode.VLLM_COMPILE)
    compilation.backend = COMPILER if own else "eager"
    compilation.use_inductor_graph_partition = False
    compilation.custom_ops = [
        name for name in compilation.custom_ops if name not in ("none", "all")
    ]
    compilation.custom_ops.append("all")
    passes = compilation.pass_config
    for name in ("fuse_norm_quant", "fuse_act_quant", "fuse_attn_quant", "fuse_gemm_comms",
                 "fuse_allreduce_rms", "enable_qk_norm_rope_fusion", "enable_sp"):  # fmt: skip
        setattr(passes, name, False)
    mode = compilation.cudagraph_mode
    if compilation.splitting_ops is not None:
        # The manual writes vllm.op; vLLM compares with vllm::op, and would not split there.
        compilation.splitting_ops = [
            re.sub(r"^vllm\.", "vllm::", name) for name in compilation.splitting_ops
        ]
    elif not on_card:
        compilation.splitting_ops = []
    elif own:
        # vLLM's own list, made here because it takes no further name.
        compilation.splitting_ops = [
            *compilation._attention_ops,
            "vllm::unified_kv_cache_update",
            INDEXER_OP,
        ]
    if not on_card or mode is None or compilation.mode == CompilationMode.NONE:
        compilation.cudagraph_mode = CUDAGraphMode.NONE
        compilation.cudagraph_capture_sizes = []
        compilation.max_cudagraph_capture_size = 0
        # vLLM fills this in together with the capture sizes, and only on a device with graphs.
        compilation.compile_sizes = compilation.compile_sizes or []
    elif mode.has_full_cudagraphs():
        # Host-side lengths are arguments of the attention functions: a full graph would freeze
        # them at capture.
        compilation.cudagraph_mode = CUDAGraphMode.PIECEWISE


def _update_for_emulation(config: VllmConfig) -> None:
    if not envs.VLLM_KUNLUN_EMULATED_ASYNC_SCHEDULING:
        # The host is the device: no step is in flight that the next one could be made beside.
        config.scheduler_config.async_scheduling = False
    config.parallel_config.distributed_executor_backend = (
        config.parallel_config.distributed_executor_backend
        or ("mp" if config.parallel_config.world_size > 1 else "uni")
    )
    # A forked engine would inherit OpenMP threads that no longer exist.
    envs.set_default("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    envs.set_default("VLLM_DISABLE_SHARED_EXPERTS_STREAM", "1")
