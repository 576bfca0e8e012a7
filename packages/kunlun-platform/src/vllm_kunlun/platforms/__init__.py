# SPDX-License-Identifier: Apache-2.0
"""The Kunlun platform for vLLM: device, environment, checks, settings, ledgers, card.

Importing this package imports nothing else: each module is imported by the name it has.
"""
