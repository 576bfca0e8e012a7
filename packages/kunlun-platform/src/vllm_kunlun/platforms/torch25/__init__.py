# SPDX-License-Identifier: Apache-2.0
"""What vLLM 0.15.1 misses in the vendor's torch 2.5.1, mended at run time by ledger entries."""
