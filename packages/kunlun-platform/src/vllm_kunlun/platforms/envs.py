# SPDX-License-Identifier: Apache-2.0
"""Every environment variable that matters here: one typed table, and the only reader of them.

``envs.NAME`` gives the parsed value at the time of asking. The table is also what
``vllm-kunlun env`` and the documentation print.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = [
    "SHARED",
    "TABLE",
    "EnvVar",
    "card_values",
    "describe",
    "put",
    "set_default",
    "set_within",
    "shared",
    "unread",
    "with_values",
]

Reader = Literal["vllm-kunlun", "vendor runtime", "vLLM", "nobody"]
"""Whose code looks at a variable; ``nobody``: an older plugin's, which now has no effect."""

Kind = Literal["bool", "int", "float", "str"]

_TRUE, _FALSE = ("1", "true"), ("0", "false", "")

_PREFIXES = ("VLLM_KUNLUN_", "KUNLUN_", "XPU_", "XPUAPI_", "XPURT_", "XMLIR_", "XFT_", "BKCL_")


class EnvVar(BaseModel):
    """One variable: its type, its default, what it means and who reads it."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    default: bool | int | float | str | None
    meaning: str
    reader: Reader
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    on_card: str | None = None
    """What registration sets it to on a card, where the user did not: only what the vendor advises
    for every model, and what leaves the arithmetic of a model's layers as it is."""

    def parse(self, text: str) -> bool | int | float | str:
        """The value that ``text`` stands for.

        Raises:
            UnsupportedError: ``text`` is not of this variable's kind.
        """
        try:
            value = self._convert(text)
        except ValueError:
            raise self._refusal(text) from None
        if self.choices and value not in self.choices:
            raise self._refusal(text)
        if self.minimum is not None and not self.minimum <= float(value) < math.inf:
            raise self._refusal(text)
        return value

    def _convert(self, text: str) -> bool | int | float | str:
        if self.kind == "bool":
            if (lowered := text.strip().lower()) in _TRUE:
                return True
            if lowered in _FALSE:
                return False
            raise ValueError(text)
        if self.kind == "int":
            return int(text)
        if self.kind == "float":
            return float(text)
        return text

    def _refusal(self, text: str) -> UnsupportedError:
        allowed = (
            " or ".join(self.choices)
            or {"bool": "0 or 1", "int": "a whole number", "float": "a number", "str": "text"}[
                self.kind
            ]
        )
        if self.minimum is not None:
            allowed += f" of at least {self.minimum:g}"
        return UnsupportedError(
            f"{self.name}={text!r}: expected {allowed}. Correct it or unset it."
        )


def _ours(name: str, kind: Kind, default: Any, meaning: str, **limits: Any) -> EnvVar:
    return EnvVar(
        name=name, kind=kind, default=default, meaning=meaning, reader="vllm-kunlun", **limits
    )


def _vendor(name: str, kind: Kind, meaning: str, on_card: str | None = None) -> EnvVar:
    return EnvVar(
        name=name,
        kind=kind,
        default=None,
        meaning=meaning,
        reader="vendor runtime",
        on_card=on_card,
    )


def _vllm(name: str, kind: Kind, meaning: str, **limits: Any) -> EnvVar:
    return EnvVar(name=name, kind=kind, default=None, meaning=meaning, reader="vLLM", **limits)


def _retired(name: str, meaning: str) -> EnvVar:
    return EnvVar(name=name, kind="str", default=None, meaning=meaning, reader="nobody")


TABLE: dict[str, EnvVar] = {
    variable.name: variable
    for variable in (
        _ours(
            "VLLM_KUNLUN_DEVICE",
            "str",
            "auto",
            "which device to run on; auto takes a card if there is one, and the emulator if there "
            "is no accelerator at all",
            choices=("auto", "xpu", "emulated", "rehearsal"),
        ),
        _ours(
            "VLLM_KUNLUN_VENDOR",
            "str",
            "auto",
            "what answers calls of the vendor's functions; auto: its wheels on a card, the "
            "emulator elsewhere; wheels: the modules of that name that can be imported, on any "
            "device (tests put a recording fake there)",
            choices=("auto", "wheels"),
        ),
        _ours(
            "VLLM_KUNLUN_ALLOW_UNTESTED_VLLM",
            "bool",
            False,
            "run on a release of vLLM that these wheels were not tested with; without it they "
            "refuse one",
        ),
        _ours(
            "VLLM_KUNLUN_CARD_FINDINGS",
            "str",
            None,
            "file of a card's `vllm-kunlun ops check --report FILE.json`: which form of a vendor "
            "function holds where public evidence is divided (`vllm-kunlun doctor` shows them)",
        ),
        _ours(
            "VLLM_KUNLUN_EMULATED_ASYNC_SCHEDULING",
            "bool",
            False,
            "schedule a step ahead on the emulated device, too, as vLLM does on a card",
        ),
        _ours(
            "VLLM_KUNLUN_EMULATED_MEMORY_GIB",
            "float",
            None,
            "memory of the emulated or rehearsed device in GiB; default half of what this process "
            "may use, at most a card's",
            minimum=0.01,
        ),
        _ours(
            "VLLM_KUNLUN_MAX_N",
            "int",
            128,
            "the largest n that one request may ask for",
            minimum=1,
        ),
        _ours(
            "VLLM_KUNLUN_MAX_PROMPTS",
            "int",
            2048,
            "the most prompts, each counted n times, that one request over HTTP may bring",
            minimum=1,
        ),
        _ours(
            "VLLM_KUNLUN_MAX_BODY_MIB",
            "float",
            None,
            "the largest body of a request over HTTP in MiB; default 4 and 32 bytes for each token "
            "of --max-model-len, and 64 MiB more where images, audio or embeddings may be in it",
            minimum=0.001,
        ),
        _ours(
            "VLLM_KUNLUN_MAX_GRAMMAR_KIB",
            "float",
            256.0,
            "the longest schema, regular expression or grammar of a request in KiB",
            minimum=0.001,
        ),
        _ours(
            "VLLM_KUNLUN_MAX_GRAMMAR_REPEATS",
            "int",
            100_000,
            "how often a schema, regular expression or grammar of a request may repeat a part, "
            "repeats within repeats multiplied",
            minimum=1,
        ),
        _ours(
            "VLLM_KUNLUN_DRAIN_SECONDS",
            "float",
            20.0,
            "how long requests may run on after a server was told to end (SIGTERM, Ctrl-C); what "
            "watches it should wait for some seconds more before it kills (Kubernetes: 30)",
            minimum=0,
        ),
        _ours(
            "VLLM_KUNLUN_PACK_LINEAR",
            "bool",
            True,
            "the emulated device packs linear weights in oneDNN's format after loading",
        ),
        _ours(
            "VLLM_KUNLUN_RECORD_STEPS",
            "bool",
            True,
            "the emulated device records a compiled model's steps of few tokens and replays them",
        ),
        _ours(
            "VLLM_KUNLUN_CHECK_WEIGHTS",
            "bool",
            True,
            "names, shapes and dtypes of a checkpoint's tensors are held against the model before "
            "they are read; 0 leaves it to vLLM, which misses parts of fused layers and all that "
            "a quantised model lacks",
        ),
        _ours(
            "VLLM_KUNLUN_START_FAILURE",
            "str",
            None,
            "set by a server for its own processes: the file in which one that cannot start says "
            "why",
        ),
        _ours(
            "VLLM_KUNLUN_SOCKETS",
            "str",
            None,
            "set by a process for those that it starts: the folder of their sockets, which it "
            "removes at its end",
        ),
        _ours(
            "VLLM_KUNLUN_FP8_TO",
            "str",
            "int8",
            "what fp8 weights become as they are loaded: int8 with activations in int8 too (the "
            "same memory), or the model's dtype (float, twice the memory)",
            choices=("int8", "float"),
        ),
        _ours(
            "VLLM_KUNLUN_ENABLE_INT8_BMM",
            "bool",
            False,
            "int8 weights of MLA decode's projections; saves 16 MiB a layer of DeepSeek-V3, over "
            "all cards, where kv_b_proj is quantised (kunlun-mla reads it)",
        ),
        _vendor("XPU_VISIBLE_DEVICES", "str", "which cards this process sees, by index"),
        _vendor("XPU_USE_DEFAULT_CTX", "bool", "use the device's default context", "1"),
        _vendor("XPU_USE_FAST_SWIGLU", "bool", "quick SwiGLU inside the fused expert layer"),
        _vendor("XFT_USE_FAST_SWIGLU", "bool", "quick SwiGLU"),
        _vendor("XPU_USE_MOE_SORTED_THRES", "int", "token count from which experts run sorted"),
        _vendor("XPU_DUMMY_EVENT", "bool", "unset it to use the device's real events"),
        _vendor("XPU_ENABLE_PROFILER_TRACING", "bool", "record a trace of device activity"),
        _vendor("XPU_TRACING_OUTPUT_NAME", "str", "file of that trace"),
        _vendor("XPUAPI_DEBUG", "str", "log level of device API calls, for example 0x1"),
        _vendor("XPURT_DISPATCH_MODE", "str", "PROFILING makes each launch synchronous"),
        _vendor("XMLIR_FORCE_USE_XPU_GRAPH", "bool", "run captured graphs on the device", "1"),
        _vendor(
            "XMLIR_ENABLE_MOCK_TORCH_COMPILE",
            "bool",
            "1 makes torch.compile a no-op; pieces that are captured need it to be real",
            "false",
        ),
        _vendor(
            "XMLIR_CUDNN_ENABLED",
            "bool",
            "torch's convolutions and attention run on the vendor's kernels, not on fallbacks",
            "1",
        ),
        _vendor("KUNLUN_USE_MOE_FFN_BLOCK", "bool", "use the fused block of the expert layer"),
        _vendor(
            "BKCL_FORCE_SYNC",
            "bool",
            "synchronise after each collective, without which several cards are not stable",
            "1",
        ),
        _vendor("BKCL_CHECK_AW", "bool", "0 skips the address-window check of collectives"),
        _vendor("USE_ORI_ROPE", "bool", "keep the original rotary form, for DeepSeek models"),
        _vendor("X_DEBUG", "str", "kernel accuracy checks of the vendor's tracer"),
        _vendor("X_DEDUP", "bool", "report each kernel once in that tracer"),
        _vendor("X_DUMP_NUM", "int", "how many tensors that tracer writes out"),
        _vllm("VLLM_HOST_IP", "str", "this host's address for multi-host runs"),
        _vllm(
            "CUDA_VISIBLE_DEVICES",
            "str",
            "as XPU_VISIBLE_DEVICES, by torch's name; Ray would set it to one card a worker",
        ),
        _vllm("VLLM_PORT", "int", "first port of vLLM's internal channels, not the server's"),
        _vllm(
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
            "int",
            "seconds for which a server keeps a connection without a request; here 75 by default, "
            "longer than proxies do",
        ),
        _vllm(
            "VLLM_RPC_BASE_PATH",
            "str",
            "where the folder of an engine's sockets is made; default TMPDIR or /tmp",
        ),
        _vllm("VLLM_PLUGINS", "str", "names of the plugins to load, comma separated; default all"),
        _vllm(
            "VLLM_WORKER_MULTIPROC_METHOD",
            "str",
            "how workers start; the emulated device needs spawn and sets it",
            choices=("fork", "spawn"),
        ),
        _vllm(
            "VLLM_DISABLE_SHARED_EXPERTS_STREAM",
            "bool",
            "run shared experts on the main stream; the emulated device has no other and sets it",
        ),
        _vllm(
            "VLLM_USE_AOT_COMPILE",
            "bool",
            "store compiled graphs on the disk; here they run as they were traced, and 0 is set",
        ),
        _vllm("OMP_NUM_THREADS", "int", "CPU threads per process", minimum=1),
        _vllm("FLA_COMPILER_MODE", "bool", "compile mode of the linear-attention kernels"),
        _vllm("FLA_CI_ENV", "bool", "loosens checks of the linear-attention kernels in their CI"),
        _vllm("FLA_GDN_FIX_BT", "bool", "fixed chunk length of the gated delta rule"),
        _vllm("FLA_USE_CUDA_GRAPH", "bool", "tune linear-attention kernels under CUDA graphs"),
        _vllm("GDN_RECOMPUTE_SUPPRESS_LEVEL", "int", "what the gated delta rule keeps in memory"),
        _retired("VLLM_USE_V1", "vLLM 0.15 has no other engine"),
        _retired("VLLM_ATTENTION_BACKEND", "vLLM removed it; the platform picks the backend"),
        _retired("FAST_RANDOM_SAMPLE", "noise is always -log(uniform), for seeded requests too"),
        _retired("FUSED_QK_ROPE_OP", "the fused norm and rotary op is chosen by the model"),
        _retired("ENABLE_VLLM_FUSED_QKV_SPLIT_NORM_ROPE", "as FUSED_QK_ROPE_OP"),
        _retired("ENABLE_KUNLUN_LARGE_OPS", "LoRA has one path"),
        _retired("ENABLE_CUSTOM_DPSK_SCALING_ROPE", "rotary layers are replaced by class"),
        _retired("ROPE_NATIVE_2D", "rotary layers are replaced by class"),
        _retired("ENABLE_VLLM_MOE_FC_SORTED", "see XPU_USE_MOE_SORTED_THRES"),
        _retired("ENABLE_VLLM_INFER_HOOK", "debugging hook of an older plugin"),
        _retired("ENABLE_VLLM_OPS_HOOK", "debugging hook of an older plugin"),
        _retired("ENABLE_VLLM_MODULE_HOOK", "debugging hook of an older plugin"),
        _retired("ENABLE_VLLM_MULTI_LOG", "vLLM's own logging settings do this"),
        _retired("VLLM_MULTI_LOGPATH", "vLLM's own logging settings do this"),
    )
}

SHARED = [v.name for v in TABLE.values() if v.reader in ("vllm-kunlun", "vendor runtime")]
"""Variables in which every rank of a server must agree, on other hosts too."""


def __getattr__(name: str) -> Any:
    variable = TABLE.get(name)
    if variable is None:
        raise AttributeError(f"{name} is not in the table of {__name__}")
    text = os.environ.get(name)
    return variable.default if text is None else variable.parse(text)


def set_default(name: str, value: str) -> bool:
    """Set a variable for this process and its children unless the user did; True if it was set."""
    if name in os.environ:
        return False
    os.environ[name] = value
    return True


def put(name: str, value: str) -> None:
    """Set a variable for this process and its children, whatever it was."""
    os.environ[name] = value


@contextlib.contextmanager
def set_within(name: str, value: str) -> Iterator[None]:
    """Set a variable for this process and for those that are started in this block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def with_values(values: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process to be started: this one's, with ``values`` in place of its."""
    return {**os.environ, **values}


def shared() -> dict[str, str]:
    """What is set of the variables in which every rank must agree."""
    return {name: os.environ[name] for name in SHARED if name in os.environ}


def card_values() -> dict[str, str]:
    """Variables that registration sets on a card, and to what."""
    return {v.name: v.on_card for v in TABLE.values() if v.on_card is not None}


def unread(environment: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """Variables that are set and that nobody reads: misspelt, unknown, or an older plugin's.

    Returns:
        Name -> the known name that it resembles; for an older plugin's, None (``TABLE`` says what
        took its place).
    """
    present = os.environ if environment is None else environment
    live = [name for name, variable in TABLE.items() if variable.reader != "nobody"]
    ours = [name for name in live if name.startswith("VLLM_KUNLUN_")]
    found: dict[str, str | None] = {}
    for name in sorted(present):
        if name in TABLE:
            if TABLE[name].reader == "nobody":
                found[name] = None
        elif name.startswith(_PREFIXES):
            found[name] = next(iter(difflib.get_close_matches(name, live, 1, 0.8)), None)
        elif near := difflib.get_close_matches(name, ours, 1, 0.9):
            found[name] = near[0]
    return found


def describe() -> list[dict[str, Any]]:
    """One row per variable, with its value now (``set`` tells whether the user gave it)."""
    return [
        {
            **variable.model_dump(
                include={"name", "kind", "default", "meaning", "reader", "on_card"}
            ),
            "value": os.environ.get(variable.name, variable.default),
            "set": variable.name in os.environ,
        }
        for variable in TABLE.values()
    ]
