# SPDX-License-Identifier: Apache-2.0
"""Sampling: what takes the place of vLLM's modules through the import hook."""
