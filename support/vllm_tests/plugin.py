# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin that runs one suite of the allow-list (`-p vllm_tests.plugin --suite NAME`)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from vllm_tests import suites

__all__ = ["allow", "thin"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", required=True, help="a suite of the allow-list")
    parser.addoption("--suites", default=str(suites.FOLDER), help="the folder of the allow-list")
    parser.addoption("--record", help="a JSON file for the outcomes")


def pytest_configure(config: pytest.Config) -> None:
    suite = suites.read(config.getoption("--suite"), Path(config.getoption("--suites")))
    config.pluginmanager.register(Judge(suite, config.getoption("--record")), "judge")


class Judge:
    """Applies a suite to what pytest collected, and counts what came of it."""

    def __init__(self, suite: suites.Suite, record: str | None) -> None:
        self.suite = suite
        self.file = Path(record) if record else None
        self.outcomes: dict[str, tuple[str, float, str]] = {}
        self.not_applicable = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        unused, dropped = allow(self.suite, items)
        # A run of chosen tests (`-- NAME -k word`) says nothing of the others.
        if unused and not config.getoption("-k") and not config.getoption("--collect-only"):
            raise pytest.UsageError(
                f"{self.suite.name}.toml names tests that there are not: {unused}"
            )
        self.not_applicable = len(dropped)
        thinned = thin(items, self.suite.cap)
        config.hook.pytest_deselected(items=[*dropped, *thinned])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome: str = report.outcome
        if hasattr(report, "wasxfail") and report.wasxfail.startswith(suites.WHOSE):
            outcome = "known"  # what vLLM itself expects to fail is skipped
        elif report.when != "call" and report.passed:
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        why = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else str(report.longrepr)
        known = self.outcomes.get(report.nodeid, ("passed", 0.0, ""))
        if known[0] in ("passed", outcome):
            self.outcomes[report.nodeid] = (outcome, report.duration, why[:1500])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.file is not None:
            counts = Counter(outcome for outcome, _, _ in self.outcomes.values())
            counts["not applicable"] = self.not_applicable
            record = {"counts": counts, "tests": self.outcomes}
            self.file.write_text(json.dumps(record, indent=1))


def allow(suite: suites.Suite, items: list[pytest.Item]) -> tuple[list[str], list[pytest.Item]]:
    """Mark what is known to fail, take out what does not apply.

    Returns:
        The patterns that name no test, and the tests that were taken out.
    """
    unused = []
    away: set[pytest.Item] = set()
    for entry in suite.not_applicable:
        for pattern in entry.tests:
            named = {item for item in items if suites.matches(pattern, item.nodeid)}
            away |= named
            if not named:
                unused.append(pattern)
    for entry in suite.known:
        for pattern in entry.tests:
            named = {item for item in items if suites.matches(pattern, item.nodeid)}
            for item in named:
                # In front of marks of vLLM's own, of which pytest would take the first that holds.
                mark = pytest.mark.xfail(reason=f"{entry.whose}: {entry.why}", strict=True)
                item.add_marker(mark, append=False)
            if not named:
                unused.append(pattern)
    items[:] = [item for item in items if item not in away]
    return unused, sorted(away, key=lambda item: item.nodeid)


def thin(items: list[pytest.Item], cap: int) -> list[pytest.Item]:
    """Keep at most ``cap`` parametrisations of each function; returns what was taken out."""
    groups: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        groups[item.nodeid.partition("[")[0]].append(item)
    kept = {item for group in groups.values() for item in _stride(group, cap)}
    away = [item for item in items if item not in kept]
    items[:] = [item for item in items if item in kept]
    return away


def _stride(group: list[pytest.Item], cap: int) -> Iterable[pytest.Item]:
    if not cap or len(group) <= cap:
        return group
    return [group[index * len(group) // cap] for index in range(cap)]
