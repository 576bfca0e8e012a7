# SPDX-License-Identifier: Apache-2.0
"""Modules of vLLM that this wheel replaces, as ledger entries of the import hook."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.ops.vllm_modules import upstream
from vllm_kunlun.platforms.ledger.import_hook import Redirect

__all__ = ["redirects"]


def redirects() -> Sequence[Redirect]:
    """Provider of the entry-point group ``vllm_kunlun.module_redirects``."""
    return (
        _redirect(
            target="vllm.v1.sample.ops.topk_topp_sampler",
            replacement="vllm_kunlun.ops.vllm_modules.topk_topp_sampler",
            why="the sampler picks its kernel by platform and knows none but CUDA, ROCm and CPU",
            sha256="bb03ca447114a53db8721063c6d6f44b7eebec32fa8bfdcbf009a05da5920be8",
            remove_when="vLLM's TopKTopPSampler dispatches through the platform",
        ),
        _redirect(
            target="vllm.v1.sample.rejection_sampler",
            replacement="vllm_kunlun.ops.vllm_modules.rejection_sampler",
            why="draft tokens are verified by triton kernels alone",
            sha256="1ec5d47c7432e28a80babbca2d553e187dd5a0c969a8755fb711b701846f6352",
            remove_when="vLLM's rejection sampler has a path without triton",
        ),
        _redirect(
            target="vllm.v1.worker.utils",
            replacement="vllm_kunlun.ops.vllm_modules.worker_utils",
            why="two caches of one layer number (a drafter's, an indexer's) are bound on platforms "
            "known by name only",
            sha256="38ad72193886062cc787474ae8ee2b1066e53e938716cfd56dca52fc58fe0a37",
            remove_when="vLLM's bind_kv_cache takes two layers of one index on any platform",
        ),
    )


def _redirect(
    *, target: str, replacement: str, why: str, sha256: str, remove_when: str
) -> Redirect:
    return Redirect(
        target=target,
        replacement=replacement,
        why=why,
        upstream=upstream.link(target),
        vllm_range=upstream.RANGE,
        sha256=sha256,
        remove_when=remove_when,
    )
