# SPDX-License-Identifier: Apache-2.0
"""The emulated device in vLLM: worker, model runner, streams and memory.

No arithmetic of the vendor's functions is here, and no part of a card's worker.
"""
