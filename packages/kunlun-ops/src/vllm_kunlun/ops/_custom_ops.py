# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the three-piece registration."""

from vllm_kunlun.ops.torch_ops.registration import direct_register_custom_op

__all__ = ["direct_register_custom_op"]
