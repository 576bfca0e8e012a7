# SPDX-License-Identifier: Apache-2.0
"""One checkpoint through vLLM's engine and through a judge, down to the module."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vllm_kunlun.cli.reference import first_difference
from vllm_kunlun.cli.tensors import surveyed
from vllm_kunlun.cli.verify import locate
from vllm_kunlun.cli.verify.candidate import Answer, answers, trace
from vllm_kunlun.cli.verify.cause import Cause, Models, cause_of
from vllm_kunlun.cli.verify.judge import Judge, ask, lacking
from vllm_kunlun.cli.verify.measure import engine, layer_names
from vllm_kunlun.cli.verify.own_class import ask_own_class
from vllm_kunlun.cli.verify.pairing import Pairs, pair, unpaired
from vllm_kunlun.cli.verify.prompts import traced
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

    from vllm_kunlun.cli.verify.candidate import Traced

__all__ = ["compare_models", "judge_of"]

_TOLERANCES = {"float32": (1e-3, 1e-2), "half": (3e-2, 0.25), "quantised": (0.2, 1.0)}
"""What a layer may add to the relative error, and how far a log-probability may be away (nats)."""


def compare_models(
    folder: Path,
    reference: Path,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    dtype: str,
    judge: Literal["auto", "transformers", "vllm"],
    trust_remote_code: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Answers of both, the difference after each layer, and the module that makes it.

    Args:
        folder: what vLLM runs.
        reference: what the judge runs.
        prompts: token ids.
        dtype: as vLLM's ``--dtype``; the judge computes in float32.
        judge: as :func:`judge_of` takes it.
        say: told what takes long.

    Raises:
        UnsupportedError: the judge cannot run ``reference``.
    """
    tokens = traced(prompts)
    asked = prompts, max_tokens, tokens
    if judge_of(judge, reference, trust_remote_code=trust_remote_code) == "vllm":
        say("vLLM's own class answers in a process of its own, in float32")
        judged = ask_own_class(reference, *asked, trust_remote_code=trust_remote_code)
    else:
        say("HF transformers answers, in float32")
        judged = ask(reference, *asked, trust_remote_code=trust_remote_code)
    say("vLLM's engine loads")
    longest = max(map(len, prompts)) + max_tokens
    options = {"enforce_eager": True, "trust_remote_code": trust_remote_code, "dtype": dtype}
    with engine(folder, longest, **options) as llm:
        said = answers(llm, prompts, max_tokens)
        settings = llm.llm_engine.vllm_config
        config = settings.model_config
        kind = "quantised" if config.quantization else (
            "float32" if str(config.dtype) == "torch.float32" else "half"
        )  # fmt: skip
        tolerance, nats = _TOLERANCES[kind]
        rows = [_row(*each, nats) for each in zip(prompts, said, judged.answers,
                                                  judged.distributions, strict=True)]  # fmt: skip
        found: dict[str, Any] = {
            "judge": f"{judged.name}, float32 on the host",
            "dtype": str(config.dtype).removeprefix("torch."),
            "ok": all(row["ok"] for row in rows),
            "limit": tolerance,
            "limit_nats": nats,
            "prompts": rows,
        }
        say("comparing layers")
        try:
            found |= _localised(trace(llm, tokens), judged, settings, tolerance, found["ok"])
        except UnsupportedError as error:
            found |= {"layers": [], "zone": None, "places": [], "cause": None,
                      "unlocated": str(error), "unpaired": []}  # fmt: skip
    return found


def judge_of(
    asked: Literal["auto", "transformers", "vllm"], folder: Path, *, trust_remote_code: bool
) -> Literal["transformers", "vllm"]:
    """Who judges ``folder``: with ``auto`` transformers, or vLLM's own class where it has none."""
    if asked != "auto":
        return asked
    return "vllm" if lacking(folder, trust_remote_code=trust_remote_code) else "transformers"


def _row(
    prompt: Sequence[int], ours: Answer, theirs: list[int], distribution: torch.Tensor, nats: float
) -> dict[str, Any]:
    """One prompt's answers; the same beginning is compared, with what is the first to differ."""
    at = first_difference(ours.tokens, theirs)
    until = len(theirs) if at is None else at + 1
    away = [
        abs(ours.logprobs[place] - float(distribution[place, ours.tokens[place]]))
        for place in range(until)
    ]
    # Two tokens that are about as probable may change places by rounding.
    lost = 0.0 if at is None else float(
        distribution[at].max() - distribution[at, ours.tokens[at]]
    )  # fmt: skip
    largest = max(away)
    return {
        "prompt_tokens": list(prompt),
        "tokens": ours.tokens,
        "expected": theirs,
        "first_difference": at,
        "near_tie": at is not None and lost <= nats,
        "largest_difference": largest,
        "ok": lost <= nats and largest <= nats,
    }


def _localised(
    traced: Traced, judge: Judge, settings: Any, tolerance: float, ok: bool
) -> dict[str, Any]:
    layers = list(zip(layer_names(traced.model), judge.layers, strict=False))
    differences = locate.layer_differences(traced.events, judge.expected, layers)
    zone = locate.first_zone(traced.events, layers, differences, tolerance)
    found: dict[str, Any] = {
        "layers": [{**each._asdict(), "added": each.added} for each in differences],
        "zone": None,
        "places": [],
        "cause": None,
        "unlocated": None,
        "unpaired": [],
    }
    if ok:
        return found
    pairs = _pairs(traced, judge, settings.model_config)
    found["unpaired"] = unpaired(traced.model, pairs)
    places = locate.places(traced.events, judge.expected, pairs, zone)
    limit = zone.before + tolerance
    wrong = locate.suspects(places, limit)
    found["zone"] = zone.name
    found["places"] = [
        {"module": each.module, "what": each.what, "checkpoint": each.other, "error": each.error,
         "wrong": not each.error <= limit}
        for each in places
    ]  # fmt: skip
    if wrong:
        models = Models(
            traced.model, judge.model, judge.acts, pairs, traced.events, judge.expected,
            _head_size(settings.model_config.hf_config), settings.model_config.dtype,
            settings.device_config.device, tolerance,
        )  # fmt: skip
        cause: Cause = cause_of(wrong[0], places, zone, models)
        found["cause"] = cause._asdict()
    else:
        found["unlocated"] = (
            "every module that both have agrees on the prompt: look at what follows it (the write "
            "into the cache, attention while decoding)"
        )
    return found


def _pairs(traced: Traced, judge: Judge, config: Any) -> Pairs:
    """By name; for a class with names of its own, also by what its ``load_weights`` fills.

    vLLM's own class has the names that ours has, or there is no pair.
    """
    if judge.model is None:
        names = {name for name, _ in judge.expected}
        pairs: Pairs = {
            name: (name,)
            for name, module in traced.model.named_modules()
            # What a rotation does shows in attention's query, and by what it went wrong.
            if name in names and not hasattr(module, "is_neox_style")
        }
        return pairs | ({traced.head: (judge.head,)} if traced.head else {})
    pairs = pair(traced.model, judge.model)
    if unpaired(traced.model, pairs):
        survey = surveyed(Path(config.model), 1, config.trust_remote_code)
        targets = survey.writes.targets if survey.writes else {}
        written = {
            name: sorted(target.begins, key=target.begins.__getitem__)
            for name, target in targets.items()
        }
        pairs = pair(traced.model, judge.model, written)
    if traced.head:
        pairs[traced.head] = (judge.head,)
    return pairs


def _head_size(config: Any) -> int:
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(size)


def vocabulary_of(folder: Path) -> int:
    """``vocab_size`` of config.json, wherever it stands."""
    config = json.loads((folder / "config.json").read_bytes())
    return int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size", 2))
