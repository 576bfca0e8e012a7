# SPDX-License-Identifier: Apache-2.0
"""Findings as SARIF 2.1.0, which code hosts and editors read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm_kunlun.cli.lint.finding import Finding, Rule

__all__ = ["as_sarif"]


def as_sarif(findings: Sequence[Finding], rules: Sequence[Rule], version: str) -> dict[str, Any]:
    """One run of the tool ``vllm-kunlun lint``."""
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "vllm-kunlun lint",
                        "version": version,
                        "rules": [
                            {
                                "id": rule.name,
                                "shortDescription": {"text": rule.finds},
                                "fullDescription": {"text": rule.why},
                                "help": {"text": rule.fix},
                            }
                            for rule in rules
                        ],
                    }
                },
                "results": [
                    {
                        "ruleId": each.rule,
                        "level": "warning",
                        "message": {"text": f"{each.message}: {each.why}. {each.fix}"},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": each.file},
                                    "region": {
                                        "startLine": each.line,
                                        "startColumn": each.column,
                                    },
                                }
                            }
                        ],
                    }
                    for each in findings
                ],
            }
        ],
    }
