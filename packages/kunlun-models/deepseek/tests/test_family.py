# SPDX-License-Identifier: Apache-2.0
"""The family's claims, held against vLLM's own parser and registry."""

from __future__ import annotations

import pytest

from vllm_kunlun.models.deepseek.family import FAMILIES, dense, sparse
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.families import family_for, load_families

each = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@each
def test_every_preset_entry_has_a_reason(family):
    preset = family.preset
    assert set(preset.why) == set(preset.args) | set(preset.environment)


@each
def test_preset_variables_are_in_the_table_and_of_its_kind(family):
    for name, value in family.preset.environment.items():
        assert envs.TABLE[name].parse(value) is not None


@each
def test_preset_arguments_are_accepted_by_vllm(family):
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    argv = [text for name, value in family.preset.args.items() for text in (f"--{name}", value)]
    parsed = parser.parse_args([str(text) for text in argv])
    for name, value in family.preset.args.items():
        assert getattr(parsed, name.replace("-", "_")) == value


@each
def test_architectures_are_known_to_vllm(family):
    from vllm import ModelRegistry

    assert set(family.architectures) <= set(ModelRegistry.get_supported_archs())


def test_found_by_entry_point():
    families, failures = load_families()
    assert failures == {}
    assert families["deepseek"] == dense()
    assert families["deepseek-sparse"] == sparse()
    assert family_for("DeepseekV3ForCausalLM") == dense()
    assert family_for("DeepseekV32ForCausalLM") == sparse()
