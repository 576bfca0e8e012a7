# SPDX-License-Identifier: Apache-2.0
"""Stands in for the vendor's ``cocopod``, of which nothing is ever called."""
