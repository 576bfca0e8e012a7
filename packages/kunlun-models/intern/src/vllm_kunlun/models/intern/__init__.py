# SPDX-License-Identifier: Apache-2.0
"""InternLM2, InternVL and InternS1: a family of models."""
