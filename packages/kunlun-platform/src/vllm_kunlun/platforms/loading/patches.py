# SPDX-License-Identifier: Apache-2.0
"""The ledger entries for weights."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.entries import Entry, Patch
from vllm_kunlun.platforms.version import V0_16, V0_33

__all__ = ["patches"]


def patches() -> Sequence[Entry]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        Patch(
            name="reload-weights",
            target="vllm.v1.worker.gpu_model_runner:GPUModelRunner.reload_weights",
            replacement="vllm_kunlun.platforms.loading.reloading:reload_weights",
            why="it puts parameters without memory in the place of a layer's, so that layers which "
            "were converted for the device cannot be found",
            upstream="https://github.com/vllm-project/vllm/blob/v0.16.0/vllm/v1/worker/"
            "gpu_model_runner.py",
            vllm_range=V0_16,
            sha256="b82c8770eb63484efca29bc3f7dfcb69ff4aa06650a06e8ca3073917bb160f10",
            remove_when="a model can say that its load_weights processes what it loads",
        ),
        Patch(
            name="reload-weights",
            target="vllm.v1.worker.gpu_model_runner:GPUModelRunner.reload_weights",
            replacement="vllm_kunlun.platforms.vllm_compat.not_yet:reload_weights",
            why="as of 0.16; here it also forgets what was computed with the old weights, and that "
            "is not written yet",
            upstream="https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/worker/"
            "gpu_model_runner.py",
            vllm_range=V0_33,
            sha256="f68053c07170702360b1cac2c9f43690a34352a5e6e33c3e36d98755237f3027",
            remove_when="ours forgets them, too",
        ),
    )
