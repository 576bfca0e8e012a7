# SPDX-License-Identifier: Apache-2.0
"""Which rows belong together, whose keys a layer uses, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.v1.attention.backend import AttentionType

from vllm_kunlun.cli.verify.own_class import attention
from vllm_kunlun.cli.verify.own_class.formula import attend
from vllm_kunlun.platforms.errors import UnsupportedError


def step(*bounds, has_context=False):
    part = SimpleNamespace(query_lod_host=torch.tensor(bounds), has_context=has_context)
    return SimpleNamespace(whole_batch=part)


def layer(**options):
    return attention.FormulaBackend.get_impl_cls()(2, 4, 0.5, 1, **options)


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, heads, 4, generator=generator) for heads in (2, 1, 1)]


def test_each_request_attends_its_own_keys(rows):
    output = torch.empty(5, 2, 4)
    module = SimpleNamespace(layer_name="one")
    layer().forward(module, *rows, None, step(0, 2, 5), output)
    for part in (slice(0, 2), slice(2, 5)):
        expected = attend(*(each[part] for each in rows), scale=0.5).float()
        torch.testing.assert_close(output[part], expected)


def test_a_layer_may_use_the_keys_of_another(rows):
    query, key, value = rows
    output = torch.empty(5, 2, 4)
    layer().forward(SimpleNamespace(layer_name="one"), *rows, None, step(0, 5), output)
    sharing = layer(kv_sharing_target_layer_name="one")
    sharing.forward(
        SimpleNamespace(layer_name="two"), query, -key, -value, None, step(0, 5), output
    )
    torch.testing.assert_close(output, attend(*rows, scale=0.5).float())


def test_latents_are_multiplied_up_and_only_chosen_keys_are_seen():
    generator = torch.Generator().manual_seed(0)
    up = torch.randn(6, 2 * (3 + 4), generator=generator)  # 2 heads of 3 for keys, 4 for values
    query, latent, turned = (torch.randn(5, *shape, generator=generator)
                             for shape in ((2, 5), (6,), (1, 2)))  # fmt: skip
    chosen = torch.tensor([[0, -1], [0, 1], [1, 2], [0, 3], [4, 2]], dtype=torch.int32)
    made = attention.LatentFormulaBackend.get_impl_cls()(
        2, 8, 0.5, kv_b_proj=lambda x: (x @ up, None), qk_nope_head_dim=3,
        indexer=SimpleNamespace(topk_indices_buffer=chosen),
    )  # fmt: skip
    output = torch.empty(5, 8)
    made.forward(None, query, latent, turned, None, step(0, 5), output)
    for row, seen in enumerate(chosen.tolist()):
        seen = [each for each in seen if each >= 0]
        both = (latent[seen] @ up).view(-1, 2, 7)
        key = torch.cat([both[..., :3], turned[seen].expand(-1, 2, -1)], -1)
        scores = torch.einsum("hd,khd->hk", query[row], key) * 0.5
        expected = torch.einsum("hk,khv->hv", scores.softmax(-1), both[..., 3:])
        torch.testing.assert_close(output[row], expected.flatten())


def test_a_part_of_a_request_is_not_computed_wrongly(rows):
    with pytest.raises(RuntimeError, match="keeps no cache"):
        layer().forward(
            SimpleNamespace(layer_name="one"), *rows, None, step(0, 5, has_context=True),
            torch.empty(5, 2, 4),
        )  # fmt: skip


def test_the_backend_of_a_layer():
    def of(**options):
        asked = {"use_mla": False, "attn_type": AttentionType.DECODER, **options}
        found = attention.backend_for(None, SimpleNamespace(**asked))
        assert attention.backend_for(None, SimpleNamespace(**asked), num_heads=4) == found
        return found.rpartition(".")[2]

    assert of() == "FormulaBackend"
    assert of(use_mla=True) == "LatentFormulaBackend"
    with pytest.raises(UnsupportedError, match="cross attention"):
        of(attn_type=AttentionType.ENCODER_DECODER)
