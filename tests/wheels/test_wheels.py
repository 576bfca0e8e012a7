# SPDX-License-Identifier: Apache-2.0
"""Wheels as they are published: built, installed without this tree, run; extras resolved."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def uv(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["uv", *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def dist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--all-packages", "--wheel", "--out-dir", str(folder), "--directory", str(ROOT))
    return folder


def wheel(dist: Path, name: str) -> Path:
    (found,) = dist.glob(f"{name}-*.whl")
    return found


def test_wheels_share_the_namespace_and_no_file(dist):
    owners: dict[str, str] = {}
    for path in dist.glob("*.whl"):
        for name in zipfile.ZipFile(path).namelist():
            if ".dist-info/" in name:
                continue
            assert name != "vllm_kunlun/__init__.py"
            assert name not in owners, f"{name} is in {owners[name]} and {path.name}"
            owners[name] = path.name
    assert len(owners) > 40
    assert not any("vllm_kunlun-" in owner for owner in owners.values()), "extras only"


def resolve(dist: Path, requirement: str) -> set[str]:
    """Names that ``uv pip compile`` would install for a requirement."""
    done = subprocess.run(
        ["uv", "pip", "compile", "-", "--find-links", str(dist), "--no-header", "--no-annotate",
         "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"],
        input=requirement, capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {line.partition("==")[0] for line in done.stdout.split() if "==" in line}


@pytest.mark.parametrize(
    ("extra", "present", "absent"),
    [
        ("all", {"kunlun-platform", "kunlun-custom-ops", "kunlun-cli", "kunlun-models-qwen",
                 "vllm", "torch"}, set()),
        ("xpu", {"kunlun-platform", "kunlun-custom-ops", "kunlun-cli", "kunlun-models-qwen"},
         {"vllm", "torch"}),
        ("qwen", {"kunlun-platform", "kunlun-custom-ops", "kunlun-models-qwen"},
         {"vllm", "torch"}),
    ],
)  # fmt: skip
def test_extras_resolve(dist, extra, present, absent):
    names = resolve(dist, f"vllm-kunlun[{extra}]==0.15.1.post1")
    assert present <= names
    assert not absent & names


def test_one_family_alone_serves(dist, checkpoint, tmp_path):
    """Only ``kunlun-models-qwen`` and what it needs, beside the vLLM of this environment."""
    site = tmp_path / "site"
    uv("pip", "install", "--python", sys.executable, "--target", str(site), "--no-deps",
       *(str(wheel(dist, name)) for name in
         ("kunlun_models_qwen", "kunlun_custom_ops", "kunlun_platform")))  # fmt: skip
    environment = tmp_path / "environment"
    uv("venv", "--python", sys.executable, str(environment))
    # The clean environment sees vLLM's site-packages, but none of this tree's editable installs:
    # those are .pth files, which only the environment's own site folder would run.
    import vllm

    libraries = Path(vllm.__file__).parents[1]
    program = f"""
import sys
sys.path[:0] = [{str(site)!r}]
sys.path.append({str(libraries)!r})
from vllm import LLM, SamplingParams
import vllm_kunlun.platforms, vllm_kunlun.ops
assert vllm_kunlun.ops.__file__.startswith({str(site)!r}), vllm_kunlun.ops.__file__
llm = LLM(model={str(checkpoint("qwen3"))!r}, dtype="float32", skip_tokenizer_init=True,
          enforce_eager=True, max_model_len=64, kv_cache_memory_bytes=2**24)
model = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.get_model()
print("class:", type(model).__name__)
answer = llm.generate([{{"prompt_token_ids": [5, 6, 7]}}],
                      SamplingParams(temperature=0, max_tokens=4, detokenize=False))
print("tokens:", len(answer[0].outputs[0].token_ids))
try:
    import vllm_kunlun.cli
except ModuleNotFoundError:
    print("no cli")
"""
    script = tmp_path / "program.py"
    script.write_text(f"if __name__ == '__main__':\n{_indented(program)}")
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-S", str(script)],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1",
             "PYTHONPATH": f"{site}{os.pathsep}{libraries}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "class: KunlunQwen3ForCausalLM" in done.stdout
    assert "tokens: 4" in done.stdout
    assert "no cli" in done.stdout


def _indented(program: str) -> str:
    return "\n".join(f"    {line}" for line in program.splitlines())
