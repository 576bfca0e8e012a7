# SPDX-License-Identifier: Apache-2.0
"""What takes the place of vLLM's modules and functions, each file named after vLLM's.

The ledger's entries that put them there are here too; layers, replaced by class, are in ``layers``.
"""
