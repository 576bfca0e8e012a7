# SPDX-License-Identifier: Apache-2.0
"""Which wheel to install for an architecture, for messages where that wheel is not installed."""

from __future__ import annotations

__all__ = ["WHEELS"]

# wheels: written by `nox -s sync` from the family wheels' own pyproject.toml
WHEELS = {
    "Deepseek": "kunlun-models-deepseek",
    "SeedOss": "kunlun-models-seed-oss",
    "GptOss": "kunlun-models-gpt-oss",
    "Intern": "kunlun-models-intern",
    "MiMo": "kunlun-models-mimo",
    "Qwen": "kunlun-models-qwen",
}
# wheels: end
"""How an architecture's name begins -> the wheel of its family, installed or not."""
