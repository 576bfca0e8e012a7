# SPDX-License-Identifier: Apache-2.0
"""The options of vLLM's server, which 0.33 keeps in another package."""

from __future__ import annotations

from vllm_kunlun.platforms import version

if version.installed_is_from("0.33"):
    from vllm.entrypoints.common.cli_args import FrontendArgs, make_arg_parser
else:
    from vllm.entrypoints.openai.cli_args import FrontendArgs, make_arg_parser

__all__ = ["FrontendArgs", "make_arg_parser"]
