# SPDX-License-Identifier: Apache-2.0
"""Seed-OSS: a family of models."""
