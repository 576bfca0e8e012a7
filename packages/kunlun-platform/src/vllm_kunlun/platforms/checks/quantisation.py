# SPDX-License-Identifier: Apache-2.0
"""Methods of quantisation whose arithmetic the card lacks."""

from __future__ import annotations

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["WITHOUT_ARITHMETIC", "check"]

WITHOUT_ARITHMETIC = {
    "fp8",
    "fbgemm_fp8",
    "ptpc_fp8",
    "fp_quant",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
    "petit_nvfp4",
}
"""vLLM's names of what multiplies in fp8 or fp4."""


def check(method: str) -> None:
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
    if method in WITHOUT_ARITHMETIC and not _is_converted(method):
        raise UnsupportedError(
            f"quantization={method!r} needs fp8 or fp4 arithmetic, which the P800 lacks. "
            "Use a checkpoint in int8 (compressed-tensors W8A8), AWQ or GPTQ."
        )


def _is_converted(method: str) -> bool:
    """Our quantisation wheel has taken the method over from vLLM."""
    from vllm.model_executor.layers.quantization import get_quantization_config

    return str(get_quantization_config(method).__module__).startswith("vllm_kunlun.")
