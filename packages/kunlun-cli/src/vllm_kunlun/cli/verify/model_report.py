# SPDX-License-Identifier: Apache-2.0
"""The results of ``verify MODEL`` as one HTML file that needs no other."""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

from vllm_kunlun.cli.verify.text import answer, how

__all__ = ["as_html", "height"]

_FLOOR = 1e-8
"""An error that is drawn as nothing."""


def as_html(result: dict[str, Any]) -> str:
    """The page: verdict, answers, a bar for each layer, and one for each thing that was compared.

    Bars are logarithmic: rounding and a fault lie many powers of ten apart.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(answer=answer, height=height)
    text = resources.files(__package__).joinpath("model_report.html.j2").read_text("utf-8")
    return environment.from_string(text).render(
        found=result, how=how(result["registration"]), limit=height(result["limit"])
    )


def height(error: float) -> float:
    """Share of a bar's full length, which stands for an error of 1 and more."""
    if not math.isfinite(error):
        return 1.0
    return round(min(1.0, max(0.0, 1 - math.log10(max(error, _FLOOR)) / math.log10(_FLOOR))), 4)
