# SPDX-License-Identifier: Apache-2.0
"""What each function of the vendor computes, by area, in PyTorch, with checks of its arguments.

The libraries that offer them by name are one folder up; compiled loops are in ``kernels``.
"""
