# SPDX-License-Identifier: Apache-2.0
"""The outcomes of ``ops check`` as one HTML file that needs no other."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_kunlun.ops.conformance.check import Report

__all__ = ["as_html", "number"]


def number(value: float | None) -> str:
    """An error or a tolerance in a table; a dash where there is none."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.1e}"


def as_html(found: Report) -> str:
    """The page; everything that comes from a library or a case is escaped."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    text = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        found=found,
        checked=[each for each in found.functions if each.status != "no cases"],
        unchecked=[each for each in found.functions if each.status == "no cases"],
        failed=[each for each in found.functions if each.fails],
    )
