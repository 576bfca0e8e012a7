# SPDX-License-Identifier: Apache-2.0
"""Embeddings, classes and ranks over HTTP, against HF: Qwen3-Embedding, Qwen3-Reranker and Bert."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers
from support import characters, checkpoints
from support.server import Server, module_command, server

pytestmark = pytest.mark.slow

QUERY = "which card?"
TEXTS = ["the one on the left", "no", "a longer text, of which the model reads every byte " * 3]
NEAR = {"rel": 1e-3, "abs": 1e-4}
BERT = {
    "vocab_size": checkpoints.VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
}


@contextlib.contextmanager
def serving(folder: Path, log: Path, *options: str) -> Iterator[Server]:
    command = module_command(
        folder, "--dtype", "float32", "--enforce-eager", "--max-model-len", "400",
        "--runner", "pooling", "--max-num-seqs", "8", "--served-model-name", "m", *options,
    )  # fmt: skip
    with server(command, log) as running:
        yield running


def ask(running: Server, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{running.url}{path}", json={"model": "m", **body}, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def judge(folder: Path, kind: Any) -> tuple[Any, Any]:
    """HF's tokenizer, and its model of a class."""
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return transformers.AutoTokenizer.from_pretrained(folder), model.eval()


@torch.inference_mode()
def states(judged: tuple[Any, Any], *texts: str) -> torch.Tensor:
    tokenizer, model = judged
    return model(**tokenizer(*texts, return_tensors="pt"))


def check_embeddings(running: Server, expected: list[torch.Tensor]) -> None:
    data = ask(running, "/v1/embeddings", input=TEXTS)["data"]
    for each, vector in zip(data, expected, strict=True):
        want = torch.nn.functional.normalize(vector, dim=-1).tolist()
        assert each["embedding"] == pytest.approx(want, **NEAR)


def check_ranks(running: Server, expected: list[float]) -> None:
    """By pairs of a query and a text, and in order."""
    assert max(expected) - min(expected) > 0.01
    data = ask(running, "/score", text_1=QUERY, text_2=TEXTS)["data"]
    assert [each["score"] for each in data] == pytest.approx(expected, **NEAR)
    found = ask(running, "/rerank", query=QUERY, documents=TEXTS)["results"]
    assert [each["index"] for each in found] == sorted(
        range(len(TEXTS)), key=lambda i: -expected[i]
    )
    assert [each["relevance_score"] for each in found] == pytest.approx(
        sorted(expected, reverse=True), **NEAR
    )


@pytest.fixture
def qwen3(tmp_path: Path) -> Path:
    folder = checkpoints.write("qwen3", tmp_path)
    characters.add(folder)
    return folder


def test_qwen3_embedding(qwen3: Path) -> None:
    """The last token's state; each token's, by ``/pooling``."""
    judged = judge(qwen3, transformers.AutoModel)
    every = [states(judged, text).last_hidden_state[0] for text in TEXTS]
    with serving(qwen3, qwen3 / "log") as running:
        check_embeddings(running, [each[-1] for each in every])
        data = ask(running, "/pooling", input=TEXTS, task="token_embed")["data"]
    for each, vectors in zip(data, every, strict=True):
        came = torch.tensor(each["data"])
        want = torch.nn.functional.normalize(vectors, dim=-1)
        torch.testing.assert_close(came, want, rtol=1e-3, atol=1e-4)


def test_qwen3_reranker(qwen3: Path) -> None:
    """How much rather the model says "y" than "n" behind the query and the text."""
    judged = judge(qwen3, transformers.AutoModelForCausalLM)
    yes, no = judged[0].convert_tokens_to_ids(["y", "n"])
    expected = []
    for text in TEXTS:
        logits = states(judged, QUERY + text).logits[0, -1]
        expected.append(float(torch.sigmoid(logits[yes] - logits[no])))
    overrides = {
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": ["n", "y"],
        "is_original_qwen3_reranker": True,
    }
    with serving(qwen3, qwen3 / "log", "--hf-overrides", json.dumps(overrides)) as running:
        check_ranks(running, expected)
        data = ask(running, "/classify", input=[QUERY + text for text in TEXTS])["data"]
    assert [each["probs"][0] for each in data] == pytest.approx(expected, **NEAR)


def test_bert_embeds(tmp_path: Path) -> None:
    """The first token's state, as vLLM pools a Bert without sentence-transformers' files."""
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(tmp_path)
    characters.add(tmp_path)
    judged = judge(tmp_path, transformers.BertModel)
    with serving(tmp_path, tmp_path / "log") as running:
        check_embeddings(running, [states(judged, t).last_hidden_state[0, 0] for t in TEXTS])


def test_bert_ranks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(**BERT, num_labels=1)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    characters.add(tmp_path)
    judged = judge(tmp_path, transformers.BertForSequenceClassification)
    expected = [float(torch.sigmoid(states(judged, QUERY, t).logits[0, 0])) for t in TEXTS]
    with serving(tmp_path, tmp_path / "log") as running:
        check_ranks(running, expected)
