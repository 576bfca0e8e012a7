# SPDX-License-Identifier: Apache-2.0
"""The ledger entries that keep a server alive, whatever it is asked."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.entries import Entry, Patch
from vllm_kunlun.platforms.version import EVERY, UNTIL_0_16, V0_15, V0_16, V0_33

__all__ = ["patches"]

_GITHUB = "https://github.com/vllm-project/vllm"


def patches() -> Sequence[Entry]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        Patch(
            name="request-bounds",
            target="vllm.v1.engine.input_processor:InputProcessor.process_inputs",
            replacement="vllm_kunlun.platforms.service.input_processor:process_inputs",
            why="stop ids are held against nothing, other ids against the tokenizer or nothing "
            "where there is none; one outside of the model's vocabulary ends the engine",
            upstream=f"{_GITHUB}/pull/54196",
            vllm_range=EVERY,
            sha256={
                V0_15: "15f41fbef76010c629c4130f1be3343be3b11763a167fbf64d12c5bdcb8b46c8",
                V0_16: "634b2b03392bbae77ca636a812cc86e04c39b7241c1c100ceb9dfdee9e5a9607",
                V0_33: "1e2908ecf5c15667724ada66c8d140f89f5bac1edf183059d320dfb20c16aa31",
            },
            remove_when="vLLM holds every id of a request against the model's vocabulary",
        ),
        Patch(
            name="service-end",
            target="vllm.entrypoints.launcher:serve_http",
            replacement="vllm_kunlun.platforms.service.launcher:serve_http",
            why="a server whose engine died answers 200, ends its streams as if whole, and "
            "exits with code 0; nothing bounds a request's bytes and prompts",
            upstream=f"{_GITHUB}/issues/48966",
            vllm_range=EVERY,
            sha256={
                V0_15: "fdf54751c344c8502c784026a757629ca06c59785a00091ea41cbd5da0908ec2",
                V0_16: "4f4b6e6f7859877ffbcb7043ad47fc2ac0190a12a06007b993574415348378a1",
            },
            remove_when="vLLM does all of that",
        ),
        Patch(
            name="service-end",
            target="vllm.entrypoints.launchers.launcher:serve_http",
            replacement="vllm_kunlun.platforms.service.launcher:serve_http",
            why="as of earlier releases; here the function has another place, and waits for "
            "requests before it stops the engine if it is told to",
            upstream=f"{_GITHUB}/issues/48966",
            vllm_range=V0_33,
            sha256="f471b91743318731b51c325292f51b46167f798c86f1082b62bf045bc3886e0b",
            remove_when="vLLM does all of that",
        ),
        Patch(
            name="grammar-bounds",
            target="vllm.v1.engine.input_processor:InputProcessor._validate_structured_output",
            replacement="vllm_kunlun.platforms.service.input_processor:validate_structured_output",
            why="schemas, regular expressions and grammars are compiled whatever their size, and a "
            "mistake that one compiler finds is handed to another, which converts it away",
            upstream=f"{_GITHUB}/issues/43920",
            vllm_range=EVERY,
            sha256={UNTIL_0_16: "2f0d7f4ca1b0d856a0394a1bdab29aeb85b4e2a9ec1ec5c952a0e6ba8126b588"},
            remove_when="vLLM bounds what a request may have compiled",
        ),
        Patch(
            name="grammar-bounds",
            target="vllm.sampling_params:SamplingParams._validate_structured_outputs",
            replacement="vllm_kunlun.platforms.service.input_processor:validate_structured_outputs",
            why="as of earlier releases, whose input processor did what here the parameters do",
            upstream=f"{_GITHUB}/issues/43920",
            vllm_range=V0_33,
            sha256="267de8018e598ce29ffa5ec3d819a44f1f65d0866cd01d2e91f7124b1e7979f3",
            remove_when="vLLM bounds what a request may have compiled",
        ),
        Patch(
            name="backend-of-each-grammar",
            target="vllm.v1.structured_output:StructuredOutputManager.grammar_init",
            replacement="vllm_kunlun.platforms.service.structured_output:grammar_init",
            why="the first request's backend compiles all others', and ends the engine with what "
            "only another takes",
            upstream=f"{_GITHUB}/issues/43920",
            vllm_range=EVERY,
            sha256={UNTIL_0_16: "932fff61905a8146fbd0d951d4e2ee543694b784264ad9893d83f3b2b3606430"},
            remove_when="vLLM keeps a backend for each name",
        ),
        Patch(
            name="grammars-that-fail",
            target="vllm.v1.structured_output:StructuredOutputManager._create_grammar",
            replacement="vllm_kunlun.platforms.service.structured_output:create_grammar",
            why="a grammar that fails to compile ends the engine, in the scheduler",
            upstream=f"{_GITHUB}/pull/47312",
            vllm_range=EVERY,
            sha256={UNTIL_0_16: "5b81505cf0e34b0d238404f80617c278eaff1c93cb8005ab13fd19144da59954"},
            remove_when="a grammar that fails to compile ends its own request alone",
        ),
        Patch(
            name="tokenizer-of-threads",
            target="vllm.utils.async_utils:AsyncMicrobatchTokenizer.__init__",
            replacement="vllm_kunlun.platforms.service.tokenizers:start_batches",
            why="the event loop and the encoding threads use one tokenizer, which answers "
            '"Already borrowed" or truncates as the other asked',
            upstream=f"{_GITHUB}/pull/40829",
            vllm_range=EVERY,
            sha256={UNTIL_0_16: "e30a73ff895211f24d0657a9c5a6cbbaf648bf236216a37740a399456fcf5aa6"},
            remove_when="vLLM gives its encoding threads a tokenizer of their own",
        ),
        Patch(
            name="token-types",
            target="vllm.v1.worker.gpu_model_runner:GPUModelRunner._init_model_kwargs",
            replacement="vllm_kunlun.platforms.service.token_kinds:init_model_kwargs",
            why="a tokenizer that gives token types sends them to every pooling model, and a "
            "decoder's forward ends the engine with them",
            upstream=f"{_GITHUB}/pull/21985",
            vllm_range=EVERY,
            sha256={
                UNTIL_0_16: "ee681e7b67516a8af11b8308bd768ca6e288aaaddc3dbb972848083d535fdfeb",
                V0_33: "ebe6fef53fc5a5dedcb250b139d95415b555edd063ea1329d26ef9f381c99b72",
            },
            remove_when="vLLM leaves token types out where the model has no argument for them",
        ),
    )
