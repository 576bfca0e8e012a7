# SPDX-License-Identifier: Apache-2.0
"""Run vLLM's own tests on our platform, through the allow-list of support/vllm_tests/suites.

python support/upstream.py                            # every suite
python support/upstream.py sampling layers            # these
python support/upstream.py sampling -- -k penalties   # these tests of it
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vllm_tests import home, sources, suites
from vllm_tests.errors import UpstreamError

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".nox" / "upstream"
COLUMNS = ("passed", "failed", "known", "skipped", "not applicable")


def main(arguments: list[str]) -> None:
    divider = arguments.index("--") if "--" in arguments else len(arguments)
    chosen, more = arguments[:divider] or suites.names(), arguments[divider + 1 :]
    read = [suites.read(name) for name in chosen]
    tree = sources.make(CACHE)
    hub = home.make(CACHE, tree)
    print(f"{'suite':16}" + "".join(f"{column:>16}" for column in (*COLUMNS, "seconds")))
    problems = []
    total: Counter[str] = Counter()
    for suite in read:
        counts, seconds, code = run(suite, tree, hub, more)
        show(suite.name, counts, seconds)
        total.update(counts, seconds=round(seconds))
        if code:
            problems.append(f"{suite.name}: pytest ended with code {code}")
        elif not more and counts.get("passed", 0) < suite.passes:
            problems.append(f"{suite.name}: {suite.passes} are said to pass")
    show("all", total, total["seconds"])
    if problems:
        sys.exit("\n".join(problems))


def show(name: str, counts: Mapping[str, int], seconds: float) -> None:
    """One line of the table."""
    numbers = "".join(f"{counts.get(column, 0):16}" for column in COLUMNS)
    print(f"{name:16}{numbers}{seconds:16.0f}", flush=True)


def run(
    suite: suites.Suite, tree: Path, hub: Path, more: list[str]
) -> tuple[dict[str, int], float, int]:
    """Run one suite in a process of its own: its counts, its seconds, pytest's exit code."""
    record = CACHE / f"{suite.name}.json"
    record.unlink(missing_ok=True)
    environment = {
        "HF_HOME": str(hub),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(tree), str(ROOT / "support")]),
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CACHE_ROOT": str(CACHE / "vllm"),
        "VLLM_KUNLUN_DEVICE": "emulated",
        "VLLM_NO_USAGE_STATS": "1",
        **suite.environment,
    }
    begin = time.monotonic()
    done = subprocess.run(
        [
            *("env", *(f"{name}={value}" for name, value in environment.items())),
            *(sys.executable, "-m", "pytest", "-q", "--durations=10"),
            *("-p", "vllm_tests.device", "-p", "vllm_tests.plugin", "-p", "no:cacheprovider"),
            *("-o", "addopts=", f"--timeout={suite.seconds}"),
            *(f"--suite={suite.name}", f"--record={record}", *suite.tests, *more),
        ],
        cwd=tree,
        stdout=(CACHE / f"{suite.name}.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    counts = json.loads(record.read_text())["counts"] if record.exists() else {}
    return counts, time.monotonic() - begin, done.returncode


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UpstreamError as error:
        sys.exit(str(error))
