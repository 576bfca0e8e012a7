# SPDX-License-Identifier: Apache-2.0
"""What a comparison means, in one line with the cause last, and what to do next."""

from __future__ import annotations

from typing import Any

__all__ = ["of"]


def of(result: dict[str, Any]) -> dict[str, str]:
    """``verdict`` and ``next`` of the result of ``verify MODEL``."""
    rows = result["prompts"]
    http = result["http"]
    judge = result["judge"].partition(",")[0]
    if result["ok"]:
        count = sum(len(row["expected"]) for row in rows)
        ties = sum(row["near_tie"] for row in rows)
        largest = max(row["largest_difference"] for row in rows)
        said = f"EQUAL: {count} greedy tokens of {len(rows)} answers are those of {judge}"
        if ties:
            said += f" up to a near tie in {ties}"
        said += f", log-probabilities within {largest:.2g}"
        if http:
            said += "; vllm serve answers the same"
        return {"verdict": f"{said}.", "next": f"vllm-kunlun serve {result['model']}"}
    wrong = [row for row in rows if not row["ok"]]
    if not wrong:
        place = next(each for each in http["first_differences"] if each is not None)
        return {
            "verdict": f"DIFFERENT: offline all is right, and vllm serve answers otherwise from "
            f"token {place} on: its graphs, compilation or batching.",
            "next": "see whether `vllm serve --enforce-eager` is right (docs/graphs.md)",
        }
    said = f"DIFFERENT: {len(wrong)} of {len(rows)} answers are not those of {judge}"
    cause = result["cause"]
    if cause is None:
        return {
            "verdict": f"{said}: {result['unlocated']}.",
            "next": "vllm-kunlun ops check; vllm-kunlun weights " + result["model"],
        }
    held = f" (in {cause['module'].rpartition('.')[2]})"
    held = held if cause["module"] != cause["checkpoint"] else ""
    said += f"; the first to differ is {cause['checkpoint']}{held}, which {cause['text']}."
    more = f"; vllm-kunlun weights {result['model']}" if cause["kind"] == "weights" else ""
    return {"verdict": said, "next": cause["next"] + more}
