# SPDX-License-Identifier: Apache-2.0
"""What is missing, cut or of another kind is named as the checkpoint names it."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.loading import verdict
from vllm_kunlun.platforms.loading.writes import Source, Target, Writes

FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
QKV = "layers.0.qkv_proj.weight"


def writes(**sizes):
    return Writes({name: torch.zeros(size) for name, size in sizes.items()})


def filled(target: Target, name: str, start: int, count: int, size: int | None = None) -> None:
    source = Source(name, "a.safetensors", (size or count,), torch.float32, used=count)
    target.regions[start, (count,), (1,)] = count
    target.sources[name] = source


def check(seen, loaded=None, ranks=None):
    verdict.check(seen, loaded, place="here", ranks=ranks or {}, fused=FUSED)


def test_the_missing_part_of_a_fused_layer():
    seen = writes(**{QKV: 9})
    for start, part in ((0, "q"), (6, "v")):
        filled(seen.targets[QKV], f"layers.0.{part}_proj.weight", start, 3)
    with pytest.raises(CheckpointError, match=r"here .*missing: layers\.0\.k_proj\.weight\."):
        check(seen, loaded={QKV})
    filled(seen.targets[QKV], "layers.0.k_proj.weight", 3, 3)
    check(seen)


@pytest.mark.parametrize(
    ("parameter", "named"),
    [
        ("layers.0.qkv_proj.parts.1.qweight", r"layers\.0\.k_proj\.qweight"),
        ("qkv_proj.parts.2.weight", r"v_proj\.weight"),
        ("layers.0.other.parts.1.weight", r"layers\.0\.other\.parts\.1\.weight"),
    ],
)
def test_a_part_that_is_a_layer_of_its_own(parameter, named):
    with pytest.raises(CheckpointError, match=rf"missing: {named}\."):
        check(writes(**{parameter: 4}), loaded=set())


def test_the_missing_expert():
    seen = writes(**{"experts.w2_weight": 6})
    for expert in (0, 2):
        filled(seen.targets["experts.w2_weight"], f"mlp.experts.{expert}.down.weight", expert, 2)
    with pytest.raises(CheckpointError, match=r"missing: mlp\.experts\.1\.down\.weight\."):
        check(seen)


def test_a_hole_that_no_name_explains():
    seen = writes(weight=6)
    filled(seen.targets["weight"], "w", 0, 4)
    with pytest.raises(CheckpointError, match="2 of 6 elements of weight, to which w belong"):
        check(seen)


@pytest.mark.parametrize("name", ["a.weight", "a.weight_g_idx", "attn.k_scale"])
def test_a_parameter_without_any_tensor(name):
    seen = writes(**{name: 4})
    check(seen, loaded={name})
    if name == "a.weight":
        with pytest.raises(CheckpointError, match=r"missing: a\.weight"):
            check(seen, loaded=set())
    else:
        check(seen, loaded=set())


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_tensor_of_which_a_part_is_dropped(ranks):
    seen = writes(weight=4)
    filled(seen.targets["weight"], "w", 0, 4, size=4 * ranks)
    check(seen, ranks={"weight": ranks})
    filled(seen.targets["weight"], "w", 0, 4, size=4 * ranks + 1)
    check(seen)
    with pytest.raises(CheckpointError, match=r"w in a\.safetensors has shape .* elements"):
        check(seen, ranks={"weight": ranks})


@pytest.mark.parametrize("name", ["weight", "weight_scale"])
def test_numbers_of_another_kind(name):
    seen = writes(**{name: 4})
    filled(seen.targets[name], "w", 0, 4)
    source = seen.targets[name].sources["w"]
    seen.casts.append((name, source, torch.float8_e5m2, torch.float32))
    if name == "weight":
        with pytest.raises(CheckpointError, match=r"w in a\.safetensors is float8_e5m2"):
            check(seen)
    else:
        check(seen)
