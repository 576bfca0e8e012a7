# SPDX-License-Identifier: Apache-2.0
"""The wheel's entry points: what they load, and that loading them twice is harmless."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import vllm.platforms
from vllm.model_executor.custom_op import op_registry_oot

from vllm_kunlun.ops import plugin
from vllm_kunlun.ops.layers import LAYERS
from vllm_kunlun.ops.vllm_modules.redirects import redirects


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "VLLM_KUNLUN_DEVICE": "emulated", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def _entry_points() -> list[Any]:
    return list(metadata.distribution("kunlun-custom-ops").entry_points)


def test_the_wheel_says_what_it_provides() -> None:
    assert {(entry.group, entry.name) for entry in _entry_points()} >= {
        ("vllm.general_plugins", "kunlun_ops"),
        ("vllm_kunlun.attention_backends", "dense"),
        ("vllm_kunlun.module_redirects", "kunlun_ops"),
        ("vllm_kunlun.patches", "kunlun_ops"),
    }


@pytest.mark.parametrize("entry", _entry_points(), ids=lambda entry: f"{entry.group}:{entry.name}")
def test_each_entry_point_loads_twice(entry: Any) -> None:
    assert entry.load() is entry.load()


def test_registering_twice_leaves_one_set_of_layers() -> None:
    plugin.register()
    before = dict(op_registry_oot)
    plugin.register()
    assert op_registry_oot == before
    assert {name: op_registry_oot[name] for name in LAYERS} == LAYERS


def test_on_another_platform_nothing_is_registered() -> None:
    from vllm.platforms.cpu import CpuPlatform

    with (
        mock.patch.dict(op_registry_oot, clear=True),
        mock.patch.object(vllm.platforms, "_current_platform", CpuPlatform()),
    ):
        plugin.register()
        assert op_registry_oot == {}


APPLIED = [each for each in redirects() if each.out_of_range() is None]


@pytest.mark.parametrize("redirect", APPLIED, ids=lambda redirect: redirect.target)
def test_redirect_was_written_against_the_installed_vllm(redirect: Any) -> None:
    root = Path(importlib.util.find_spec("vllm").origin).parent
    source = root.joinpath(*redirect.target.split(".")[1:]).with_suffix(".py")
    assert hashlib.sha256(source.read_bytes()).hexdigest() in redirect.expected_sha256()
    assert importlib.util.find_spec(redirect.replacement) is not None


@pytest.mark.parametrize(
    "module",
    [
        "vllm_kunlun.ops",
        "vllm_kunlun.ops.vllm_modules.redirects",
        "vllm_kunlun.ops.vllm_modules.patches",
    ],
)
def test_import_brings_in_neither_torch_nor_vllm(module: str) -> None:
    heavy = python(
        f"import sys, json, {module}\n"
        "print(json.dumps([name for name in ('torch', 'vllm', 'numpy') if name in sys.modules]))"
    )
    assert json.loads(heavy) == []


def test_in_a_process_of_vllm_the_redirect_and_the_layers_are_active() -> None:
    seen = python(
        "import json\n"
        "from vllm.platforms import current_platform\n"
        "from vllm.plugins import load_general_plugins\n"
        "load_general_plugins()\n"
        "from vllm.v1.sample import rejection_sampler, sampler\n"
        "from vllm.v1.worker import utils\n"
        "from vllm.model_executor.custom_op import op_registry_oot\n"
        "from vllm_kunlun.platforms.ledger import import_hook\n"
        "print(json.dumps({\n"
        "    'platform': type(current_platform).__name__,\n"
        "    'sampler': sampler.TopKTopPSampler.__module__,\n"
        "    'layers': sorted(op_registry_oot),\n"
        "    'states': [status.state for status in import_hook.report()],\n"
        "}))"
    )
    found = json.loads(seen)
    assert found["platform"] == "KunlunPlatform"
    assert found["sampler"] == "vllm_kunlun.ops.vllm_modules.topk_topp_sampler"
    assert set(LAYERS) <= set(found["layers"])
    assert found["states"].count("active") == len(APPLIED)
    assert len(found["states"]) - len(APPLIED) == found["states"].count("out of range")
