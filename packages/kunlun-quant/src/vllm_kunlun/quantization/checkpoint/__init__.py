# SPDX-License-Identifier: Apache-2.0
"""Judging a checkpoint: by its files' headers, and tensor by tensor as it is loaded."""
