# SPDX-License-Identifier: Apache-2.0
"""SARIF: what readers of it need."""

from vllm_kunlun.cli.lint.finding import Rule, at
from vllm_kunlun.cli.lint.sarif import as_sarif

RULE = Rule(name="r", finds="f", why="w", fix="x")


def test_a_finding_points_to_its_rule_and_place():
    log = as_sarif([at(RULE, "a.py", 2, 3, message="m")], [RULE], "1")
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    (result,) = run["results"]
    assert result["ruleId"] in [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert result["message"]["text"] == "m: w. x"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a.py"
    assert place["region"] == {"startLine": 2, "startColumn": 3}
