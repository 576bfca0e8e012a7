# SPDX-License-Identifier: Apache-2.0
"""Functions of vLLM that this wheel replaces at run time, as ledger entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vllm_kunlun.ops.vllm_modules import upstream
from vllm_kunlun.platforms.ledger.patch_ledger import Addition, Entry, Patch
from vllm_kunlun.platforms.version import EVERY, UNTIL_0_16, V0_15, V0_16, V0_33

__all__ = ["patches"]

_RUNNER = "vllm_kunlun.ops.vllm_modules.runner"
_DRAFTERS = "vllm_kunlun.ops.vllm_modules.spec_decode"
_LATENT = "vllm_kunlun.ops.vllm_modules.latent_attention"
_STATE_COPIES = "the platform provides the copy of mamba blocks"
_NO_TRITON = "vLLM's drafters have a path without triton"
_LATENT_LAYER = "vllm.model_executor.layers.attention.mla_attention:MLAAttention"
_LATENT_IMPLEMENTATION = "a latent layer leaves all of a step to its backend"


def patches() -> Sequence[Entry]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        _patch(
            name="host-block-table",
            target="vllm.v1.worker.block_table:BlockTable.get_device_tensor",
            replacement=f"{_RUNNER}:get_device_tensor",
            why="the vendor's convolution wants block numbers on the host too: the runner has them "
            "there and hands out the device's copy only, and copying it back waits for the stream",
            sha256="c9805dcffb77eae2d8f5942d49e1965cb9053a04459d70d23a65087f27e3023e",
            remove_when="CommonAttentionMetadata carries the block table's host copy",
        ),
        _patch(
            name="note-state-copies",
            target="vllm.v1.worker.mamba_utils:collect_mamba_copy_meta",
            replacement=f"{_RUNNER}:collect_mamba_copy_meta",
            why="prefix caching of recurrent states notes addresses for a triton kernel",
            sha256="eb28c28f2ae403f66c48d754b1809b6a3601b2b7368555a55632d9f304409137",
            vllm_range=UNTIL_0_16,
            remove_when=_STATE_COPIES,
        ),
        _patch(
            name="note-state-copies",
            target="vllm.v1.worker.mamba_utils:collect_mamba_copy_meta",
            replacement=f"{_RUNNER}:note_state_copies",
            why="as of earlier releases; here into buffers that it is given",
            sha256="f0507c18b8d3d6796015207eb46dbed3fca336c10c6de7cc3c74f3088ee00649",
            vllm_range=V0_33,
            remove_when=_STATE_COPIES,
            release="0.33.0",
        ),
        _patch(
            name="copy-states",
            target="vllm.v1.worker.mamba_utils:do_mamba_copy_block",
            replacement=f"{_RUNNER}:do_mamba_copy_block",
            why="prefix caching of recurrent states copies them by a triton kernel on CUDA",
            sha256="23258295ea03d7931395d2e2ed8fff539a13932aca93a565c1a374c03fa63699",
            vllm_range=UNTIL_0_16,
            remove_when=_STATE_COPIES,
        ),
        _patch(
            name="copy-states",
            target="vllm.v1.worker.mamba_utils:do_mamba_copy_block",
            replacement=f"{_RUNNER}:copy_states",
            why="as of earlier releases; here out of buffers that it is given",
            sha256="9aa97d241e62da9ff13c1c0b016fd3780a4748b3f62bba8a1001b5f22d9ccaf3",
            vllm_range=V0_33,
            remove_when=_STATE_COPIES,
            release="0.33.0",
        ),
        _patch(
            name="grouped-routing",
            target="vllm.model_executor.layers.fused_moe.router.grouped_topk_router:grouped_topk",
            replacement="vllm_kunlun.ops.vllm_modules.grouped_topk_router:grouped_topk",
            why="the router calls this function, compiled torch, where the vendor has its own; "
            "the layer GroupedTopk, replaced by class, is called by nobody",
            sha256={
                UNTIL_0_16: "91a77744fde0632b6cbcb08b551da48d714631167895c66056eb0a0275286c5d",
                V0_33: "497679128f082dd8b0f1572b3b6f30925eacaf8f315f4925843a666b691566ad",
            },
            remove_when="the router calls the layer GroupedTopk",
        ),
        _patch(
            name="grammar-mask",
            target="vllm.v1.structured_output.utils:apply_grammar_bitmask",
            replacement="vllm_kunlun.ops.vllm_modules.structured_output:apply_grammar_bitmask",
            why="it makes an index tensor in pinned memory on every device, and its library takes "
            "triton on a device of type cuda",
            sha256={
                UNTIL_0_16: "d13d5a90542eee9fdaefad74000880b8369f3629faac7d34c4f53851c0623823",
                V0_33: "a63961588d561955f66a5309163ac4ae78e30eb22831dd5cd54c3450987e18e7",
            },
            remove_when="vLLM asks the platform for pinned memory here, and xgrammar has a path in "
            "torch for any device",
        ),
        _patch(
            name="prompt-logprobs",
            target="vllm.v1.worker.gpu_model_runner:GPUModelRunner._get_prompt_logprobs_dict",
            replacement="vllm_kunlun.ops.vllm_modules.prompt_logprobs:get_prompt_logprobs_dict",
            why="it multiplies a prompt's tokens by the output projection as if they were samples: "
            "an adapter there is that of other requests",
            sha256={
                V0_15: "e66d588916edbfeb5c07ef3a6a24a7ea893e7f8d83f331d4a7a40fabf6403568",
                V0_16: "aaeba4739ca75bbfdd1893a6389f6e0cd0d1345688d7bd474500c03c3c2447bd",
                V0_33: "8252165e888a34879939d7e15b9c2b0894f89f642ce06c29d17cf6d3aa96dab0",
            },
            remove_when="add_lora_logits is told which tokens its rows are",
        ),
        _patch(
            name="drafter-next-tokens",
            target="vllm.v1.spec_decode.eagle:SpecDecodeBaseProposer.prepare_next_token_ids_padded",
            replacement=f"{_DRAFTERS}:prepare_next_token_ids_padded",
            why="it launches a triton kernel, and before that reads lengths one request at a time",
            sha256={UNTIL_0_16: "39fbd989318827f72ede86e821d5d189da32ec27377f9d063052ce7fe9efb9c8"},
            remove_when=_NO_TRITON,
        ),
        _patch(
            name="drafter-last-accepted",
            target="vllm.v1.spec_decode.utils:eagle_prepare_inputs_padded_kernel",
            replacement=f"{_DRAFTERS}:last_accepted_kernel",
            why="a triton kernel",
            sha256={UNTIL_0_16: "423608ffc15af97f5062ccf70b6272c36f15624d6f5f924c61ef7d1311305cc6"},
            remove_when=_NO_TRITON,
        ),
        _patch(
            name="drafter-merge-tokens",
            target="vllm.v1.spec_decode.draft_model:merge_toks_kernel",
            replacement=f"{_DRAFTERS}:merge_tokens_kernel",
            why="a triton kernel",
            sha256={V0_15: "0d6ba83c9bd68a6c04869cb5533f7fe54401146a7aacd8ef27630ab0c6e770b4"},
            remove_when=_NO_TRITON,
        ),
        _patch(
            name="drafter-expand-inputs",
            target="vllm.v1.spec_decode.utils:copy_and_expand_eagle_inputs_kernel",
            replacement=f"{_DRAFTERS}:expand_inputs_kernel",
            why="a triton kernel",
            sha256={V0_16: "773c2c5e363b0b028575948b07b16d12ad73e570fe5024cfe543a4f109a1e524"},
            remove_when=_NO_TRITON,
            release="0.16.0",
        ),
        _patch(
            name="drafter-next-tokens-0.33",
            target="vllm.v1.spec_decode.llm_base_proposer:"
            "SpecDecodeBaseProposer.prepare_next_token_ids_padded",
            replacement=f"{_DRAFTERS}:prepare_next_token_ids",
            why="it launches a triton kernel, and before that reads tokens one request at a time",
            sha256={V0_33: "1e802b09345c2d6c9b30c0402593f1dfa1e588fdf015d69c603842b8f2f5a916"},
            remove_when=_NO_TRITON,
            release="0.33.0",
        ),
        _patch(
            name="drafter-last-accepted-0.33",
            target="vllm.v1.spec_decode.utils:_eagle_prepare_inputs_padded",
            replacement=f"{_DRAFTERS}:launch_last_accepted",
            why="it launches a triton kernel",
            sha256={V0_33: "c23cfda673d3f8889d1b1e3b403b782b96e3731979eb710fe50e576ee5535811"},
            remove_when=_NO_TRITON,
            release="0.33.0",
        ),
        _patch(
            name="drafter-expand-inputs-0.33",
            target="vllm.v1.spec_decode.utils:_copy_and_expand_eagle_inputs",
            replacement=f"{_DRAFTERS}:launch_expand_inputs",
            why="it launches a triton kernel",
            sha256={V0_33: "7b188e44eab8f6e6a1ec8b2a3d06672f6be3bc114c555304c11161fecf4392a6"},
            remove_when=_NO_TRITON,
            release="0.33.0",
        ),
        _patch(
            name="drafter-advance",
            target="vllm.v1.spec_decode.utils:eagle_step_update_slot_mapping_and_metadata",
            replacement=f"{_DRAFTERS}:advance_requests",
            why="it launches a triton kernel",
            sha256={V0_33: "46fdb9a96a3098539c46ead25d81d1a7c07a82bf171d9fcce02f240279b5044e"},
            remove_when=_NO_TRITON,
            release="0.33.0",
        ),
        Addition(
            name="drafter-block-size",
            target="vllm.triton_utils:triton.__dict__",
            entries="vllm_kunlun.ops.vllm_modules.triton_placeholder:missing",
            why="a drafter that is a model of its own computes how it launches a kernel by a "
            "function that the stand-in for triton lacks",
            upstream=upstream.link("vllm.triton_utils.importing", "0.16.0"),
            vllm_range=V0_16,
            remove_when=_NO_TRITON,
        ),
        _patch(
            name="latent-layer",
            target=f"{_LATENT_LAYER}.forward_impl",
            replacement=f"{_LATENT}:forward_impl",
            why="it writes the cache and multiplies queries and values, by functions of CUDA",
            sha256={
                V0_16: "5ae7e53441123892b960c44519ea6c2e94f209306ada319e476c34f65357709a",
                V0_33: "9397313e75a7f0d407f04c692fb3c79a73e1475a2d1963383b23ddcdbcf41d39",
            },
            remove_when=_LATENT_IMPLEMENTATION,
            release="0.16.0",
        ),
        _patch(
            name="latent-cache",
            target=f"{_LATENT_LAYER}.update_kv_cache",
            replacement=f"{_LATENT}:update_kv_cache",
            why="it asks the step's metadata how to share rows among ranks; our implementation "
            "writes the cache itself",
            sha256={V0_33: "1c5471f9b39ebdd6aa9359408b5f62d21ca3976ba017612ec8f58e45cc3f7ba0"},
            remove_when=_LATENT_IMPLEMENTATION,
            release="0.33.0",
        ),
        _patch(
            name="latent-weights",
            target=f"{_LATENT_LAYER}.process_weights_after_loading",
            replacement=f"{_LATENT}:process_weights_after_loading",
            why="it keeps weights for products that our implementation does with its own",
            sha256={
                V0_16: "1e0bbd16ea4b4c41da7df56e27db4b264b5de421a877cde76b7a6e6e95a50fb2",
                V0_33: "7ed340b58ecec238ac467e72a11328f6679ec4a91148bfc78a8d8d6df0a1fe7d",
            },
            remove_when=_LATENT_IMPLEMENTATION,
            release="0.16.0",
        ),
        _patch(
            name="drafts-behind-pieces",
            target="vllm.v1.core.sched.scheduler:Scheduler.update_draft_token_ids",
            replacement="vllm_kunlun.ops.vllm_modules.scheduler:update_draft_token_ids",
            why="drafts proposed behind a piece of a prompt are verified behind its last piece: "
            "none can be right, and a recurrent state keeps those that were rejected",
            sha256={V0_15: "3fc10a0f94de7dc68b690add4950a3fa890bcb8b0819a25509f4370750c09d65"},
            remove_when="vLLM's scheduler ignores drafts of requests that still read their prompt, "
            "as 0.16's does",
        ),
    )


def _patch(
    *,
    name: str,
    target: str,
    replacement: str,
    why: str,
    sha256: str | Mapping[str, str],
    remove_when: str,
    release: str = "0.15.1",
    vllm_range: str = EVERY,
) -> Patch:
    return Patch(
        name=name,
        target=target,
        replacement=replacement,
        why=why,
        upstream=upstream.link(target, release),
        vllm_range=vllm_range,
        sha256=sha256,
        remove_when=remove_when,
    )
