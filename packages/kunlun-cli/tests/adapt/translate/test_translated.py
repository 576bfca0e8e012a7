# SPDX-License-Identifier: Apache-2.0
"""Model files written from classes of transformers, without an engine.

Their answers are compared with transformers' in ``tests/user/test_adapt.py``.
"""

from __future__ import annotations

import textwrap
from types import SimpleNamespace

import pytest
import torch
import transformers
from packaging.version import Version
from torch import nn

from vllm_kunlun.cli.adapt.translate.translated import translate
from vllm_kunlun.cli.lint import registry, run

SINCE_5 = Version(transformers.__version__) >= Version("5")
WHOLE = {
    "helium": ("HeliumForCausalLM", ["is_neox_style=False", "math.sqrt(self.head_dim)"]),
    "vaultgemma": (
        "VaultGemmaForCausalLM",
        [
            "GemmaRMSNorm",
            "logits_soft_cap=config.attn_logit_softcapping",
            '== "sliding_attention" else None',
            "* self.embed_scale" if SINCE_5 else "hidden_states = hidden_states * normalizer",
            "logits = torch.tanh(logits)",
        ],
    ),
    "qwen3": ("Qwen3ForCausalLM", ["q = self.q_norm(q.unflatten(-1, (-1, self.head_dim)))"]),
    "granite": ("GraniteForCausalLM", ["residual + hidden_states * self.residual_multiplier"]),
    "cohere2": ("Cohere2ForCausalLM", ["nn.LayerNorm(", "if self.rotates:"]),
    "smollm3": ("SmolLM3ForCausalLM", ["self.rotates = config.no_rope_layers[layer_idx]"]),
    "phi": ("PhiForCausalLM", ["ColumnParallelLinear", "not (config.qk_layernorm)"]),
    "arcee": ("ArceeForCausalLM", ["get_act_fn(config.hidden_act)"]),
    "olmo2": (
        "Olmo2ForCausalLM",
        [
            "self.k_norm = RMSNorm(kv_heads * self.head_dim",
            "k = self._over_all_heads(self.k_norm, k, self.kv_copies)",
        ],
    ),
    "gemma3_text": (
        "Gemma3ForCausalLM",
        [
            'config.rope_parameters["sliding_attention"]'
            if SINCE_5
            else "config.rope_local_base_freq",
            "return self.embed_tokens(input_ids) * self.embed_scale",
        ],
    ),
    "glm4": ("Glm4ForCausalLM", ["self.post_self_attn_layernorm(hidden_states)"]),
}
"""Model type -> class, and what of its own the file must hold."""


@pytest.mark.parametrize("model_type", WHOLE)
def test_a_standard_decoder_is_translated_whole(model_type, model, tmp_path):
    found = translate(model(model_type))
    assert found.todo == []
    name, wanted = WHOLE[model_type]
    compile(found.text, f"{model_type}.py", "exec")
    assert f"class {name}(nn.Module, SupportsLoRA, SupportsPP):" in found.text
    for each in wanted:
        assert each in found.text
    known = [rule.name for rule in registry.RULES]
    file = tmp_path / f"{model_type}.py"
    assert run.lint_text(file, found.text, registry.RULES, known) == []


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("bitnet", "self.attn_sub_norm(attn_output)' after the attention"),
        ("doge", "self.dt_proj"),
        ("diffllama", "DiffLlamaAttention"),
        ("cohere", "LayerNorm"),
        ("aria_text", "AriaTextMoELayer"),
    ],
)
def test_what_is_not_translated_is_listed_and_marked(model_type, said, model):
    values = {"use_qk_norm": True} if model_type == "cohere" else {}
    found = translate(model(model_type, **values))
    assert any(said in each for each in found.todo), found.todo
    assert found.text.count("# TODO(adapt): ") >= len(found.todo)
    compile(found.text, f"{model_type}.py", "exec")


def test_gates_that_vllm_has_not_are_listed(model):
    found = translate(model("helium", hidden_act="tanh"))
    assert found.todo == ["HeliumMLP: vLLM has no gate with the activation tanh"]


@pytest.mark.parametrize(("ranks", "kv_heads"), [(1, 2), (2, 4), (2, 2), (4, 2), (4, 1)])
def test_a_norm_over_all_heads_is_the_same_on_every_number_of_ranks(model, ranks, kv_heads):
    """A rank has its part of the whole; where heads are fewer than ranks, some have copies."""
    text = translate(model("olmo2")).text
    begin = text.index("    def _over_all_heads")
    parts = []
    names = {"torch": torch, "nn": nn, "tensor_model_parallel_all_gather": lambda x: together}
    exec(textwrap.dedent(text[begin : text.index("\n\n\n", begin)]), names)
    norm = nn.RMSNorm(kv_heads * 8)
    nn.init.normal_(norm.weight)
    x = torch.randn(3, kv_heads, 8)
    copies = max(1, ranks // kv_heads)
    held = [each for each in x.chunk(ranks // copies, 1) for _ in range(copies)]
    together = torch.cat([each.flatten(1) for each in held], -1)
    for rank in range(ranks):
        of_rank = SimpleNamespace(ranks=ranks, rank=rank)
        parts.append(names["_over_all_heads"](of_rank, norm, held[rank].flatten(1), copies))
    torch.testing.assert_close(torch.cat(parts[::copies], -1), norm(x.flatten(1)))
    assert all(torch.equal(parts[n], parts[n - n % copies]) for n in range(ranks))
