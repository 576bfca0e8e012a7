# SPDX-License-Identifier: Apache-2.0
"""What vLLM asks of a platform, answered for the Kunlun P800 and for its emulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.platforms.interface import DeviceCapability, Platform, PlatformEnum

from vllm_kunlun.platforms import configuration, device, envs, memory, wheels
from vllm_kunlun.platforms.checks import attention_backends, quantisation, requests
from vllm_kunlun.platforms.checks import dtype as dtypes
from vllm_kunlun.platforms.settings import compilation
from vllm_kunlun.platforms.vllm_compat import not_yet
from vllm_kunlun.platforms.vllm_compat.latent_prefill import NoPrefillBackend

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backends.registry import AttentionBackendEnum
    from vllm.v1.attention.selector import AttentionSelectorConfig

__all__ = ["KunlunPlatform"]

_ON_CARD = device.detect().is_card

CLASSES = "vllm_kunlun.platform_classes"
"""Entry-point group of the classes that other wheels give to vLLM by way of the platform."""


class KunlunPlatform(Platform):
    """The Kunlun P800 under vLLM.

    On a card the vendor's torch presents the device as ``cuda`` and rewrites ``torch.cuda``, so
    vLLM's GPU worker and its graph wrapper run unchanged. Without a card the device is emulated in
    host memory (torch device ``cpu``) by our own worker. Everything above the worker is the same.
    """

    _enum = PlatformEnum.OOT
    device_name: str = "cuda" if _ON_CARD else "cpu"
    device_type: str = "cuda" if _ON_CARD else "cpu"
    dispatch_key: str = "CUDA" if device.detect().kind == "xpu" else "CPU"
    ray_device_key: str = "GPU" if _ON_CARD else ""
    device_control_env_var: str = "XPU_VISIBLE_DEVICES"
    dist_backend: str = "nccl" if _ON_CARD else "gloo"
    simple_compile_backend: str = "eager"
    additional_env_vars: list[str] = envs.SHARED

    @property
    def supported_dtypes(self) -> list[torch.dtype]:
        """In vLLM's order of preference; a list of the caller's own."""
        return list(dtypes.SUPPORTED_DTYPES)

    @classmethod
    def import_kernels(cls) -> None:
        """vLLM's own kernels are built for another accelerator: there is nothing to import."""

    # -- the device -------------------------------------------------------------------------

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        return "Kunlun P800" if _ON_CARD else "Kunlun P800 (emulated)"

    @classmethod
    def get_device_capability(cls, device_id: int = 0) -> DeviceCapability | None:
        """None: features that vLLM keys on NVIDIA's compute capability do not apply here."""
        return None

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        """Memory of the device in bytes, which is not the host's.

        Raises:
            UnsupportedError: ``VLLM_KUNLUN_EMULATED_MEMORY_GIB`` is not a number of GiB.
        """
        return memory.total_bytes(device_id, on_card=_ON_CARD)

    @classmethod
    def get_current_memory_usage(cls, device: torch.types.Device | None = None) -> float:
        """Bytes now allocated on ``device``. Peak statistics are left alone."""
        return memory.used_bytes(device, on_card=_ON_CARD)

    @classmethod
    def get_device_uuid(cls, device_id: int = 0) -> str:
        return f"kunlun-{'xpu' if _ON_CARD else 'emulated'}-{device_id}"

    @classmethod
    def set_device(cls, device: torch.device) -> None:
        """Make a card the current device; host memory is no device to choose."""
        if _ON_CARD:
            torch.cuda.set_device(device)

    @classmethod
    def manual_seed_all(cls, seed: int) -> None:
        """Seed the generators of every card; vLLM has seeded the host's."""
        if _ON_CARD:
            torch.cuda.manual_seed_all(seed)

    @classmethod
    def empty_cache(cls) -> None:
        """Give a card's unused memory back; the emulated device holds none."""
        if _ON_CARD:
            torch.cuda.empty_cache()

    @classmethod
    def check_runner_kv_caches_multi_layer(cls) -> None:
        """Two layers may have one number: a drafter's are counted from 0, as the target's are."""

    @classmethod
    def check_if_supports_dtype(cls, dtype: torch.dtype) -> None:
        """Refuse what the card cannot compute in.

        Raises:
            UnsupportedError: for any dtype but float16, bfloat16 and float32.
        """
        dtypes.check(dtype)

    @classmethod
    def is_pin_memory_available(cls) -> bool:
        """Whether host memory can be pinned for copies to the device."""
        return _ON_CARD

    @classmethod
    def inference_mode(cls) -> Any:
        return torch.no_grad()

    # -- configuration ----------------------------------------------------------------------

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        """Fill in what the device needs and refuse what it cannot do.

        Raises:
            UnsupportedError: naming the option, what came and the alternative.
        """
        configuration.check_and_update(vllm_config, on_card=_ON_CARD)

    @classmethod
    def verify_quantization(cls, quant: str) -> None:
        """Refuse a quantisation whose arithmetic the card lacks.

        Raises:
            UnsupportedError: naming the formats that run.
        """
        not_yet.check_quantisation(quant)
        quantisation.check(quant)

    @classmethod
    def validate_environ(cls, hard_fail: bool) -> None:
        """vLLM's check of names (since 0.33), which takes ours for misspelt ones of its own.

        Args:
            hard_fail: raise instead of logging a warning.

        Raises:
            ValueError: a variable that begins with ``VLLM_`` is in neither table.
        """
        from vllm import envs as vllm_envs

        known = vllm_envs.environment_variables
        ours = {name: lambda: None for name in envs.TABLE.keys() - known.keys()}
        known.update(ours)
        try:
            super().validate_environ(hard_fail)
        finally:
            for name in ours:
                del known[name]

    @classmethod
    def validate_request(
        cls, prompt: Any = None, params: Any = None, processed_inputs: Any = None
    ) -> None:
        """Refuse a request that would stall the server (seen by clients as HTTP 400).

        Of vLLM's releases some name all three and some give the inputs and the parameters alone:
        the parameters are always the second.

        Raises:
            UnsupportedError: it asks for more samples than the server allows.
        """
        requests.validate(params)

    # -- what runs where --------------------------------------------------------------------

    @classmethod
    def get_attn_backend_cls(
        cls,
        selected_backend: AttentionBackendEnum | None,
        attn_selector_config: AttentionSelectorConfig,
        num_heads: int | None = None,
    ) -> str:
        """The class path of the attention backend for one layer.

        Raises:
            MissingWheelError: the wheel that holds the backend is not installed.
            UnsupportedError: the backend cannot do what the layer asks; the message says what can.
        """
        return attention_backends.select(selected_backend, attn_selector_config)

    @classmethod
    def get_mla_prefill_backend_cls(cls, mla_selector_config: Any) -> type[NoPrefillBackend]:
        """Asked by 0.33 for a kernel of prompts: the backend of the whole layer has its own."""
        return NoPrefillBackend

    @classmethod
    def get_compile_backend(cls) -> str:
        """The class path of the compiler under vLLM's own name for it."""
        return compilation.COMPILER

    @classmethod
    def get_punica_wrapper(cls) -> str:
        """The class path of what multiplies tokens with adapters.

        Raises:
            MissingWheelError: no installed wheel provides it, or several do.
        """
        entry = wheels.provider(
            CLASSES, "punica_wrapper", need="--enable-lora needs layers of this platform"
        )
        return entry.value.replace(":", ".")

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        return "vllm_kunlun.platforms.communicator.KunlunCommunicator"

    @classmethod
    def get_static_graph_wrapper_cls(cls) -> str:
        return "vllm.compilation.cuda_graph.CUDAGraphWrapper"

    @classmethod
    def support_static_graph_mode(cls) -> bool:
        """Graphs are captured on a card only."""
        return _ON_CARD

    @classmethod
    def opaque_attention_op(cls) -> bool:
        """Attention stays one custom op, so that torch.compile can split the graph at it."""
        return True

    @classmethod
    def support_hybrid_kv_cache(cls) -> bool:
        """Attention and recurrent layers may share one pool of blocks."""
        return True

    def is_sleep_mode_available(self) -> bool:
        """No: the sleep allocator is CUDA's virtual memory API, which the vendor lacks."""
        return False
