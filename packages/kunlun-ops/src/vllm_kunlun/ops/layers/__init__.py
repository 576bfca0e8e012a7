# SPDX-License-Identifier: Apache-2.0
"""vLLM's layers on the vendor's functions, one file per area.

``register_layers`` puts each class into vLLM's registry of out-of-tree layers, so that every model
vLLM has uses them without a model file of ours. The ops that they call are in ``torch_ops``; the
layers of attention are vLLM's own, over the backend in ``attention``.
"""

from vllm_kunlun.ops.layers.registry import LAYERS, register_layers

__all__ = ["LAYERS", "register_layers"]
