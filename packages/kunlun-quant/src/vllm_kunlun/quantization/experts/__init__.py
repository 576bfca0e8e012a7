# SPDX-License-Identifier: Apache-2.0
"""Mixtures of experts: one module for each format that is loaded, and the ways to run them."""
