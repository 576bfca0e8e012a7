# SPDX-License-Identifier: Apache-2.0
"""The results of ``rehearse`` as one HTML file that needs no other."""

from __future__ import annotations

from importlib import resources
from typing import Any

from vllm_kunlun.cli.rehearse import rows

__all__ = ["as_html"]


def as_html(result: dict[str, Any]) -> str:
    """The page: a table for each phase, a bar for each name, waits and what no graph replays."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=rows.number, memory=rows.memory)
    text = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        found=result,
        heading=rows.heading(result),
        kinds=rows.KINDS,
        classes=rows.CLASSES,
        phases=[
            {
                "key": phase,
                "name": name,
                "rows": rows.rows(result, phase),
                "bars": rows.bars(result, phase),
                "places": {
                    classes: rows.places(result, phase, classes) for classes in result["runs"]
                },
            }
            for phase, name in rows.PHASES.items()
        ],
    )
