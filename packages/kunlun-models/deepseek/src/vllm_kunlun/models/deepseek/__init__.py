# SPDX-License-Identifier: Apache-2.0
"""DeepSeek-V2, V3, R1 and V3.2, and Kimi-K2, which has the architecture of V3."""
