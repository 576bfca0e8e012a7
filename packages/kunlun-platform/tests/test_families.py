# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from pydantic import ValidationError

from vllm_kunlun.platforms import envs, families, version
from vllm_kunlun.platforms.errors import KunlunError
from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

FAMILY = """
    from vllm_kunlun.platforms.families import ModelFamily, ServingPreset
    def family():
        return ModelFamily(
            name={name!r}, distribution="kunlun-models-{name}", preset=ServingPreset(),
            architectures={{{architecture!r}: None}}, status="tested on the emulator",
        )
    """


@pytest.fixture(autouse=True)
def own_group(ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "GROUP", ground.families)


def plant(ground, name: str, architecture: str, wheel: str | None = None) -> None:
    module = (wheel or name).replace("-", "_") + "_family"
    ground.module(module, FAMILY.format(name=name, architecture=architecture))
    ground.distribution(wheel or name, families={wheel or name: f"{module}:family"})


def test_families_are_found_by_entry_point(ground) -> None:
    plant(ground, "oak", "OakForCausalLM")
    plant(ground, "elm", "ElmForCausalLM")
    ground.module("broken_family", "def family(): raise OSError('unreadable')")
    ground.module("odd_family", "def family(): return 'elm'")
    ground.distribution(
        "b", families={"broken": "broken_family:family", "odd": "odd_family:family"}
    )
    found = families.load_families()
    assert set(found.families) == {"oak", "elm"}
    assert {name: type(error) for name, error in found.failures.items()} == {
        "broken": OSError,
        "odd": KunlunError,
    }
    family = families.family_for("ElmForCausalLM")
    assert family is not None
    assert family.name == "elm"
    assert families.family_for("AshForCausalLM") is None


def test_it_is_said_what_serves_an_architecture(ground) -> None:
    plant(ground, "oak", "OakForCausalLM")
    said = families.served_by("OakForCausalLM")
    assert "the family oak (kunlun-models-oak): vLLM's class" in said
    assert "own class" in families.served_by("AshForCausalLM")
    said = families.served_by("Qwen2VLForConditionalGeneration")
    assert "own class" in said and "pip install kunlun-models-qwen" in said


def test_one_architecture_claimed_twice(ground) -> None:
    plant(ground, "oak", "OakForCausalLM")
    plant(ground, "elm", "OakForCausalLM")
    with pytest.raises(KunlunError, match=r"OakForCausalLM.*(oak.*elm|elm.*oak)"):
        families.load_families()


def test_one_family_provided_twice(ground) -> None:
    plant(ground, "oak", "OakForCausalLM")
    plant(ground, "oak", "OtherForCausalLM", wheel="oak-fork")
    with pytest.raises(KunlunError, match="two wheels provide the family 'oak'"):
        families.load_families()


@pytest.mark.parametrize(
    ("preset", "complaint"),
    [
        ({"environment": {"XPU_VISIBLE_DEVICE": "0"}}, "XPU_VISIBLE_DEVICE"),
        ({"environment": {"XPU_USE_MOE_SORTED_THRES": "many"}}, "a whole number"),
        ({"why": {"dtype": "twice as fast"}}, "does not set it"),
        ({"arguments": {}}, "arguments"),
    ],
)
def test_a_wrong_preset(preset: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ServingPreset.model_validate(preset)


def test_a_wrong_class_path() -> None:
    with pytest.raises(ValidationError, match="module:Class"):
        ModelFamily(
            name="oak",
            distribution="d",
            architectures={"OakForCausalLM": "module.Class"},
            preset=ServingPreset(),
            status="",
        )


def test_every_models_preset_holds_what_a_card_starts_with() -> None:
    recommended = ServingPreset.recommended()
    assert recommended.environment == envs.card_values()
    with_experts = ServingPreset.recommended(experts=True).environment
    assert set(with_experts) - set(recommended.environment) == {
        "KUNLUN_USE_MOE_FFN_BLOCK",
        "XPU_USE_MOE_SORTED_THRES",
    }


def test_a_familys_drafts_are_served_by_it(ground, monkeypatch: pytest.MonkeyPatch) -> None:
    oak = ModelFamily(
        name="oak",
        distribution="kunlun-models-oak",
        architectures={"OakForCausalLM": None},
        drafts={"OakMTPModel": "oak.mtp:OakMTP"},
        preset=ServingPreset(),
        status="planted",
    )
    monkeypatch.setattr(
        families, "load_families", lambda: families.LoadedFamilies({"oak": oak}, {})
    )
    assert families.family_for("OakMTPModel") is oak
    assert families.served_by("OakMTPModel").endswith("oak.mtp:OakMTP.")


def test_a_family_that_the_installed_vllm_does_not_know_is_not_there(
    ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = FAMILY.format(name="oak", architecture="OakForCausalLM")
    ground.module("oak_family", described.replace("status=", 'vllm=">=0.33", status='))
    ground.distribution("oak", families={"oak": "oak_family:family"})
    for installed, is_there in (("0.15.1", False), ("0.33.0", True), (None, False)):
        monkeypatch.setattr(version, "installed_vllm", lambda found=installed: found)
        assert (families.family_for("OakForCausalLM") is not None) is is_there
