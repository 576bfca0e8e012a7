# SPDX-License-Identifier: Apache-2.0
"""What one checkpoint makes of a text, through vLLM's engine in this process."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Measured", "decoder_layers", "engine", "generate", "layer_names", "measure"]


@dataclass(frozen=True)
class Measured:
    """Of every token but a window's first, in the order of the text."""

    logprobs: list[float]
    """Natural logarithm of the probability that the model gave the token."""
    best: list[int]
    """The token that the model thought most probable in its place."""
    layers: list[Tensor]
    """Residual stream after each decoder layer on the first window, ``[tokens, hidden]``."""


def measure(
    folder: Path,
    windows: Sequence[Sequence[int]],
    *,
    dtype: str,
    layers: bool,
    advance: Callable[[], object],
) -> Measured:
    """Run ``windows`` of token ids through the checkpoint ``folder``.

    Args:
        dtype: as vLLM's ``--dtype``.
        layers: also record each layer; the model then runs uncompiled.
        advance: called after each window.

    Raises:
        UnsupportedError: ``layers`` is asked for, and the model has no list of layers.
    """
    longest = max(map(len, windows))
    with engine(folder, longest, dtype=dtype, enforce_eager=layers) as llm:
        recorded = _record_layers(llm, windows[0]) if layers else []
        logprobs, best = [], []
        for window in windows:
            steps = generate(llm, window, prompt_logprobs=1)[0].prompt_logprobs
            for token, step in zip(window[1:], steps[1:], strict=True):
                logprobs.append(step[token].logprob)
                best.append(next(t for t, found in step.items() if found.rank == 1))
            advance()
    return Measured(logprobs, best, recorded)


@contextmanager
def engine(folder: Path, longest: int, **options: Any) -> Iterator[Any]:
    """An engine for one request at a time of at most ``longest`` tokens, taken down at the end."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    llm = LLM(
        model=str(folder),
        skip_tokenizer_init=True,
        max_model_len=longest + 1,
        max_num_seqs=1,
        # Room for one window: by default the cache would take most of the device's memory.
        num_gpu_blocks_override=8 + longest // 16,
        enable_prefix_caching=False,
        **options,
    )
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()


def generate(llm: Any, window: Sequence[int], **options: Any) -> Any:
    """What vLLM gives for one prompt of token ids, greedily: one token, unless told otherwise."""
    from vllm import SamplingParams

    options = {"temperature": 0, "max_tokens": 1, "detokenize": False, **options}
    sampling = SamplingParams(ignore_eos=True, **options)
    return llm.generate({"prompt_token_ids": list(window)}, sampling, use_tqdm=False)


def _record_layers(llm: Any, window: Sequence[int]) -> list[Tensor]:
    import torch

    calls: list[list[Tensor]] = []
    handles: list[Any] = []

    def note(into: list[Tensor], output: Any) -> None:
        # vLLM's layers return what they add and what they add it to; others the sum.
        parts = [part for part in (output if isinstance(output, tuple) else (output,))
                 if isinstance(part, torch.Tensor)]  # fmt: skip
        into.append(torch.stack([part.float() for part in parts]).sum(0).cpu())

    def attach(model: nn.Module) -> None:
        for layer in decoder_layers(model):
            calls.append([])
            handles.append(
                layer.register_forward_hook(
                    lambda _module, _inputs, output, into=calls[-1]: note(into, output)
                )
            )

    llm.apply_model(attach)
    generate(llm, window)
    for handle in handles:
        handle.remove()
    return [torch.cat(parts)[: len(window)] for parts in calls]


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The list of blocks that holds most of the model's weights.

    Raises:
        UnsupportedError: there is none.
    """
    from torch import nn

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    size = {id(each): sum(p.nbytes for p in each.parameters()) for each in lists}
    largest = max(lists, key=lambda each: size[id(each)], default=None)
    if largest is None or not len(largest):
        raise UnsupportedError(f"{type(model).__name__} has no list of layers: leave --layers out.")
    return list(largest)


def layer_names(model: nn.Module) -> list[str]:
    """Names in ``model`` of :func:`decoder_layers`.

    Raises:
        UnsupportedError: there are none.
    """
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(layer)] for layer in decoder_layers(model)]
