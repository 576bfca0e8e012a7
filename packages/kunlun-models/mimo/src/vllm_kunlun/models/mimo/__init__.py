# SPDX-License-Identifier: Apache-2.0
"""MiMo and MiMo-V2-Flash: a family of models."""
