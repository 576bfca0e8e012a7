# SPDX-License-Identifier: Apache-2.0
"""The indexers of vLLM's class are replaced once it is built; answers are the engine tests'."""

from __future__ import annotations

from vllm_kunlun.models.deepseek import deepseek_v2


def test_indexers_are_replaced_after_the_model_is_built(monkeypatch):
    done = []
    monkeypatch.setattr(
        deepseek_v2.DeepseekV3ForCausalLM,
        "__init__",
        lambda self, *, vllm_config, prefix: done.append((vllm_config, prefix)),
    )
    monkeypatch.setattr(deepseek_v2, "replace_indexers", done.append)
    made = deepseek_v2.KunlunDeepseekV32ForCausalLM(vllm_config="config", prefix="p")
    assert done == [("config", "p"), made]
