# SPDX-License-Identifier: Apache-2.0
"""The figures of ``verify`` are their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vllm_kunlun.cli.verify.compare import compare
from vllm_kunlun.cli.verify.measure import Measured


def test_the_figures_are_their_formulas():
    generator = np.random.default_rng(0)
    reference, quantised = (np.log(generator.uniform(0.01, 1, 300)) for _ in range(2))
    layers = [[torch.randn(4, 8) for _ in range(3)] for _ in range(2)]
    found = compare(
        Measured(reference.tolist(), [1] * 300, layers[0]),
        Measured(quantised.tolist(), [1] * 240 + [2] * 60, layers[1]),
    )
    difference = np.abs(reference - quantised)
    assert found.reference_perplexity == pytest.approx(np.exp(-reference.mean()))
    assert found.increase == pytest.approx(np.exp(reference.mean() - quantised.mean()) - 1)
    assert found.mean_difference == pytest.approx(difference.mean())
    assert found.largest_difference == pytest.approx(difference.max())
    assert found.p99_difference == pytest.approx(np.quantile(difference, 0.99, method="higher"),
                                                 rel=0.05)  # fmt: skip
    assert found.agreement == 0.8
    expected = [
        np.linalg.norm(q.numpy() - r.numpy()) / np.linalg.norm(r.numpy())
        for r, q in zip(*layers, strict=True)
    ]
    assert [each.after for each in found.layers] == pytest.approx(expected)
    assert math.fsum(each.added for each in found.layers) == pytest.approx(expected[-1])
