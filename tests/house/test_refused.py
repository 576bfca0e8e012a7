# SPDX-License-Identifier: Apache-2.0
"""``support/refused.py``: the errors that code can raise, as a reader sees their messages."""

from __future__ import annotations

import ast

import refused

SOURCE = """
class MineError(KunlunError): ...
class DeeperError(MineError): ...
class Other(ValueError): ...

def refuse(size, why):
    raise Other("not ours")
    raise UnsupportedError(
        f"size={size!r} is above {LIMIT:.1f}. "
        "Use a smaller_one."
    )
    return errors.DeeperError("later " + why)
"""


def test_messages_are_shown_with_their_names():
    tree = ast.parse(SOURCE)
    errors = refused.error_classes([tree, ast.parse("class UnsupportedError(KunlunError): ...")])
    assert errors == {"KunlunError", "UnsupportedError", "MineError", "DeeperError"}
    assert list(refused.raised(tree, errors)) == [
        ("", "size={size} is above {LIMIT}. Use a smaller\\_one."),
        ("`DeeperError`: ", "later {why}"),
    ]


def test_the_page_holds_what_users_meet_most():
    page = refused.page(refused.ROOT, refused.read_all())
    assert page.count("\n## ") >= 5
    for said in ("pip install {wheel}", "the card has no fp8", "--block-size"):
        assert said in page
