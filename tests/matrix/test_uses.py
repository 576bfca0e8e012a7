# SPDX-License-Identifier: Apache-2.0
"""Every use of :data:`support.features.USES`, on one model each: writes ``support/matrix.json``."""

from __future__ import annotations

import pytest
from support.features import USES
from support.tried import connectors, drafts, pooling, ranks, starts, weights

pytestmark = pytest.mark.matrix

_KINDS = (drafts, pooling, connectors, starts, ranks, weights)
_TRIED = {use: tried for kind in _KINDS for use, tried in kind.TRIED.items()}


@pytest.mark.parametrize("use", USES)
def test_use(use, prompts, matrix, tmp_path):
    with matrix.cell(use):
        _TRIED[use](tmp_path, prompts)


def test_all_that_can_be_tried_is():
    assert _TRIED.keys() == USES.keys()
