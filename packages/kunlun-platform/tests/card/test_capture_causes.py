# SPDX-License-Identifier: Apache-2.0
"""Words of errors, as torch and vLLM write them, and what they mean."""

from __future__ import annotations

import pytest

from vllm_kunlun.platforms.card import capture_causes

WORDS = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "did not fit",
    "'_OpNamespace' '_C' object has no attribute 'weak_ref_tensor'": "not registered",
    "dependency created on uncaptured work in another stream": "second stream",
    "cudaErrorStreamCaptureUnjoined": "second stream",
    "operation not permitted when stream is capturing": "waits for the device",
    "HostReadInCaptureError: planted reads a value of the device": "waits for the device",
    "Cannot copy between CPU and CUDA tensors during CUDA graph capture unless the CPU tensor is "
    "pinned.": "waits for the device",
    "operation would make the legacy stream implicitly depend": "waits for the device",
    "CUDA graph capturing detected at an inappropriate time": "not captured at the start",
    "Input addresses for cudagraphs are different during replay": "lies elsewhere",
    "VendorContractError: kunlun_ops.swiglu: y": "does not take",
    "operation failed due to a previous error during capture": "earlier call",
}


@pytest.mark.parametrize("text", WORDS)
def test_words_are_known(text: str) -> None:
    cause = capture_causes.explain(text)
    assert cause is not None and WORDS[text] in cause.meaning
    assert capture_causes.is_an_after_effect(text) == ("previous error" in text)


def test_other_words_are_not() -> None:
    assert capture_causes.explain("KeyError: 'layers.0'") is None


def test_each_cause_has_words_here() -> None:
    found = {capture_causes.explain(text) for text in WORDS}
    assert found == set(capture_causes.CAUSES)
