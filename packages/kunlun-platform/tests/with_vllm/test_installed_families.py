# SPDX-License-Identifier: Apache-2.0
"""What every installed family wheel claims, held against vLLM's own parser and registry."""

from __future__ import annotations

import pytest
from vllm import ModelRegistry
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_kunlun.platforms.families import load_families

FAMILIES, FAILURES = load_families()
each = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def test_all_load():
    assert FAMILIES
    assert FAILURES == {}


@each
def test_every_preset_entry_has_a_reason(family):
    preset = family.preset
    assert set(preset.why) == set(preset.args) | set(preset.environment)


@each
def test_preset_arguments_are_accepted_by_vllm(family):
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    argv = [text for name, value in family.preset.args.items() for text in (f"--{name}", value)]
    parsed = parser.parse_args([str(text) for text in argv])
    for name, value in family.preset.args.items():
        assert getattr(parsed, name.replace("-", "_")) == value


@each
def test_architectures_are_known_to_vllm(family):
    assert set(family.architectures) <= set(ModelRegistry.get_supported_archs())
