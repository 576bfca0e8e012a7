# SPDX-License-Identifier: Apache-2.0
"""Modules of vLLM that this wheel replaces, as ledger entries of the import hook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vllm_kunlun.ops.vllm_modules import upstream
from vllm_kunlun.platforms.ledger.import_hook import Redirect
from vllm_kunlun.platforms.version import EVERY, UNTIL_0_16, V0_15, V0_16, V0_33

__all__ = ["redirects"]


def redirects() -> Sequence[Redirect]:
    """Provider of the entry-point group ``vllm_kunlun.module_redirects``."""
    return (
        _redirect(
            target="vllm.v1.sample.ops.topk_topp_sampler",
            replacement="vllm_kunlun.ops.vllm_modules.topk_topp_sampler",
            why="the sampler picks its kernel by platform and knows none but CUDA, ROCm and CPU",
            sha256={
                UNTIL_0_16: "bb03ca447114a53db8721063c6d6f44b7eebec32fa8bfdcbf009a05da5920be8",
                V0_33: "a8234f8dc8180c7b7d2417d4d04ca4af25bd2761dc93332f7bd2993a19c2120f",
            },
            remove_when="vLLM's TopKTopPSampler dispatches through the platform",
        ),
        _redirect(
            target="vllm.v1.sample.rejection_sampler",
            replacement="vllm_kunlun.ops.vllm_modules.rejection_sampler",
            why="draft tokens are verified by triton kernels alone",
            sha256={
                V0_15: "1ec5d47c7432e28a80babbca2d553e187dd5a0c969a8755fb711b701846f6352",
                V0_16: "f0b3dd3fad8cc86876f2563ffc0dc67c5fa44a1b57d46b8079356d1f9539c196",
                V0_33: "9f035dd0c5af33b29ffcc63e2192f7b2fb85f8a6b4ac89275ecb5698f7ca2ff1",
            },
            remove_when="vLLM's rejection sampler has a path without triton",
        ),
        _redirect(
            target="vllm.v1.worker.utils",
            replacement="vllm_kunlun.ops.vllm_modules.worker_utils",
            why="two caches of one layer number (a drafter's, an indexer's) are bound on platforms "
            "known by name only",
            sha256={
                V0_15: "38ad72193886062cc787474ae8ee2b1066e53e938716cfd56dca52fc58fe0a37",
                V0_16: "a18ccb857efff9d486d6aabb1089d00bc3e46250fb4a90850791d9cce4b18358",
            },
            remove_when="vLLM's bind_kv_cache takes two layers of one index on any platform",
        ),
    )


def _redirect(
    *,
    target: str,
    replacement: str,
    why: str,
    sha256: str | Mapping[str, str],
    remove_when: str,
) -> Redirect:
    return Redirect(
        target=target,
        replacement=replacement,
        why=why,
        upstream=upstream.link(target),
        vllm_range=EVERY,
        sha256=sha256,
        remove_when=remove_when,
    )
