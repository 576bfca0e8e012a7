# SPDX-License-Identifier: Apache-2.0
"""Loops that numba compiles, by area, for the functions to call.

They check no argument and know no layout of the vendor: ``functions`` does both.
"""
