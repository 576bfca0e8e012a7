# SPDX-License-Identifier: Apache-2.0
"""GLM-5 through the engine: sparse latent attention, of which some layers take another's keys.

The judge is transformers' own class. Its indexer's queries and keys are rounded to int8 before they
are compared, as the card's are; all else is as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import checkpoints
from support.engine import engine, greedy_with_logprobs
from support.reference import Reference
from support.sparse import assert_agrees, rounded_to_int8
from torch.overrides import TorchFunctionMode

pytestmark = pytest.mark.skipif(
    not hasattr(transformers, "GlmMoeDsaForCausalLM"), reason="transformers has no GLM-5"
)

NEW_TOKENS = 12
TOPK, WIDTH, PATTERN = 24, 128, "FFSS"


class Rounding(TorchFunctionMode):
    """Rounds what is multiplied over ``WIDTH`` numbers: queries by keys, and nothing else."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.matmul and args[0].shape[-1] == WIDTH:
            queries, keys = args
            keys = rounded_to_int8(keys.transpose(-1, -2)).transpose(-1, -2)
            args = rounded_to_int8(queries), keys
        return func(*args, **(kwargs or {}))


class Judge(Reference):
    """HF's model; counts the earlier keys that its indexers left out."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(checkpoint)
        self.left_out = 0
        indexers = [layer.self_attn.indexer for layer in self.model.model.layers]
        assert [each is None for each in indexers] == [each == "S" for each in PATTERN]
        for indexer in indexers:
            if indexer is not None:
                indexer.forward = self._rounding(indexer.forward)

    def _rounding(self, forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def rounded(hidden_states: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
            with Rounding():
                chosen = forward(hidden_states, *rest, **named)
            self.left_out += max(0, hidden_states.shape[1] - chosen.shape[-1])
            return chosen

        return rounded


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    configuration = transformers.GlmMoeDsaConfig(
        **{**checkpoints.LATENT, "num_hidden_layers": len(PATTERN)},
        q_lora_rank=56,
        n_group=1,
        topk_group=1,
        index_topk=TOPK,
        index_n_heads=16,  # with few heads, keys tie at 0: every product is negative
        index_head_dim=WIDTH,
        index_topk_pattern=PATTERN,
    )
    folder = checkpoints.write_configuration(configuration, tmp_path_factory.mktemp("glm"))
    described = json.loads((folder / "config.json").read_text())
    described |= {
        "index_topk_pattern": PATTERN,
        "indexer_rope_interleave": True,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
    }
    (folder / "config.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_tokens_and_logprobs_equal_transformers(
    model: Path, prompts: list[list[int]], eager: bool
) -> None:
    judge = Judge(model)
    with engine(model, enforce_eager=eager) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    assert_agrees(judge, prompts, answers, edges=4)
    assert judge.left_out > 100
