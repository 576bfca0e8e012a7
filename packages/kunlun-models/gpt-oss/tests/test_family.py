# SPDX-License-Identifier: Apache-2.0
"""The family's claims, held against vLLM's own parser and registry."""

from __future__ import annotations

import pytest

from vllm_kunlun.models.gpt_oss.family import family
from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.families import family_for, load_families


def test_every_preset_entry_has_a_reason():
    preset = family().preset
    assert set(preset.why) == set(preset.args) | set(preset.environment)


@pytest.mark.parametrize("name", family().preset.environment)
def test_preset_variables_are_in_the_table_and_of_its_kind(name):
    assert envs.TABLE[name].parse(family().preset.environment[name]) is not None


def test_preset_arguments_are_accepted_by_vllm():
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    argv = [text for name, value in family().preset.args.items() for text in (f"--{name}", value)]
    parsed = parser.parse_args([str(text) for text in argv])
    for name, value in family().preset.args.items():
        assert getattr(parsed, name.replace("-", "_")) == value


def test_architectures_are_the_ones_that_transformers_writes():
    import transformers

    for architecture in family().architectures:
        assert hasattr(transformers, architecture)


def test_architectures_are_known_to_vllm():
    from vllm import ModelRegistry

    assert set(family().architectures) <= set(ModelRegistry.get_supported_archs())


def test_found_by_entry_point():
    families, failures = load_families()
    assert failures == {}
    assert families["gpt-oss"] == family()
    assert family_for("GptOssForCausalLM") == family()
