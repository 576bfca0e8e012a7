# SPDX-License-Identifier: Apache-2.0
"""The process that judges: vLLM's own class, without our layers, our classes and our attention.

A process of its own, because vLLM's registries and its platform are chosen once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_kunlun.cli.verify.judge import Judge
from vllm_kunlun.cli.verify.own_class import stored
from vllm_kunlun.platforms.errors import KunlunError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NAME", "main", "take_ours_out"]

NAME = "vLLM's own class on torch formulas"


def main(asked: str, answered: str) -> None:
    """``asked``: JSON; ``answered``: safetensors, or JSON with the reason of a refusal."""
    request = json.loads(Path(asked).read_text(encoding="utf-8"))
    try:
        stored.write(_judge(**request), Path(answered))
    except KunlunError as error:
        Path(answered).with_suffix(".json").write_text(json.dumps(str(error)), encoding="utf-8")
        sys.stderr.write(f"{error}\n")


def take_ours_out() -> None:
    """For the life of the process: layers, model classes, attention, experts, sparse indexers."""
    from vllm import ModelRegistry
    from vllm.model_executor.custom_op import CustomOp

    from vllm_kunlun.cli.verify.own_class.attention import backend_for
    from vllm_kunlun.cli.verify.own_class.experts import FormulaExperts
    from vllm_kunlun.ops.layers.vllm_classes import use_vllm_classes
    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    use_vllm_classes(kept=())
    CustomOp.register_oot(name="UnquantizedFusedMoEMethod")(FormulaExperts)
    indexer = "vllm_kunlun.cli.verify.own_class.indexer"
    ModelRegistry.register_model("DeepseekV32ForCausalLM", f"{indexer}:OwnDeepseekV32")
    KunlunPlatform.get_attn_backend_cls = staticmethod(backend_for)  # type: ignore[method-assign,assignment]


def _judge(
    folder: str,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    traced: Sequence[int],
    trust_remote_code: bool,
) -> Judge:
    import torch

    from vllm_kunlun.cli.console import quiet_vllm
    from vllm_kunlun.cli.verify.candidate import trace
    from vllm_kunlun.cli.verify.measure import engine, layer_names
    from vllm_kunlun.cli.verify.own_class.acting import acts_of

    quiet_vllm()
    take_ours_out()
    longest = max(map(len, prompts)) + max_tokens
    options = {"enforce_eager": True, "dtype": "float32", "trust_remote_code": trust_remote_code}
    with engine(Path(folder), longest, **options) as llm:
        said = [_continued(llm, prompt, max_tokens) for prompt in prompts]
        found = trace(llm, traced)
        return Judge(
            name=NAME,
            answers=[tokens for tokens, _ in said],
            distributions=[distribution for _, distribution in said],
            expected=stored.as_expected(found.events),
            head=found.head,
            layers=layer_names(found.model),
            acts=acts_of(found.model, torch.float32, torch.device("cpu")),
        )


def _continued(llm: Any, prompt: Sequence[int], count: int) -> tuple[list[int], Tensor]:
    """Greedy tokens by as many whole passes, and log-probabilities ``[count, vocabulary]``."""
    import torch
    from vllm.model_executor.layers.logits_processor import LogitsProcessor

    from vllm_kunlun.cli.verify.measure import generate

    tokens, rows = list(prompt), list[torch.Tensor]()
    models: list[Any] = []
    llm.apply_model(models.append)
    handles = [
        each.register_forward_hook(
            lambda _module, _inputs, output: rows.append(output[-1].float().log_softmax(-1).cpu())
        )
        for each in models[0].modules()
        if isinstance(each, LogitsProcessor)
    ]
    for step in range(count):
        generate(llm, tokens)
        tokens.append(int(rows[step].argmax()))
    for handle in handles:
        handle.remove()
    return tokens[len(prompt) :], torch.stack(rows)
