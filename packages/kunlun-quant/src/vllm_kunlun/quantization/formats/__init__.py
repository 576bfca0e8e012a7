# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint's method is, and which layer method serves each of its layers."""
