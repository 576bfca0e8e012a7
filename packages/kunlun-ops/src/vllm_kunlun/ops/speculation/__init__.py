# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding without triton: verification of drafts, and what drafters need around it.

Formulas on tensors; the functions that vLLM calls in their place are in ``vllm_modules``.
"""
