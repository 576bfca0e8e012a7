# SPDX-License-Identifier: Apache-2.0
"""Dense layers: one module for each format that is loaded, each run by an op of ``torch_ops``."""
