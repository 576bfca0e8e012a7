# SPDX-License-Identifier: Apache-2.0
"""vLLM's key-value connectors that work through the host, for pages of this platform's layout."""

from vllm_kunlun.ops.kv_transfer.registry import register_connectors

__all__ = ["register_connectors"]
