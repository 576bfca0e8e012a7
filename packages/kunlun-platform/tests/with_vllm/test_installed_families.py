# SPDX-License-Identifier: Apache-2.0
"""What every installed family wheel claims, held against vLLM's own parser and registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm import ModelRegistry
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.models import registry
from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.families import load_families, served_by

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
    assert set(family.classes) <= set(ModelRegistry.get_supported_archs())


@each
def test_the_wheel_is_known_by_the_architectures_names(family):
    """So that without the wheel a user is told which one to install."""
    assert {wheels.for_architecture(name) for name in family.architectures} == {family.distribution}


@each
def test_what_serves_an_architecture_is_said(family):
    for name, ours in family.classes.items():
        assert f"({family.distribution}): {ours or 'vLLM'}" in served_by(name)


@each
def test_a_class_lives_in_a_file_named_like_vllms(family):
    """vLLM keeps what it has learnt of a class only if a file of its own has that name: else each
    start learns it anew, in a process that imports vLLM (15 s)."""
    theirs = Path(registry.__file__).parent
    for path in filter(None, (*family.classes.values(), *family.drafts.values())):
        module = path.partition(":")[0]
        assert (theirs / f"{module.rpartition('.')[2]}.py").is_file(), module
