# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the compressed-tensors format."""
