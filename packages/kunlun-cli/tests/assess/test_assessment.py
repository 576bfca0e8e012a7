# SPDX-License-Identifier: Apache-2.0
"""Published configurations against transformers' classes and the formula of keys and values.

Each row is the configuration class of transformers 4.57 with its defaults, which are those of the
model that the class was published with. Parameters are counted in transformers' class on the device
``meta`` (a slow test counts again); bytes of keys and values are 2 x layers x heads x size x 2, and
None where a layer keeps less than every token. Left out: classes whose defaults transformers and
vLLM read in different ways (Qwen2.5-VL's tied embedding, Gemma 2's activation).
"""

from __future__ import annotations

import pytest

PUBLISHED = [
    ("arcee", "ArceeForCausalLM", 4_022_766_080, 327_680, 32),
    ("llama", "LlamaForCausalLM", 6_738_415_616, 524_288, 32),
    ("mistral", "MistralForCausalLM", 7_241_732_096, None, 32),
    ("mixtral", "MixtralForCausalLM", 46_702_792_704, 131_072, 32),
    ("qwen2", "Qwen2ForCausalLM", 12_049_846_272, 524_288, 32),
    ("qwen2_moe", "Qwen2MoeForCausalLM", 14_315_784_192, 196_608, 16),
    ("qwen3", "Qwen3ForCausalLM", 12_049_461_248, 524_288, 32),
    ("qwen3_moe", "Qwen3MoeForCausalLM", 15_350_731_776, 24_576, 32),
    ("cohere", "CohereForCausalLM", 34_980_831_232, 1_310_720, 64),
    ("dbrx", "DbrxForCausalLM", 2_459_207_680, 12_288, 16),
    ("ernie4_5", "Ernie4_5ForCausalLM", 360_748_032, 18_432, 16),
    ("falcon", "FalconForCausalLM", 6_921_720_704, 8_192, 71),
    ("flex_olmo", "FlexOlmoForCausalLM", 33_270_665_216, 524_288, 32),
    ("gemma", "GemmaForCausalLM", 8_537_680_896, 458_752, 16),
    ("glm", "GlmForCausalLM", 9_399_951_360, 40_960, 32),
    ("glm4", "Glm4ForCausalLM", 9_400_279_040, 40_960, 32),
    ("gpt2", "GPT2LMHeadModel", 124_439_808, 36_864, 12),
    ("gpt_neox", "GPTNeoXForCausalLM", 20_554_567_680, 1_081_344, 64),
    ("gpt_bigcode", "GPTBigCodeForCausalLM", 111_446_784, 3_072, 12),
    ("gptj", "GPTJForCausalLM", 6_050_882_784, 458_752, 16),
    ("granite", "GraniteForCausalLM", 6_738_415_616, 524_288, 32),
    ("granitemoe", "GraniteMoeForCausalLM", 37_039_116_288, 524_288, 32),
    ("granitemoeshared", "GraniteMoeSharedForCausalLM", 37_039_116_288, 524_288, 32),
    ("helium", "HeliumForCausalLM", 2_172_643_840, 245_760, 20),
    ("mpt", "MptForCausalLM", 1_311_213_568, 196_608, 16),
    ("olmo", "OlmoForCausalLM", 6_888_095_744, 524_288, 32),
    ("olmo2", "Olmo2ForCausalLM", 6_888_624_128, 524_288, 32),
    ("olmo3", "Olmo3ForCausalLM", 6_888_624_128, None, 32),
    ("olmoe", "OlmoeForCausalLM", 13_361_612_800, 131_072, 16),
    ("opt", "OPTForCausalLM", 125_239_296, 36_864, 12),
    ("persimmon", "PersimmonForCausalLM", 9_397_175_296, 589_824, 64),
    ("phi", "PhiForCausalLM", 1_418_270_720, 196_608, 32),
    ("phi3", "Phi3ForCausalLM", 3_821_079_552, 393_216, 32),
    ("seed_oss", "SeedOssForCausalLM", 28_921_040_896, 262_144, 80),
    ("smollm3", "SmolLM3ForCausalLM", 3_075_098_624, 73_728, 16),
    ("stablelm", "StableLmForCausalLM", 2_795_443_200, 327_680, 32),
    ("starcoder2", "Starcoder2ForCausalLM", 3_030_371_328, 30_720, 24),
    ("exaone4", "Exaone4ForCausalLM", 9_429_069_824, None, 32),
    ("gpt_oss", "GptOssForCausalLM", 116_829_156_672, None, 64),
    ("qwen3_next", "Qwen3NextForCausalLM", 79_674_391_296, None, 16),
    ("mistral3", "Mistral3ForConditionalGeneration", 24_011_361_280, 163_840, 32),
    ("glm4v", "Glm4vForConditionalGeneration", 10_292_777_472, 40_960, 12),  # of its pictures
    ("aria", "AriaForConditionalGeneration", 18_701_885_824, 524_288, 32),
    ("cohere2", "Cohere2ForCausalLM", 34_980_831_232, None, 64),
    ("gemma3_text", "Gemma3ForCausalLM", 2_628_658_432, None, 8),
    ("vaultgemma", "VaultGemmaForCausalLM", 2_614_222_080, None, 8),
]
QUICK = ("mixtral", "qwen3", "falcon", "gemma", "gpt2", "gpt_bigcode", "qwen3_next", "glm4v")
EACH = [
    pytest.param(*row, id=row[0], marks=[] if row[0] in QUICK else pytest.mark.slow)
    for row in PUBLISHED
]


@pytest.fixture
def build(configuration):
    from vllm_kunlun.cli.assess import built, fit

    def look(model_type, architecture, cards=1, length=1024):
        config = built.configure(
            configuration(model_type, architecture),
            {"dtype": "bfloat16", "block_size": 64, "max_model_len": length,
             "tensor_parallel_size": cards},
        )  # fmt: skip
        return fit.fit(config, built.build(config))

    return look


@pytest.mark.parametrize(
    ("model_type", "architecture", "parameters", "per_token", "heads"),
    EACH,
)
def test_weights_and_cache_of_one_card(
    build, model_type, architecture, parameters, per_token, heads
):
    found = build(model_type, architecture)
    assert found.weight_bytes == pytest.approx(2 * parameters, rel=0.01)
    if per_token is not None:
        assert found.bytes_per_token == per_token


@pytest.mark.slow
@pytest.mark.parametrize("cards", [2, 4, 8])
@pytest.mark.parametrize(
    ("model_type", "architecture", "parameters", "per_token", "heads"),
    PUBLISHED,
    ids=[row[0] for row in PUBLISHED],
)
def test_cards_that_share_its_heads(
    build, cards, model_type, architecture, parameters, per_token, heads
):
    """vLLM shares attention heads evenly; keys and values that are fewer are repeated."""
    if heads % cards:
        with pytest.raises((AssertionError, ValueError), match="divisible by"):
            build(model_type, architecture, cards)
        return
    found = build(model_type, architecture, cards)
    assert 2 * parameters / cards <= found.weight_bytes * 1.01 <= 2 * parameters
    if per_token is not None:
        assert per_token / cards <= found.bytes_per_token <= per_token


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "parameters"), [(row[0], row[2]) for row in PUBLISHED],
    ids=[row[0] for row in PUBLISHED],
)  # fmt: skip
def test_parameters_as_transformers_counts_them(model_type, parameters):
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    several = model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    auto = AutoModelForImageTextToText if several else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(CONFIG_MAPPING[model_type]())
    assert sum(each.numel() for each in model.parameters()) == parameters


def test_layers_that_keep_a_window_take_less(build):
    """gpt-oss: 18 layers keep all, 18 keep 128 tokens and what a step of 8,192 writes."""
    found = build("gpt_oss", "GptOssForCausalLM", length=131_072)
    layer = 2 * 8 * 64 * 2
    assert 18 * layer < found.bytes_per_token < 18 * layer * 1.08
