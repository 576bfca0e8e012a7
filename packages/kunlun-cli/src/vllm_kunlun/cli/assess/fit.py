# SPDX-License-Identifier: Apache-2.0
"""What is left of a card for the cache, and how much of a cache that is.

    usable      = card x gpu_memory_utilization
    activations = tokens of a step x itemsize x 2 (hidden size + elements of the widest layer)
    sampling    = requests x vocabulary x 4 x 3        (logits, their order, probabilities: float32)
    cache       = usable - weights - activations - sampling - RUNTIME_BYTES

The weights and the pages of the cache are vLLM's own figures; the other three are estimates, since
vLLM measures them on the card at start.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from vllm_kunlun.cli.assess.built import Stage

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["CARD_BYTES", "RUNTIME_BYTES", "Fit", "fit", "refused"]

CARD_BYTES = 98_304 * 2**20
"""A P800 by its own tool: 98,304 MiB."""

RUNTIME_BYTES = 2 * 2**30
"""Captured graphs, collectives, the vendor's libraries: assumed, no figure is public."""

_AMPLE_BYTES = 2**60
"""More than any request asks of a card."""


@dataclass(frozen=True)
class Fit:
    """One way to spread the model over cards.

    Attributes:
        cards: how many; tensor parallel size times pipeline parallel size.
        refused: why it cannot be, in words; then nothing else is known.
        weights: kind -> bytes on the fullest card.
        activations: bytes of a step and of sampling on that card.
        runtime: bytes of the runtime, assumed.
        cache: bytes left for the cache on each card; 0 if the weights leave none.
        bytes_per_token: of the cache, one card: a request's pages over its tokens.
        tokens: that the cache of all cards holds.
        requests: of the given length that it holds at once.
    """

    cards: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    refused: str = ""
    weights: dict[str, int] = field(default_factory=dict)
    activations: int = 0
    runtime: int = 0
    cache: int = 0
    bytes_per_token: float = 0.0
    tokens: int = 0
    requests: float = 0.0

    @property
    def weight_bytes(self) -> int:
        return sum(self.weights.values())

    @property
    def fits(self) -> bool:
        """Whether one request of the given length fits."""
        return not self.refused and self.requests >= 1

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "weight_bytes": self.weight_bytes, "fits": self.fits}


def refused(tensor_parallel_size: int, pipeline_parallel_size: int, why: str) -> Fit:
    """A way that vLLM or the platform refuses."""
    cards = tensor_parallel_size * pipeline_parallel_size
    return Fit(cards, tensor_parallel_size, pipeline_parallel_size, refused=why)


def fit(config: VllmConfig, stages: list[Stage]) -> Fit:
    """What ``stages`` leave of each card, and what vLLM makes of that."""
    parallel = config.parallel_config
    usable = int(CARD_BYTES * config.cache_config.gpu_memory_utilization)
    activations = _activations(config, max(stage.widest for stage in stages))
    fullest = max(stages, key=lambda stage: stage.weight_bytes)
    left = [usable - stage.weight_bytes - activations - RUNTIME_BYTES for stage in stages]
    tokens, requests = _capacity(config, stages, left)
    return Fit(
        parallel.world_size, parallel.tensor_parallel_size, parallel.pipeline_parallel_size,
        weights={kind: size for kind, size in fullest.weights.items() if size},
        activations=activations,
        runtime=RUNTIME_BYTES,
        cache=max(0, min(left)),
        bytes_per_token=max(_bytes_per_token(config, stage) for stage in stages),
        tokens=tokens,
        requests=requests,
    )  # fmt: skip


def _activations(config: VllmConfig, widest: int) -> int:
    model, scheduler = config.model_config, config.scheduler_config
    itemsize = model.dtype.itemsize
    step = scheduler.max_num_batched_tokens * itemsize * 2 * (model.get_hidden_size() + widest)
    return int(step + scheduler.max_num_seqs * model.get_vocab_size() * 4 * 3)


def _bytes_per_token(config: VllmConfig, stage: Stage) -> float:
    """Bytes of the pages of a request of ``max_model_len`` tokens on one card, for each token."""
    asked = sum(spec.max_memory_usage_bytes(config) for spec in stage.cache.values())
    return float(asked / config.model_config.max_model_len)


def _capacity(config: VllmConfig, stages: list[Stage], left: list[int]) -> tuple[int, float]:
    """Tokens and requests of ``max_model_len`` that vLLM's cache holds; 0 where none fits."""
    from vllm.v1.core.kv_cache_utils import get_max_concurrency_for_kv_cache_config

    from vllm_kunlun.platforms.vllm_compat.planned_cache import planned

    length = config.model_config.max_model_len
    if min(left) <= 0:
        return 0, 0.0
    caches = [stage.cache for stage in stages]
    if not any(caches):
        return 0, float(config.scheduler_config.max_num_seqs)
    try:
        cut = planned(config, caches, left)
    except ValueError:  # vLLM's way to say that one request of this length does not fit
        planned(config, caches, [_AMPLE_BYTES for _ in left])  # any other error is one here, too
        return 0, 0.0
    requests = get_max_concurrency_for_kv_cache_config(config, cut[0])
    return int(requests * length), requests
