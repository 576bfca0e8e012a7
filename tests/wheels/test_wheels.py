# SPDX-License-Identifier: Apache-2.0
"""The wheels as users get them: built, installed alone in a clean environment, run, resolved."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import torch
import transformers
from support import internlm, mimo

ROOT = Path(__file__).parents[2]

OWNS = {
    "kunlun_platform": "vllm_kunlun/platforms/",
    "kunlun_custom_ops": "vllm_kunlun/ops/",
    "kunlun_mla": "vllm_kunlun/mla/",
    "kunlun_models_deepseek": "vllm_kunlun/models/deepseek/",
    "kunlun_quant": "vllm_kunlun/quantization/",
    "kunlun_models_qwen": "vllm_kunlun/models/qwen/",
    "kunlun_models_gpt_oss": "vllm_kunlun/models/gpt_oss/",
    "kunlun_models_seed_oss": "vllm_kunlun/models/seed_oss/",
    "kunlun_models_intern": "vllm_kunlun/models/intern/",
    "kunlun_models_mimo": "vllm_kunlun/models/mimo/",
    "kunlun_cli": "vllm_kunlun/cli/",
    "vllm_kunlun": None,
}
"""Wheel -> the only folder it may hold; None for the meta-package, which holds none."""

ENGINE = """
import sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    llm = LLM(sys.argv[1], dtype="float32", max_model_len=128, skip_tokenizer_init=True,
              trust_remote_code=True, kv_cache_memory_bytes=2**26)
    out = llm.generate({"prompt_token_ids": [5, 6, 7]},
                       SamplingParams(temperature=0, max_tokens=8, detokenize=False))
    from vllm.platforms import current_platform
    print("RESULT", type(current_platform).__name__, list(out[0].outputs[0].token_ids))
"""


def uv(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["uv", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"uv {arguments}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def dist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--all-packages", "--wheel", "--out-dir", folder)
    return folder


@pytest.fixture(scope="session")
def wheels(dist) -> dict[str, Path]:
    return {path.name.partition("-")[0]: path for path in dist.glob("*.whl")}


def metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_each_wheel_holds_its_own_folder_and_the_licence(wheels):
    assert set(wheels) == set(OWNS)
    for name, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            files = archive.namelist()
        code = [f for f in files if ".dist-info/" not in f]
        if OWNS[name] is None:
            assert code == []
        else:
            assert code
            assert all(f.startswith(OWNS[name]) for f in code), code
        assert any(f.endswith("licenses/LICENSE") for f in files)
        assert metadata(wheel)["License-Expression"] == "Apache-2.0"


def test_no_plugin_wheel_asks_for_vllm_or_torch(wheels):
    for name in set(wheels) - {"vllm_kunlun"}:
        required = metadata(wheels[name]).get_all("Requires-Dist") or []
        assert not [r for r in required if r.startswith(("vllm", "torch"))], required


def resolve(dist: Path, tmp_path: Path, extra: str) -> set[str]:
    """Names that ``vllm-kunlun[extra]`` brings, as pip's rules resolve them from the wheels."""
    wanted = tmp_path / "wanted.in"
    wanted.write_text(f"vllm-kunlun[{extra}]\n")
    done = uv("pip", "compile", "--no-config", "--no-header", "--no-annotate", "--quiet",
              "--find-links", dist, wanted, cwd=tmp_path)  # fmt: skip
    return {line.partition("==")[0] for line in done.stdout.splitlines() if "==" in line}


EVERY = set(OWNS) - {"vllm_kunlun"}
NEEDED = {"kunlun_platform", "kunlun_custom_ops", "kunlun_cli"}
EXTRAS = {
    "all": EVERY,
    "xpu": EVERY,
    "deepseek": NEEDED | {"kunlun_quant", "kunlun_mla", "kunlun_models_deepseek"},
    "qwen": NEEDED | {"kunlun_quant", "kunlun_models_qwen"},
    "gpt-oss": NEEDED | {"kunlun_quant", "kunlun_models_gpt_oss"},
    "seed-oss": NEEDED | {"kunlun_quant", "kunlun_models_seed_oss"},
    "intern": NEEDED | {"kunlun_quant", "kunlun_models_intern"},
    "mimo": NEEDED | {"kunlun_quant", "kunlun_models_mimo"},
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_resolve(dist, tmp_path, extra):
    """Each extra brings its wheels and no other family's; only [all] brings vLLM."""
    names = {name.replace("-", "_") for name in resolve(dist, tmp_path, extra)}
    assert names & EVERY == EXTRAS[extra]
    assert "vllm_kunlun" in names
    assert ("vllm" in names, "torch" in names) == (extra == "all", extra == "all")


_TINY = {
    "vocab_size": 320, "hidden_size": 192, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 6, "initializer_range": 0.15, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "qwen": (
        {"kunlun-platform", "kunlun-custom-ops", "kunlun-models-qwen"},
        lambda: transformers.Qwen2Config(**_TINY, num_key_value_heads=2),
    ),
    "deepseek": (
        {"kunlun-platform", "kunlun-custom-ops", "kunlun-mla", "kunlun-models-deepseek"},
        lambda: transformers.DeepseekV2Config(
            **_TINY, num_key_value_heads=6, kv_lora_rank=48, q_lora_rank=56, qk_nope_head_dim=24,
            qk_rope_head_dim=16, v_head_dim=32, moe_intermediate_size=40, n_routed_experts=8,
            num_experts_per_tok=2, first_k_dense_replace=1, n_group=1, topk_group=1,
        ),
    ),
    "gpt-oss": (
        {"kunlun-platform", "kunlun-custom-ops", "kunlun-quant", "kunlun-models-gpt-oss"},
        lambda: transformers.GptOssConfig(
            **{**_TINY, "num_attention_heads": 4}, num_key_value_heads=2, head_dim=32,
            num_local_experts=4, num_experts_per_tok=2, sliding_window=11,
        ),
    ),
    "seed-oss": (
        {"kunlun-platform", "kunlun-custom-ops", "kunlun-models-seed-oss"},
        lambda: transformers.SeedOssConfig(**_TINY, num_key_value_heads=2, head_dim=32),
    ),
    "intern": (
        {"kunlun-platform", "kunlun-custom-ops", "kunlun-models-intern"},
        lambda: transformers.LlamaConfig(**_TINY, num_key_value_heads=2),
    ),
    "mimo": (
        {"kunlun-platform", "kunlun-custom-ops", "kunlun-models-mimo"},
        lambda: transformers.Qwen2Config(**_TINY, num_key_value_heads=2),
    ),
}  # fmt: skip
"""Family -> the wheels that it brings, and a tiny model of it, or one that is renamed to it."""

RENAMED = {
    "intern": lambda folder: internlm.write(folder, folder.parent / "internlm2"),
    "mimo": mimo.of_qwen2,
}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def clean_python(dist, family, tmp_path_factory) -> Path:
    """Python of a new environment with the family wheel, what it needs, and vLLM; not the tree.

    The install runs in the tree's root so that uv applies the pins and exclusions written there.
    """
    folder = tmp_path_factory.mktemp("clean") / "env"
    uv("venv", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    uv("pip", "install", "--python", python, "--find-links", dist, "--no-sources",
       f"kunlun-models-{family}", "vllm==0.15.1")  # fmt: skip
    return python


def runs_like_transformers(
    python: Path, family: str, configuration: transformers.PretrainedConfig, folder: Path
) -> str:
    """A tiny random model of ``family`` answers as HF's; returns what the engine printed."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configuration).eval()
    checkpoint = folder / "model"
    model.save_pretrained(checkpoint)
    made = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=8, do_sample=False)
    checkpoint = RENAMED.get(family, lambda same: same)(checkpoint)

    script = folder / "run.py"
    script.write_text(ENGINE)
    done = subprocess.run(
        [python, script, checkpoint], cwd=folder, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "HF_HUB_OFFLINE": "1",
             "OMP_NUM_THREADS": "2", "VLLM_KUNLUN_DEVICE": "emulated"},
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"RESULT KunlunPlatform {made[0, 3:].tolist()}" in done.stdout
    return done.stdout + done.stderr


def test_one_family_alone_runs_the_engine(clean_python, family, tmp_path):
    brought, configuration = FAMILIES[family]
    listed = json.loads(uv("pip", "list", "--python", clean_python, "--format", "json").stdout)
    ours = {d["name"]: d for d in listed if d["name"].startswith(("kunlun", "vllm-kunlun"))}
    assert set(ours) == brought
    assert not any("editable_project_location" in d for d in ours.values())

    said = runs_like_transformers(clean_python, family, configuration(), tmp_path)
    assert f"of the family {family} (kunlun-models-{family})" in said


def test_two_families_and_one_again(clean_python, dist, family, tmp_path):
    if family != "seed-oss":
        pytest.skip("once is enough")
    brought, configuration = FAMILIES["qwen"]
    added = sorted(brought - FAMILIES[family][0])
    uv("pip", "install", "--python", clean_python, "--find-links", dist, "--no-sources", *added)
    (tmp_path / "qwen").mkdir()
    said = runs_like_transformers(clean_python, "qwen", configuration(), tmp_path / "qwen")
    assert "of the family qwen" in said
    uv("pip", "uninstall", "--python", clean_python, *added)
    said = runs_like_transformers(clean_python, family, FAMILIES[family][1](), tmp_path)
    assert f"of the family {family}" in said


def test_without_its_family_a_model_is_told_how_it_runs(clean_python, family):
    if family == "qwen":
        pytest.skip("this one has it")
    code = "from vllm_kunlun.platforms.families import served_by; print(served_by('Qwen3VLModel'))"
    said = subprocess.run([clean_python, "-c", code], capture_output=True, text=True, check=True)
    assert "own class" in said.stdout and "pip install kunlun-models-qwen" in said.stdout
