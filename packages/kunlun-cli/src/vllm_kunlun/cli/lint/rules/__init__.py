# SPDX-License-Identifier: Apache-2.0
"""The rules, a file each. A new one is a file here and a line below."""

from vllm_kunlun.cli.lint.rules import (
    activation,
    attention,
    compile,
    host_read,
    lazy_registration,
    load_weights,
    op_annotations,
    op_mutates,
    pp_layers,
    pp_missing,
    pp_tensors,
    pp_weights,
    prefix,
    registered_name,
    stacked_params,
    vllm_names,
    vllm_use_v1,
    x127,
)

__all__ = ["SOURCE_RULES"]

SOURCE_RULES = tuple(
    module.RULE
    for module in (
        attention,
        activation,
        vllm_names,
        prefix,
        load_weights,
        stacked_params,
        compile,
        registered_name,
        lazy_registration,
        vllm_use_v1,
        op_annotations,
        op_mutates,
        x127,
        pp_layers,
        pp_missing,
        pp_tensors,
        pp_weights,
        host_read,
    )
)
"""Those that look at a file, in the order of the manual's checklist."""
