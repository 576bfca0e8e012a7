# SPDX-License-Identifier: Apache-2.0
"""The wheels as users get them: built, installed alone in a clean environment, run, resolved."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from email.parser import Parser
from pathlib import Path

import members
import pytest
import torch
import transformers
from packaging.requirements import Requirement
from support import clean, internlm, mimo
from support.clean import uv

WHEELS = {wheel.name: wheel for wheel in members.read_all()}
"""Distribution -> what its own pyproject.toml says of it."""
EMULATOR = "kunlun-emulator"
META = "vllm-kunlun"

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


@pytest.fixture(scope="session")
def dist(request, tmp_path_factory) -> Path:
    if built := request.config.getoption("built"):
        return built
    return clean.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def wheels(dist) -> dict[str, Path]:
    return {metadata(path)["Name"]: path for path in dist.glob("*.whl")}


def metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def holds(wheel: Path) -> tuple[list[str], list[str]]:
    """Files of a built wheel: those that it installs for import, and those about itself."""
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    about = [file for file in files if ".dist-info/" in file]
    return [file for file in files if file not in about], about


def test_each_wheel_holds_only_the_package_that_it_owns(wheels):
    assert set(wheels) == {*WHEELS, META}
    for name, wheel in WHEELS.items():
        code, _ = holds(wheels[name])
        package = wheel.owns.replace(".", "/")
        assert f"{package}/__init__.py" in code
        assert f"{package}/py.typed" in code
        assert [file for file in code if not file.startswith(f"{package}/")] == []
    assert holds(wheels[META])[0] == []


def test_a_family_owns_what_its_folder_is_called():
    for wheel in WHEELS.values():
        family = wheel.folder.removeprefix(f"{members.FAMILIES}/")
        assert (family != wheel.folder) == wheel.owns.startswith("vllm_kunlun.models.")
        if family != wheel.folder:
            assert wheel.owns == f"vllm_kunlun.models.{family.replace('-', '_')}"


def test_no_file_is_in_two_wheels_and_no_package_in_another_ones(wheels):
    owners = [(file, name) for name, path in wheels.items() for file in holds(path)[0]]
    assert len({file for file, _ in owners}) == len(owners)
    packages = [wheel.owns for wheel in WHEELS.values()]
    assert [(a, b) for a in packages for b in packages if a.startswith(f"{b}.")] == []
    assert len(set(packages)) == len(packages)


def test_each_wheel_carries_its_licence(wheels):
    for path in wheels.values():
        assert any(file.endswith("licenses/LICENSE") for file in holds(path)[1])
        assert metadata(path)["License-Expression"] == "Apache-2.0"


def required(wheel: Path) -> set[str]:
    """Distributions that a built wheel asks for without an extra."""
    asked = [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist") or []]
    return {r.name for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})}


def test_no_plugin_wheel_asks_for_vllm_or_torch_or_the_emulator(wheels):
    for name in WHEELS:
        assert required(wheels[name]) & {"vllm", "torch", META, EMULATOR} == set(), name


def test_a_wheel_built_again_is_the_one_that_is_installed(tmp_path):
    source, dist = tmp_path / "source", tmp_path / "dist"
    wheel = WHEELS["kunlun-platform"]
    shutil.copytree(clean.ROOT / wheel.folder, source)
    module = Path(wheel.owns.replace(".", "/"), "built.py")
    for time in ("first", "second"):
        (source / "src" / module).write_text(f"TIME = {time!r}\n")
        uv("build", "--wheel", "--clear", "--out-dir", dist, source)
        python = clean.environment(tmp_path / time, dist, wheel.name)
        packages = next(python.parents[1].glob("lib/*/site-packages"))
        assert (packages / module).read_text() == f"TIME = {time!r}\n"


def brings(wheels: dict[str, Path], *names: str) -> set[str]:
    """``names`` and the wheels of this project that they need, by what is in the built wheels."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name in WHEELS and name not in found:
            found.add(name)
            left += required(wheels[name])
    return found


def resolve(dist: Path, tmp_path: Path, extra: str) -> set[str]:
    """Names that ``vllm-kunlun[extra]`` brings, as pip's rules resolve them from the wheels."""
    wanted = tmp_path / "wanted.in"
    wanted.write_text(f"vllm-kunlun[{extra}]\n")
    done = uv("pip", "compile", "--no-config", "--no-header", "--no-annotate", "--quiet",
              "--find-links", dist, *members.as_built(), wanted, cwd=tmp_path)  # fmt: skip
    return {line.partition("==")[0] for line in done.stdout.splitlines() if "==" in line}


ON_A_CARD = {name for name, wheel in WHEELS.items() if wheel.card}
EXTRAS = {
    "all": {*WHEELS},
    "xpu": ON_A_CARD,
    **{
        wheel.extra: {wheel.name, *(("kunlun-quant", "kunlun-cli") if wheel.is_family else ())}
        for wheel in WHEELS.values()
        if wheel.extra
    },
}
"""Extra -> the wheels that it is made of; what those need comes with them."""


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_resolve(dist, wheels, tmp_path, extra):
    """Each extra brings its wheels and no other family's; only [all] brings vLLM."""
    names = resolve(dist, tmp_path, extra)
    assert names & {*WHEELS} == brings(wheels, *EXTRAS[extra])
    assert META in names
    assert ("vllm" in names, "torch" in names) == (extra == "all", extra == "all")


@pytest.mark.parametrize(
    ("extra", "has"),
    [("all", True), ("deepseek,emulator", True), ("xpu", False), ("deepseek", False)],
)
def test_a_card_installs_no_emulator(dist, tmp_path, extra, has):
    names = resolve(dist, tmp_path, extra)
    assert {"kunlun-platform", "kunlun-custom-ops", "kunlun-models-deepseek"} <= names
    assert (EMULATOR in names) == has


def test_several_hosts_want_ray_alone(dist, tmp_path):
    names = resolve(dist, tmp_path, "ray")
    assert "ray" in names
    assert not names & {*WHEELS, "vllm", "torch", "cupy-cuda12x"}


_TINY = {
    "vocab_size": 320, "hidden_size": 192, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 6, "initializer_range": 0.15, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "qwen": lambda: transformers.Qwen2Config(**_TINY, num_key_value_heads=2),
    "deepseek": lambda: transformers.DeepseekV2Config(
            **_TINY, num_key_value_heads=6, kv_lora_rank=48, q_lora_rank=56, qk_nope_head_dim=24,
            qk_rope_head_dim=16, v_head_dim=32, moe_intermediate_size=40, n_routed_experts=8,
            num_experts_per_tok=2, first_k_dense_replace=1, n_group=1, topk_group=1,
        ),
    "gpt-oss": lambda: transformers.GptOssConfig(
            **{**_TINY, "num_attention_heads": 4}, num_key_value_heads=2, head_dim=32,
            num_local_experts=4, num_experts_per_tok=2, sliding_window=11,
        ),
    "seed-oss": lambda: transformers.SeedOssConfig(**_TINY, num_key_value_heads=2, head_dim=32),
    "intern": lambda: transformers.LlamaConfig(**_TINY, num_key_value_heads=2),
    "mimo": lambda: transformers.Qwen2Config(**_TINY, num_key_value_heads=2),
}  # fmt: skip
"""Family -> a tiny model of it, or one that is renamed to it."""

RENAMED = {
    "intern": lambda folder: internlm.write(folder, folder.parent / "internlm2"),
    "mimo": mimo.of_qwen2,
}


# Workers that run side by side take a family each, for its environment is made once.
@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FAMILIES],
)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def clean_python(dist, family, tmp_path_factory) -> Path:
    """Python of a new environment: family wheel, what it needs, emulator and vLLM; not the tree."""
    folder = tmp_path_factory.mktemp("clean") / "env"
    return clean.environment(folder, dist, f"kunlun-models-{family}", EMULATOR, "vllm==0.15.1")


def run_engine(
    python: Path, checkpoint: Path, folder: Path, device: str = "emulated"
) -> subprocess.CompletedProcess[str]:
    script = folder / "run.py"
    script.write_text(ENGINE)
    return subprocess.run(
        [python, script, checkpoint], cwd=folder, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "HF_HUB_OFFLINE": "1",
             "OMP_NUM_THREADS": "2", "VLLM_KUNLUN_DEVICE": device},
        timeout=600, check=False,
    )  # fmt: skip


def runs_like_transformers(python: Path, family: str, folder: Path) -> str:
    """A tiny random model of ``family`` answers as HF's; returns what the engine printed."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
    checkpoint = folder / "model"
    model.save_pretrained(checkpoint)
    made = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=8, do_sample=False)
    checkpoint = RENAMED.get(family, lambda same: same)(checkpoint)

    done = run_engine(python, checkpoint, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"RESULT KunlunPlatform {made[0, 3:].tolist()}" in done.stdout
    return done.stdout + done.stderr


def test_one_family_alone_runs_the_engine(clean_python, wheels, family, tmp_path):
    listed = json.loads(uv("pip", "list", "--python", clean_python, "--format", "json").stdout)
    ours = {d["name"]: d for d in listed if d["name"].startswith(("kunlun", "vllm-kunlun"))}
    assert set(ours) == brings(wheels, f"kunlun-models-{family}", EMULATOR)
    assert not any("editable_project_location" in d for d in ours.values())

    said = runs_like_transformers(clean_python, family, tmp_path)
    assert f"of the family {family} (kunlun-models-{family})" in said


def test_without_the_emulator_the_one_error_names_it(clean_python, dist, family, tmp_path):
    if family != "qwen":
        pytest.skip("once is enough")
    uv("pip", "uninstall", "--python", clean_python, EMULATOR)
    try:
        transformers.AutoModelForCausalLM.from_config(FAMILIES[family]()).save_pretrained(tmp_path)
        done = run_engine(clean_python, tmp_path, tmp_path)
    finally:
        clean.install(clean_python, dist, EMULATOR)
    assert done.returncode != 0
    assert "RESULT" not in done.stdout
    errors = [line for line in done.stderr.splitlines() if "Error: " in line]
    assert len(errors) == 1, done.stderr
    assert "MissingWheelError" in errors[0] and f"pip install {EMULATOR}" in errors[0]


def test_two_families_and_one_again(clean_python, dist, family, tmp_path):
    if family != "seed-oss":
        pytest.skip("once is enough")
    added = "kunlun-models-qwen"
    clean.install(clean_python, dist, added)
    (tmp_path / "qwen").mkdir()
    said = runs_like_transformers(clean_python, "qwen", tmp_path / "qwen")
    assert "of the family qwen" in said
    uv("pip", "uninstall", "--python", clean_python, added)
    said = runs_like_transformers(clean_python, family, tmp_path)
    assert f"of the family {family}" in said


def test_without_its_family_a_model_is_told_how_it_runs(clean_python, family):
    if family == "qwen":
        pytest.skip("this one has it")
    code = "from vllm_kunlun.platforms.families import served_by; print(served_by('Qwen3VLModel'))"
    said = subprocess.run([clean_python, "-c", code], capture_output=True, text=True, check=True)
    assert "own class" in said.stdout and "pip install kunlun-models-qwen" in said.stdout
