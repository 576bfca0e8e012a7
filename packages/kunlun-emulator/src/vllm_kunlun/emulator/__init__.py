# SPDX-License-Identifier: Apache-2.0
"""A Kunlun P800 in host memory: the vendor's functions, and a device for vLLM's worker.

``kunlun_ops``, ``xspeedgate_ops`` and ``flash_attn`` are the vendor's three libraries: same names,
arguments, layouts and in-place outputs. Their arithmetic is in ``functions`` (an oracle first:
float32 accumulation, the formula in the open) and ``kernels``; worker and memory are in ``device``.
A card installs none of it.
"""
