# SPDX-License-Identifier: Apache-2.0
"""The results of ``verify`` as one HTML file that needs no other."""

from __future__ import annotations

from importlib import resources
from typing import Any

__all__ = ["as_html"]


def as_html(result: dict[str, Any]) -> str:
    """The page: verdict, figures, and a bar for the error after each layer."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    top = max((layer["after"] for layer in result["layers"]), default=0.0)
    return environment.from_string(text).render(found=result, top=top or 1.0)
