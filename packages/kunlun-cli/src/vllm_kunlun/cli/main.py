# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun``: puts the commands together.

Exit codes: 0 the answer is yes, 1 the answer is no (a check failed, tokens differ), 2 the command
could not be carried out; the reason is on standard error.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from vllm_kunlun.cli import demo, doctor, env, models, serve
from vllm_kunlun.cli.adapt import adapt
from vllm_kunlun.cli.assess import assess
from vllm_kunlun.cli.console import err
from vllm_kunlun.cli.lint import lint
from vllm_kunlun.cli.ops import ops
from vllm_kunlun.cli.rehearse import rehearse
from vllm_kunlun.cli.teaching import epilog, flowing
from vllm_kunlun.cli.tensors import weights
from vllm_kunlun.cli.verify import verify
from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["app"]

_EXIT_CODES = "Exit codes: 0 yes, 1 no (a check failed, tokens differ), 2 could not be done."


class _Group(TyperGroup):
    """Shows an error that we raise on purpose as one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KunlunError as error:
            err.print(f"error: {error}", markup=False)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Group,
    name="vllm-kunlun",
    help="vLLM on Baidu Kunlun P800 cards, and on their emulation where there is no card.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_COMMANDS = (
    *(demo.demo, serve.serve, doctor.doctor, env.env, models.models),
    *(assess, adapt, lint, weights, verify, rehearse),
)
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
for command in _COMMANDS:
    name = command.__name__
    app.command(
        name,
        help=flowing(command.__doc__),
        epilog=epilog(name),
        context_settings=_PASSED_ON if name == "serve" else None,
    )(command)
app.add_typer(ops)
