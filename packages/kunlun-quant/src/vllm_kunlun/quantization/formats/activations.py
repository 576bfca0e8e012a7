# SPDX-License-Identifier: Apache-2.0
"""Which activations every format's layers take."""

from __future__ import annotations

import torch

__all__ = ["ACTIVATIONS"]

ACTIVATIONS = (torch.float16, torch.bfloat16, torch.float32)
"""The card's dtypes; which function converts one of them is said where it runs."""
