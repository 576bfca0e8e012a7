# SPDX-License-Identifier: Apache-2.0
"""DeepSeek-V2, V3, R1 and V3.2, and what has their architectures: Kimi-K2 and GLM-5."""
