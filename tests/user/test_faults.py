# SPDX-License-Identifier: Apache-2.0
"""Planted faults: each gives one clear message where the user looks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

START = "from vllm.platforms import current_platform; current_platform.device_name"


def run(program: str, *, path: Path | None = None, **environment: str) -> str:
    """Run a Python program; return everything that it printed."""
    search = [str(path)] if path else []
    search += filter(None, [os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search), **environment},
    )
    return done.stdout + done.stderr


def last_line(output: str) -> str:
    return output.strip().splitlines()[-1]


def test_xpu_without_a_card_says_what_is_missing():
    message = last_line(run(START, VLLM_KUNLUN_DEVICE="xpu"))
    assert message.startswith("vllm_kunlun.platforms.errors.DeviceUnavailableError")
    for word in ("xpu", "kunlun_ops", "xspeedgate_ops", "VLLM_KUNLUN_DEVICE=emulated"):
        assert word in message


def test_an_unknown_device_lists_the_known_ones():
    message = last_line(run(START, VLLM_KUNLUN_DEVICE="gpu"))
    assert "VLLM_KUNLUN_DEVICE='gpu'" in message
    assert "auto or xpu or emulated" in message


def plant_distribution(folder: Path, name: str, version: str, entry_points: str = "") -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_an_unsupported_vllm_is_named_with_the_range(tmp_path):
    plant_distribution(tmp_path, "vllm", "0.11.0")
    message = last_line(run(START, path=tmp_path))
    assert message.startswith("vllm_kunlun.platforms.errors.IncompatibleVllmError")
    assert "0.11.0" in message
    assert "0.15.1" in message
    assert "pip install" in message


def test_a_stale_redirect_is_named(tmp_path):
    (tmp_path / "stale_provider.py").write_text(
        textwrap.dedent(
            """
            from vllm_kunlun.platforms.ledger.import_hook import Redirect

            def redirects():
                return [Redirect(
                    target="vllm.v1.sample.gone", replacement="json", why="test", upstream="",
                    vllm_range=">=0.15", sha256="0" * 64, remove_when="never",
                )]
            """
        )
    )
    plant_distribution(
        tmp_path, "stale-wheel", "1.0",
        "[vllm_kunlun.module_redirects]\nstale = stale_provider:redirects\n",
    )  # fmt: skip
    message = last_line(run(START, path=tmp_path))
    assert message.startswith("vllm_kunlun.platforms.errors.RedirectError")
    assert "vllm.v1.sample.gone" in message


def test_a_missing_wheel_is_named():
    program = """
        from vllm_kunlun.platforms import wheels
        from vllm_kunlun.platforms.checks import attention_backends
        wheels.entry_points = lambda **_: []  # as where the wheel is not installed
        attention_backends.find("mla")
    """
    message = last_line(run(program))
    assert "MissingWheelError" in message
    assert "pip install kunlun-mla" in message


def test_a_vendor_library_without_a_function_is_named():
    program = """
        import types, torch
        from vllm_kunlun.ops import vendor_ops
        from vllm_kunlun.ops.vendor_ops import library
        empty = types.SimpleNamespace()
        with library.use_libraries(kunlun_ops=empty, xspeedgate_ops=empty):
            vendor_ops.swiglu(x=torch.ones(1, 2), y=torch.ones(1, 1))
    """
    message = last_line(run(program))
    assert "VendorLibraryError" in message
    assert "swiglu" in message
    assert "doctor" in message


def test_a_truncated_checkpoint_is_refused(checkpoint, tmp_path):
    source = checkpoint("qwen3")
    for file in source.iterdir():
        content = file.read_bytes()
        half = len(content) // 2 if file.suffix == ".safetensors" else len(content)
        (tmp_path / file.name).write_bytes(content[:half])
    program = f"""
        from vllm import LLM
        LLM(model={str(tmp_path)!r}, dtype="float32", skip_tokenizer_init=True,
            enforce_eager=True, max_model_len=64, kv_cache_memory_bytes=2**24)
    """
    output = run(program, VLLM_ENABLE_V1_MULTIPROCESSING="0")
    assert "is not a whole safetensors file" in output
    assert str(tmp_path / "model.safetensors") in output
    assert "download it again" in output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kv_cache_dtype": "fp8"}, ("fp8", "auto")),
        ({"block_size": 8}, ("8", "16, 32, 64 or 128")),
        ({"enable_sleep_mode": True}, ("leep",)),
        ({"quantization": "fp8"}, ("fp8", "W8A8")),
    ],
    ids=["kv-cache-dtype", "block-size", "sleep-mode", "quantization"],
)
def test_an_unsupported_option_names_the_alternative(options, words, checkpoint):
    from support.engine import engine

    with pytest.raises(Exception) as refused, engine(checkpoint("qwen3"), **options):
        pass
    for word in words:
        assert word in str(refused.value)
