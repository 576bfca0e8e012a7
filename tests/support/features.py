# SPDX-License-Identifier: Apache-2.0
"""Columns of the support matrix, its rows that are uses, and what each says of itself."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FEATURES", "USES", "Feature"]


class Feature(NamedTuple):
    """What is tried, and what its cell compares with the judge's answers."""

    meaning: str
    compared: str


_TOKENS = "24 greedy tokens a prompt, equal"

FEATURES = {
    "eager": Feature("each operation by itself", _TOKENS),
    "compiled": Feature("torch.compile, vLLM's default", _TOKENS),
    "TP2": Feature("tensor parallelism over two ranks", _TOKENS),
    "prefix cache": Feature(
        "cached prefixes, hit", f"{_TOKENS}, twice; vLLM's counter of hits grows"
    ),
    "chunked prefill": Feature(
        "prompts in pieces of 40 tokens",
        f"{_TOKENS}; a prompt of more than 40 tokens took more than one step",
    ),
    "LoRA": Feature(
        "low-rank adapters on the attention layers",
        f"{_TOKENS}, the judge with the adapter merged, requests with and without it in one batch",
    ),
    "W8A8": Feature(
        "compressed-tensors INT8, dynamic per token",
        "log-probabilities of the answers' tokens, the judge with weights and activations rounded "
        "alike: mean difference under 0.03 and under a fifth of that from a judge with activations "
        "not rounded; **tokens are not compared**",
    ),
    "W4A16": Feature(
        "compressed-tensors INT4, symmetric", f"{_TOKENS}, the judge with dequantised weights"
    ),
    "speculation": Feature(
        "drafts from n-grams", f"{_TOKENS}; vLLM counts drafts proposed and accepted"
    ),
}

_HF_TOKENS = "greedy tokens of ten prompts, equal to HF's"
_DRAFTS = f"16 {_HF_TOKENS}, prompts in pieces of 40; between a tenth and all drafts accepted"
_SERVED = f"8 {_HF_TOKENS}, all asked at once and one alone"
_ONE_DEVICE = "8 greedy tokens of ten prompts, equal to one device's"
_FRESH = "6 greedy tokens of ten prompts, equal to a fresh start's with those weights"

USES = {
    "EAGLE": Feature("a draft head, with and without padded batches", _DRAFTS),
    "EAGLE-3": Feature(
        "a draft head over three layers, with a vocabulary of its own, padded and not", _DRAFTS
    ),
    "Medusa": Feature("a head for each place", _DRAFTS),
    "suffix decoding": Feature("drafts from a tree of suffixes", _DRAFTS),
    "embeddings": Feature("a decoder's, of the last token", "HF's last state, of length 1"),
    "token embeddings": Feature("a decoder's, of each token", "HF's states, of length 1"),
    "classification": Feature("a decoder with a head", "the softmax of HF's logits"),
    "rewards": Feature("the head's, of each token", "the head's formula on HF's states"),
    "encoders": Feature("embeddings of a Bert", "HF's first state, of length 1"),
    "folder connector": Feature(
        "ExampleConnector: prompts read in one engine, answered in another",
        f"8 {_HF_TOKENS}; vLLM's counter of tokens that came from outside",
    ),
    "host-memory connector": Feature(
        "OffloadingConnector: pages leave the device and come back", f"8 {_HF_TOKENS}, twice"
    ),
    "other connectors": Feature("NixlConnector, as one of them", "nothing"),
    "encoder-decoders": Feature("Whisper", "nothing"),
    "prompt embeddings": Feature("rows of the embedding in place of tokens", f"8 {_HF_TOKENS}"),
    "executors": Feature("uni and mp named for one rank", f"8 {_HF_TOKENS}"),
    "block sizes": Feature("each that the vendor's functions read", f"8 {_HF_TOKENS}"),
    "other block sizes": Feature("48 tokens", "nothing"),
    "positions beyond the table": Feature(
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN and a longer --max-model-len", "nothing"
    ),
    "data parallelism": Feature("two ranks behind one server, a mixture of experts", _SERVED),
    "data and expert parallelism": Feature("the same, experts spread over them", _SERVED),
    "data and tensor parallelism, dense": Feature("two ranks of two shards", _SERVED),
    "data and tensor parallelism": Feature("the same, a mixture of experts", _SERVED),
    "data, tensor and expert parallelism": Feature(
        "the same, experts spread over all four", _SERVED
    ),
    "data and expert parallelism, latent": Feature("two ranks, DeepSeek-V2's layers", _SERVED),
    "data parallelism, W4A16": Feature(
        "two ranks that share each expert, in packed INT4", _ONE_DEVICE
    ),
    "data and expert parallelism, W8A8": Feature(
        "two ranks, experts in INT8 spread over them", _ONE_DEVICE
    ),
    "expert load balancing": Feature("--enable-eplb", "nothing"),
    "weights renewed": Feature("reload_weights, then load_weights over RPC", _FRESH),
    "weights renewed, W8A8": Feature("the same, compressed-tensors INT8", _FRESH),
    "weights renewed, AWQ": Feature("the same", _FRESH),
    "weights renewed, GPTQ": Feature("the same", _FRESH),
    "sharded state": Feature("save_sharded_state, then a start with what it saved", _FRESH),
    "sharded state, quantised": Feature("the same, AWQ", "nothing"),
}
"""Uses that are tried on one model each: what is tried, and what is compared."""
