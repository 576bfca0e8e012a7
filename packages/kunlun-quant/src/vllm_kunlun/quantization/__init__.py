# SPDX-License-Identifier: Apache-2.0
"""Quantised checkpoints: vLLM's methods with the card's arithmetic.

Importing this package imports neither torch nor vLLM.
"""
