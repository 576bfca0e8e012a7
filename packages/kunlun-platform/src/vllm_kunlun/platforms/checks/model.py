# SPDX-License-Identifier: Apache-2.0
"""Models that the device cannot run, or not without a wheel that is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vllm_kunlun.platforms import families, wheels
from vllm_kunlun.platforms.checks import attention_backends, checkpoint, tokenizer
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat import inputs

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["check"]


def check(config: VllmConfig) -> None:
    """Refuse a model by its layers, its wheel or its files, before minutes of loading.

    Raises:
        MissingWheelError: it has latent attention, and no installed wheel computes that.
        UnsupportedError: sleep mode; an encoder with a decoder; layers without a function of the
            vendor's; pictures that attend in both directions; a damaged file.
    """
    model = config.model_config
    if model is None:
        return
    if model.enable_sleep_mode:
        raise UnsupportedError(
            "--enable-sleep-mode needs CUDA's virtual memory API, which this device lacks. "
            "Leave it out; to free the device, stop the server."
        )
    if model.is_encoder_decoder:
        raise UnsupportedError(
            f"{model.architecture} is an encoder with a decoder, whose cross attention has no "
            "function of the vendor's. Decoders and encoders by themselves run; run this model on "
            "another platform."
        )
    if model.is_hybrid or model.is_attention_free:
        _check_linear_attention(model.architecture)
    if model.use_mla:
        sparse = hasattr(model.hf_text_config, "index_topk")
        attention_backends.find("mla_sparse" if sparse else "mla")
    if model.is_mm_prefix_lm and inputs.takes_more_than_text(model):
        # Until 0.16 the language model inside has a configuration that no longer tells.
        raise attention_backends.prefix_lm(model.architecture)
    folder = Path(model.model)
    if folder.is_dir() and config.load_config.load_format != "dummy":
        checkpoint.check_files(folder)
    drafts = config.speculative_config
    # 0.33 makes a configuration of a draft model's, which reads what the target's has taken apart.
    is_draft = drafts is not None and model is drafts.draft_model_config
    if not (is_draft or model.skip_tokenizer_init) and Path(model.tokenizer).is_dir():
        tokenizer.check_tokenizer(Path(model.tokenizer))


def _check_linear_attention(architecture: str) -> None:
    family = families.family_for(architecture)
    if family is not None and family.classes[architecture] is not None:
        return
    wheel = None if family else wheels.for_architecture(architecture)
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
