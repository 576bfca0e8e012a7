# SPDX-License-Identifier: Apache-2.0
"""gpt-oss: a family of models."""
