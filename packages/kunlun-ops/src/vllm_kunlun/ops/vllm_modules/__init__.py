# SPDX-License-Identifier: Apache-2.0
"""What takes the place of vLLM's modules and functions, a file for each part of vLLM.

The ledger's entries that put them there are here too; layers, replaced by class, are in ``layers``.
"""
