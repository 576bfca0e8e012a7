# SPDX-License-Identifier: Apache-2.0
"""The server's options are there, with the words of the class that holds them."""

from __future__ import annotations

from dataclasses import is_dataclass

from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_kunlun.platforms.vllm_compat.server_options import FrontendArgs, make_arg_parser


def test_a_parser_of_every_option() -> None:
    assert is_dataclass(FrontendArgs)
    parser = make_arg_parser(FlexibleArgumentParser(add_help=False))
    names = {option for action in parser._actions for option in action.option_strings}
    assert {"--port", "--max-model-len", "--chat-template"} <= names
