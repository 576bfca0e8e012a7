# SPDX-License-Identifier: Apache-2.0
"""What the rehearsal does for itself is neither counted nor checked."""

import torch

from vllm_kunlun.emulator.rehearsal.quiet import is_quiet, quiet


def test_quiet_work_is_not_counted(asked):
    x = torch.ones(2, device="cuda")
    asked()
    with quiet():
        with quiet():
            assert is_quiet()
        x + torch.ones(2)
    assert not is_quiet()
    assert not asked()
