# SPDX-License-Identifier: Apache-2.0
"""Custom ops of ``torch.ops.vllm_kunlun``, by area, and how an op is registered and checked.

Formulas over tensors on the vendor's functions: no class of vLLM is here (see ``layers``).
"""
