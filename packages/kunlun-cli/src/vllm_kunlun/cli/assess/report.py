# SPDX-License-Identifier: Apache-2.0
"""The results of ``assess`` as one HTML file that needs no other."""

from __future__ import annotations

from importlib import resources
from typing import Any

from vllm_kunlun.cli.assess.kinds import KINDS
from vllm_kunlun.cli.assess.text import gigabytes

__all__ = ["as_html", "bar"]


def bar(way: dict[str, Any], card_bytes: int) -> list[tuple[str, str, float]]:
    """Parts of a card's memory for one way: class, words, percent of the card."""
    parts = [(f"k{KINDS.index(kind)}", f"{kind} {gigabytes(size)} GiB", size)
             for kind, size in way["weights"].items()]  # fmt: skip
    parts.append(("steps", f"steps and graphs {gigabytes(way['activations'] + way['runtime'])} GiB",
                  way["activations"] + way["runtime"]))  # fmt: skip
    parts.append(("cache", f"cache {gigabytes(way['cache'])} GiB", way["cache"]))
    # What is more than a card is cut to it; the row says that it does not fit.
    whole = max(card_bytes, sum(size for _, _, size in parts))
    return [(kind, words, 100 * size / whole) for kind, words, size in parts]


def as_html(found: dict[str, Any]) -> str:
    """The page: case, a bar of one card's memory for each number of cards, the command."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(gigabytes=gigabytes)
    text = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        found=found,
        kinds=list(enumerate(KINDS)),
        ways=[
            (way, [] if way["refused"] else bar(way, found["card_bytes"])) for way in found["ways"]
        ],
    )
