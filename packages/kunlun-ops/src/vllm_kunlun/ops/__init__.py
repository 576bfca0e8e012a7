# SPDX-License-Identifier: Apache-2.0
"""The custom op library: vendor adapter, emulator, layers, dense attention and sampling."""

from vllm_kunlun.ops.custom_op import custom_op

__all__ = ["custom_op"]
