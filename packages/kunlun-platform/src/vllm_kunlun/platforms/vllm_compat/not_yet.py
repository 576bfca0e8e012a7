# SPDX-License-Identifier: Apache-2.0
"""What runs with earlier releases of vLLM and is not written for 0.33 yet, refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig

__all__ = ["check", "check_quantisation", "reload_weights"]

_DRAFTS = frozenset({"ngram", "mtp", "eagle", "eagle3", "draft_model"})
"""vLLM's names of the ways to draft that run with 0.33."""

_QUANTISED = frozenset(
    {"auto_gptq", "fp8", "gpt_oss_mxfp4", "gptq", "gptq_marlin", "inc", "moe_wna16", "mxfp4"}
)
"""vLLM's names of the formats that run with earlier releases alone."""


def check(config: VllmConfig, *, on_card: bool) -> None:
    """Refuse, with vLLM 0.33, what would fail later or run on vLLM's own kernels.

    Raises:
        UnsupportedError: naming the first such thing and the releases that run it.
    """
    if not version.installed_is_from("0.33"):
        return
    if getattr(config, "use_v2_model_runner", False):
        raise UnsupportedError(
            "VLLM_USE_V2_MODEL_RUNNER (or an option that needs it): the second model runner is "
            "built on triton kernels. Unset it, and leave the option out."
        )
    if found := next(_found(config, on_card=on_card), None):
        raise _refusal(found)


def check_quantisation(method: str) -> None:
    """Refuse, with vLLM 0.33, a quantised checkpoint of a format in :data:`_QUANTISED`.

    Args:
        method: vLLM's name of it.

    Raises:
        UnsupportedError: naming it and the releases that run it.
    """
    if version.installed_is_from("0.33") and method in _QUANTISED:
        raise _refusal(f"quantization={method!r}")


def reload_weights(_runner: Any, *_args: Any, **_options: Any) -> NoReturn:
    """Stands for 0.33's ``GPUModelRunner.reload_weights``, which replaces converted parameters.

    Raises:
        UnsupportedError: always.
    """
    raise _refusal("reload_weights")


def _refusal(found: str) -> UnsupportedError:
    return UnsupportedError(
        f"{found} is not written for vLLM {version.installed_vllm()} yet. Install "
        f"'vllm{version.UNTIL_0_16}', which runs it."
    )


def _found(config: VllmConfig, *, on_card: bool) -> Iterator[str]:
    if on_card:
        yield "the worker of a card"
    model = config.model_config
    if model is not None and model.quantization is not None and model.is_moe:
        yield f"a quantised mixture of experts ({model.architecture})"
    if model is not None and _has_unequal_heads(model):
        yield f"attention with values of another width than keys ({model.architecture})"
    drafts = config.speculative_config
    if drafts is not None and drafts.method not in _DRAFTS:
        yield f"--speculative-config with {drafts.method}"
    if config.cache_config.kv_offloading_size is not None:
        yield "--kv-offloading-size"
    if drafts is not None and model is not None and model.is_hybrid:
        yield f"--speculative-config with the linear attention of {model.architecture}"
    transfer = config.kv_transfer_config
    if transfer is not None and transfer.kv_connector:
        yield f"--kv-transfer-config with {transfer.kv_connector}"
    parallel = config.parallel_config
    if parallel.distributed_executor_backend == "ray":
        yield "--distributed-executor-backend ray"
    if parallel.data_parallel_size > 1 or parallel.enable_expert_parallel:
        yield "a server of data-parallel or expert-parallel ranks"


def _has_unequal_heads(model: ModelConfig) -> bool:
    """Whether a layer of ``model`` takes vLLM's triton backend for such heads past the platform.

    Latent attention has values of another width as well, and a backend of ours.
    """
    text = model.hf_text_config
    key = getattr(text, "head_dim", None)
    values = {getattr(text, name, None) for name in ("v_head_dim", "v_channels")} - {None}
    return bool(not model.use_mla and key and values - {key})
