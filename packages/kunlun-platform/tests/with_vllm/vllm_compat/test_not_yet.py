# SPDX-License-Identifier: Apache-2.0
"""What is refused with the newest vLLM, each by name, and nothing of it with another release."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat import not_yet


def config(**changes: Any) -> Any:
    made = SimpleNamespace(
        use_v2_model_runner=False,
        model_config=SimpleNamespace(
            architecture="LlamaForCausalLM",
            hf_text_config=SimpleNamespace(),
            quantization=None,
            use_mla=False,
            is_hybrid=False,
            is_attention_free=False,
            is_moe=False,
            is_multimodal_model=False,
        ),
        speculative_config=None,
        kv_transfer_config=None,
        cache_config=SimpleNamespace(kv_offloading_size=None),
        parallel_config=SimpleNamespace(
            distributed_executor_backend="uni", enable_expert_parallel=False, data_parallel_size=1
        ),
    )
    for path, value in changes.items():
        *owners, name = path.split("__")
        owner = made
        for each in owners:
            owner = getattr(owner, each)
        setattr(owner, name, value)
    return made


REFUSED = {
    "card": ({}, "worker of a card"),
    "quantised experts": (
        {"model_config__is_moe": True, "model_config__quantization": "awq"},
        "quantised mixture of experts",
    ),
    "unequal heads": (
        {"model_config__hf_text_config": SimpleNamespace(head_dim=64, v_head_dim=32)},
        r"values of another width than keys \(LlamaFor",
    ),
    "drafts": ({"speculative_config": SimpleNamespace(method="medusa")}, "with medusa"),
    "drafts of a hybrid": (
        {
            "speculative_config": SimpleNamespace(method="ngram"),
            "model_config__is_hybrid": True,
        },
        "linear attention of LlamaFor",
    ),
    "data-parallel ranks": ({"parallel_config__data_parallel_size": 2}, "data-parallel"),
    "expert-parallel ranks": ({"parallel_config__enable_expert_parallel": True}, "expert-parallel"),
    "connector": (
        {"kv_transfer_config": SimpleNamespace(kv_connector="ExampleConnector")},
        "with ExampleConnector",
    ),
    "offloading": ({"cache_config__kv_offloading_size": 2.0}, "--kv-offloading-size"),
    "ray": ({"parallel_config__distributed_executor_backend": "ray"}, "backend ray"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, words = REFUSED[case]
    asked = config(**changes)
    for installed in ("0.15.1", "0.16.0"):
        monkeypatch.setattr(version, "installed_vllm", lambda found=installed: found)
        not_yet.check(asked, on_card=case == "card")
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.33.0")
    with pytest.raises(UnsupportedError, match=f"{words}.* for vLLM 0.33.0 yet. Install 'vllm>="):
        not_yet.check(asked, on_card=case == "card")


def test_what_runs_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.33.0")
    not_yet.check(config(), on_card=False)
    not_yet.check(config(model_config__is_moe=True), on_card=False)
    not_yet.check(config(model_config__is_hybrid=True), on_card=False)
    not_yet.check(config(model_config__is_multimodal_model=True), on_card=False)
    not_yet.check(config(model_config__quantization="awq"), on_card=False)
    not_yet.check(config(speculative_config=SimpleNamespace(method="ngram")), on_card=False)
    not_yet.check(config(model_config=None), on_card=False)
    equal = SimpleNamespace(head_dim=64, v_head_dim=64)
    not_yet.check(config(model_config__hf_text_config=equal), on_card=False)
    latent = SimpleNamespace(head_dim=64, v_head_dim=128)
    asked = config(model_config__hf_text_config=latent, model_config__use_mla=True)
    not_yet.check(asked, on_card=False)


def test_the_second_model_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.33.0")
    with pytest.raises(UnsupportedError, match=r"VLLM_USE_V2_MODEL_RUNNER.*Unset it"):
        not_yet.check(config(use_v2_model_runner=True), on_card=False)


@pytest.mark.parametrize(
    ("method", "refused"),
    [("awq", False), ("compressed-tensors", False), ("bitsandbytes", False), ("gptq", True)],
)
def test_formats(method: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.16.0")
    not_yet.check_quantisation(method)
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.33.0")
    if not refused:
        not_yet.check_quantisation(method)
        return
    with pytest.raises(UnsupportedError, match=f"quantization='{method}' is not written for"):
        not_yet.check_quantisation(method)


def test_weights_of_a_running_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.33.0")
    with pytest.raises(UnsupportedError, match=r"^reload_weights is not written"):
        not_yet.reload_weights(None, weights_path="anywhere")
