# SPDX-License-Identifier: Apache-2.0
"""Functions of vLLM that this wheel replaces at run time, as ledger entries."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.patch_ledger import Patch

__all__ = ["patches"]

_HOOKS = "vllm_kunlun.ops.vllm_modules.runner"
_VLLM = "https://github.com/vllm-project/vllm/blob/v0.15.1/vllm/"
_SOURCE = f"{_VLLM}v1/worker/"
_RANGE = ">=0.15.1,<0.16"


def patches() -> Sequence[Patch]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        Patch(
            name="host-block-table",
            target="vllm.v1.worker.block_table:BlockTable.get_device_tensor",
            replacement=f"{_HOOKS}:get_device_tensor",
            why="the vendor's convolution wants block numbers on the host too: the runner has them "
            "there and hands out the device's copy only, and copying it back waits for the stream",
            upstream=f"{_SOURCE}block_table.py",
            vllm_range=_RANGE,
            sha256="c9805dcffb77eae2d8f5942d49e1965cb9053a04459d70d23a65087f27e3023e",
            remove_when="CommonAttentionMetadata carries the block table's host copy",
        ),
        Patch(
            name="note-state-copies",
            target="vllm.v1.worker.mamba_utils:collect_mamba_copy_meta",
            replacement=f"{_HOOKS}:collect_mamba_copy_meta",
            why="prefix caching of recurrent states notes addresses for a triton kernel",
            upstream=f"{_SOURCE}mamba_utils.py",
            vllm_range=_RANGE,
            sha256="eb28c28f2ae403f66c48d754b1809b6a3601b2b7368555a55632d9f304409137",
            remove_when="the platform provides the copy of mamba blocks",
        ),
        Patch(
            name="copy-states",
            target="vllm.v1.worker.mamba_utils:do_mamba_copy_block",
            replacement=f"{_HOOKS}:do_mamba_copy_block",
            why="prefix caching of recurrent states copies them by a triton kernel on CUDA",
            upstream=f"{_SOURCE}mamba_utils.py",
            vllm_range=_RANGE,
            sha256="23258295ea03d7931395d2e2ed8fff539a13932aca93a565c1a374c03fa63699",
            remove_when="the platform provides the copy of mamba blocks",
        ),
        Patch(
            name="grouped-routing",
            target="vllm.model_executor.layers.fused_moe.router.grouped_topk_router:grouped_topk",
            replacement="vllm_kunlun.ops.vllm_modules.grouped_topk_router:grouped_topk",
            why="the router calls this function, compiled torch, where the vendor has its own; "
            "the layer GroupedTopk, replaced by class, is called by nobody",
            upstream=f"{_VLLM}model_executor/layers/fused_moe/router/grouped_topk_router.py",
            vllm_range=_RANGE,
            sha256="91a77744fde0632b6cbcb08b551da48d714631167895c66056eb0a0275286c5d",
            remove_when="the router calls the layer GroupedTopk",
        ),
        Patch(
            name="grammar-mask",
            target="vllm.v1.structured_output.utils:apply_grammar_bitmask",
            replacement="vllm_kunlun.ops.vllm_modules.structured_output:apply_grammar_bitmask",
            why="it makes an index tensor in pinned memory on every device, and its library takes "
            "triton on a device of type cuda",
            upstream=f"{_VLLM}v1/structured_output/utils.py",
            vllm_range=_RANGE,
            sha256="d13d5a90542eee9fdaefad74000880b8369f3629faac7d34c4f53851c0623823",
            remove_when="vLLM asks the platform for pinned memory here, and xgrammar has a path in "
            "torch for any device",
        ),
    )
