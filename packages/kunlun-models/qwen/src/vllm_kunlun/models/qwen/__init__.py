# SPDX-License-Identifier: Apache-2.0
"""Qwen2, Qwen2.5 and Qwen3, the dense models, and Qwen3-Next."""
