# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` ops of quantised linear layers, on the vendor's functions."""
