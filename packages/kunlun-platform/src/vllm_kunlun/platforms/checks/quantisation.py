# SPDX-License-Identifier: Apache-2.0
"""Methods of quantisation that nothing on this device computes, by vLLM's names."""

from __future__ import annotations

from vllm_kunlun.platforms.errors import MissingWheelError, UnsupportedError

__all__ = ["CONVERTED", "OTHERS", "WITHOUT_ARITHMETIC", "check"]

WITHOUT_ARITHMETIC = {
    "fp8",
    "deepseek_v4_fp8",
    "fbgemm_fp8",
    "fp8_per_block",
    "fp8_per_channel",
    "fp8_per_tensor",
    "fp_quant",
    "gpt_oss_mxfp4",
    "modelopt",
    "modelopt_fp4",
    "modelopt_mixed",
    "modelopt_mxfp8",
    "mxfp4",
    "mxfp8",
    "nvfp4_per_token",
    "petit_nvfp4",
    "ptpc_fp8",
}
"""What multiplies in fp8 or fp4."""

CONVERTED = {
    "auto_awq",
    "auto_gptq",
    "awq",
    "awq_marlin",
    "compressed-tensors",
    "gptq",
    "gptq_marlin",
    "inc",
    "moe_wna16",
}
"""What kunlun-quant computes; and of :data:`WITHOUT_ARITHMETIC` it converts some."""

_INTEGERS = "a checkpoint in int8 (compressed-tensors W8A8), AWQ or GPTQ"
_ANOTHER = f"Use {_INTEGERS}."
_LEAVE_OUT = "Leave --quantization out: AWQ and GPTQ checkpoints run by their own names."
_QUANTISED_BEFORE = (
    "Leave --quantization out, or use a checkpoint in int8 (compressed-tensors W8A8)."
)

OTHERS = {
    "bitsandbytes": (
        "runs on kernels of a CUDA library, and the vendor's libraries have none for its formats",
        f"Use {_INTEGERS}, or serve the float checkpoint with --dtype float16.",
    ),
    "gguf": (
        "is unpacked by CUDA kernels in each step, and the vendor's libraries have none for it",
        f"Use the safetensors checkpoint that the file was made from, or {_INTEGERS}.",
    ),
    "torchao": (
        "stores tensors of torchao's own classes, which have no arithmetic on this device",
        _ANOTHER,
    ),
    "quark": (
        "names AMD's formats, which have no arithmetic on this device",
        "Export with Quark's AWQ or GPTQ format, or quantise with llm-compressor to int8 (W8A8).",
    ),
    "experts_int8": (
        "would quantise experts while loading, for a triton kernel that this device lacks",
        _QUANTISED_BEFORE,
    ),
    "online": (
        "would quantise while loading, mostly to fp8 or fp4, which have no arithmetic here",
        _QUANTISED_BEFORE,
    ),
    "int8_per_channel_weight_only": (
        "would quantise weights while loading, for kernels of a CUDA library",
        _QUANTISED_BEFORE,
    ),
    "humming": ("runs on kernels that are compiled for NVIDIA's GPUs at hand", _LEAVE_OUT),
    "bitblas": ("needs a CUDA compiler of its own, BitBLAS", _ANOTHER),
    "gptq_bitblas": ("needs a CUDA compiler of its own, BitBLAS", _LEAVE_OUT),
    "gptq_marlin_24": ("needs sparse CUDA kernels, for weights of which half are zero", _ANOTHER),
    "ipex": ("runs on Intel's libraries", _LEAVE_OUT),
    "cpu_awq": ("runs on vLLM's kernels for CPUs", _LEAVE_OUT),
}
"""What else vLLM names: why it does not run, and what to do."""


def check(method: str) -> None:
    """Refuse a method that nothing here computes. One that another package registered is its own.

    Raises:
        UnsupportedError: for the fp8 and fp4 families, unless a wheel converts them, and for
            :data:`OTHERS`.
        MissingWheelError: for :data:`CONVERTED`, if kunlun-quant is not installed.
    """
    if method in OTHERS:
        why, instead = OTHERS[method]
        raise UnsupportedError(f"quantization={method!r} {why}. {instead}")
    if method in WITHOUT_ARITHMETIC and not _is_converted(method):
        raise UnsupportedError(
            f"quantization={method!r} needs fp8 or fp4 arithmetic, which the P800 lacks. {_ANOTHER}"
        )
    if method in CONVERTED and not _is_converted(method):
        raise MissingWheelError(
            f"quantization={method!r} is computed by a wheel that is not installed: pip install "
            "kunlun-quant"
        )


def _is_converted(method: str) -> bool:
    """Our quantisation wheel has taken the method over from vLLM."""
    from vllm.model_executor.layers.quantization import get_quantization_config

    return str(get_quantization_config(method).__module__).startswith("vllm_kunlun.")
