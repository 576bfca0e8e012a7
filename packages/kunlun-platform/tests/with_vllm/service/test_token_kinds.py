# SPDX-License-Identifier: Apache-2.0
"""Token types, as vLLM's runner makes them of a request for a pair of texts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.models.bert import BertForSequenceClassification
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.pooling_params import PoolingParams
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.service.token_kinds import takes


def runner(model, *compressed):
    requests = [
        PoolingParams(extra_kwargs=None if each is None else {"compressed_token_type_ids": each})
        for each in compressed
    ]
    return SimpleNamespace(
        is_pooling_model=True,
        input_batch=SimpleNamespace(num_reqs=len(requests), get_pooling_params=lambda: requests),
        seq_lens=SimpleNamespace(gpu=torch.tensor([3] * len(requests))),
        optimistic_seq_lens_cpu=torch.tensor([3] * len(requests)),  # of 0.33
        lookback_token_ids=None,
        device="cpu",
        get_model=lambda: object.__new__(model),
    )


@pytest.mark.parametrize(
    ("model", "taken"), [(BertForSequenceClassification, True), (Qwen3ForCausalLM, False)]
)
def test_only_a_model_that_knows_them_is_given_token_types(model, taken):
    assert takes(model.forward) is taken
    # From the second of three tokens on; 0.33 says where that ends, too.
    second = (1, 3) if version.installed_is_from("0.33") else 1
    found = GPUModelRunner._init_model_kwargs(runner(model, second, None))
    assert list(found) == (["token_type_ids"] if taken else [])
    if taken:
        assert found["token_type_ids"].tolist() == [0, 1, 1, 0, 0, 0]


def test_what_has_none_is_given_none():
    assert GPUModelRunner._init_model_kwargs(runner(BertForSequenceClassification, None)) == {}
