# SPDX-License-Identifier: Apache-2.0
"""The vendor's functions in PyTorch: same names, arguments, layouts and in-place outputs.

An oracle first (float32 accumulation, the formula in the open), and quick enough to serve models.
``kunlun_ops``, ``xspeedgate_ops`` and ``flash_attn`` in this package are the three surfaces.
"""
