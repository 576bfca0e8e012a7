# SPDX-License-Identifier: Apache-2.0
"""A request reaches the other process as it was."""

from __future__ import annotations

import json

from vllm_kunlun.emulator.rehearsal.measuring.request import Request


def test_it_goes_through_json():
    request = Request(("a", "b"), 320, True, 4, 64, 16, "auto", "dummy", False, True)
    assert Request.from_json(json.loads(json.dumps(request.as_json()))) == request
