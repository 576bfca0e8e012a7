# SPDX-License-Identifier: Apache-2.0
"""The ledger entries for torch before 2.6. Hashes are of torch 2.5.1, as PyPI has it."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.entries import Addition, Entry, Patch
from vllm_kunlun.platforms.torch25 import RANGE
from vllm_kunlun.platforms.version import EVERY, V0_16

__all__ = ["patches"]

_OURS = "vllm_kunlun.platforms.torch25"
_TORCH = "https://github.com/pytorch/pytorch/blob/v2.5.1/torch/"
_REMOVE_WHEN = "the vendor's torch is 2.6 or newer"


def patches() -> Sequence[Entry]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        *_imports(),
        _functorch_key(),
        *_dynamo(),
        _parameter_classes(),
    )


def _imports() -> Sequence[Entry]:
    """Without these a module of vLLM cannot be imported: they stop the start."""
    return (
        Addition(
            name="torch25-schema-types",
            target="torch._library.infer_schema:SUPPORTED_PARAM_TYPES",
            entries=f"{_OURS}.schema_types:builtin_spellings",
            why="schemas are inferred from typing.List only; vLLM writes list[int]",
            upstream=f"{_TORCH}_library/infer_schema.py",
            vllm_range=EVERY,
            remove_when=_REMOVE_WHEN,
            torch_range=RANGE,
        ),
        Addition(
            name="torch25-wrap-triton",
            target="torch.library:__dict__",
            entries=f"{_OURS}.missing_names:wrap_triton",
            why="the name came with 2.6; vLLM imports it with every quantisation method",
            upstream=f"{_TORCH}library.py",
            vllm_range=EVERY,
            remove_when=_REMOVE_WHEN,
            torch_range=RANGE,
        ),
        Addition(
            name="torch25-custom-graph-pass",
            target="sys:modules",
            entries=f"{_OURS}.missing_names:custom_graph_pass",
            why="the module came with 2.6; vLLM 0.16 imports it with its configuration",
            upstream="https://github.com/pytorch/pytorch/blob/v2.6.0/torch/_inductor/"
            "custom_graph_pass.py",
            vllm_range=V0_16,
            remove_when=_REMOVE_WHEN,
            torch_range=RANGE,
        ),
    )


def _functorch_key() -> Entry:
    return Addition(
        name="torch25-functorch-key",
        target="torch._functorch.config:_config",
        entries=f"{_OURS}.missing_names:functorch_options",
        why="vLLM sets functorch's option bundled_autograd_cache, and from 0.16 on "
        "autograd_cache_normalize_inputs, which came later",
        upstream=f"{_TORCH}_functorch/config.py",
        vllm_range=EVERY,
        remove_when=_REMOVE_WHEN,
        torch_range=RANGE,
        only_compilation=True,
    )


def _dynamo() -> Sequence[Entry]:
    """Private code that only torch.compile runs: where it differs, compilation is turned off."""
    translator = "torch._dynamo.symbolic_convert:InliningInstructionTranslator"
    return tuple(
        Patch(
            name=name,
            target=target,
            replacement=f"{_OURS}.dynamo:{replacement}",
            why=why,
            upstream=_TORCH + file,
            vllm_range=EVERY,
            sha256=sha256,
            remove_when=_REMOVE_WHEN,
            torch_range=RANGE,
            only_compilation=True,
        )
        for name, target, replacement, why, file, sha256 in (
            (
                "torch25-inline-call",
                f"{translator}.inline_call",
                "inline_call",
                "vLLM puts a method of one argument, as of torch 2.7, in the place of inline_call_",
                "_dynamo/symbolic_convert.py",
                "3f79ed28a9512a9c25b37aaab4a878aa3f1c9fa0f05010347d7f42e197ab2a90",
            ),
            (
                "torch25-inlined-call",
                f"{translator}.inline_call_",
                "inline_call_",
                "the same method calls the original with its one argument",
                "_dynamo/symbolic_convert.py",
                "5a1ad1ec283748fd91514c60c1bac1d4486e63b174a6fd0ff33723f56d966e8d",
            ),
            (
                "torch25-guard-filter",
                "torch:_TorchCompileWrapper.__init__",
                "without_guard_filter",
                "the option guard_filter_fn came with 2.8; 2.5 hands it to the backend",
                "__init__.py",
                "dcbae1a749ffea22814c852ff4f0e038270958dc6b139215045462ba0728a697",
            ),
            (
                "torch25-size",
                "torch._dynamo.variables.user_defined:UserDefinedClassVariable.call_function",
                "call_class",
                "vLLM's attention layer calls torch.Size, which 2.5 cannot trace",
                "_dynamo/variables/user_defined.py",
                "84757f4a7641fa62a12ed12fbeb73020868553786431dc7adb89823351abdf4e",
            ),
        )
    )


def _parameter_classes() -> Entry:
    return Patch(
        name="torch25-parameter-classes",
        target="vllm.compilation.decorators:maybe_use_cudagraph_partition_wrapper",
        replacement=f"{_OURS}.dynamo:with_parameter_classes",
        why="2.5 cannot trace a class of parameters with a __torch_function__; vLLM 0.15 told it "
        "which may be traced, and 0.16 does so no more",
        upstream="https://github.com/vllm-project/vllm/blob/v0.16.0/vllm/compilation/decorators.py",
        vllm_range=V0_16,
        sha256="5bc3812de8300bfc3f10093a7976c24dc5ee2a629cdddb6f7c270a382f28dbff",
        remove_when=_REMOVE_WHEN,
        torch_range=RANGE,
        only_compilation=True,
    )
