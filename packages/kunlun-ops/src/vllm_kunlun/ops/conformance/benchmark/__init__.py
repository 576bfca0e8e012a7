# SPDX-License-Identifier: Apache-2.0
"""Timing of the vendor's functions beside plain torch, on whatever library is there."""
