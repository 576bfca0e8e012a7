# SPDX-License-Identifier: Apache-2.0
"""Tensors without numbers have the names, shapes and dtypes of the file's own."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from vllm_kunlun.platforms.loading import headers

STATE = {
    "wide": torch.ones(3, 40, dtype=torch.bfloat16),
    "codes": torch.ones(40, 2, dtype=torch.int32),
    "scale": torch.tensor(0.5),
    "bytes": torch.ones(5, 5).to(torch.float8_e4m3fn),
    "none": torch.ones(0, 3),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
def test_each_tensor_of_a_file(suffix, tmp_path):
    file = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(STATE, file)
    found = dict(headers.stand_ins(file))
    assert {name: (t.shape, t.dtype) for name, t in found.items()} == {
        name: (t.shape, t.dtype) for name, t in STATE.items()
    }
    assert found["wide"].is_meta


def test_small_tensors_have_their_numbers(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    assert dict(headers.stand_ins(tmp_path / "a.safetensors"))["scale"].item() == 0.5


def test_a_file_that_can_only_be_read_whole(tmp_path):
    torch.save(STATE, tmp_path / "a.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(NotImplementedError, match=r"a\.bin has no header"):
        list(headers.stand_ins(tmp_path / "a.bin"))
