# SPDX-License-Identifier: Apache-2.0
"""Whether models with a gated delta rule may be served with drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.ops.contract.findings import COMMAND, chosen
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["check_drafts"]

FINDING = "gdn-speculative-states"
SERVED = "columns"


def check_drafts(config: VllmConfig) -> None:
    """Refuse drafts until it is known where the vendor's delta rule keeps their states.

    A wrong reading is silent: the states of rejected drafts would go on being used.

    Raises:
        UnsupportedError: tokens are drafted, and no report of a card says that the reading which is
            implemented here holds.
    """
    if config.speculative_config is None or (form := chosen(FINDING)) == SERVED:
        return
    known = (
        "nobody has shown where the card keeps the recurrent states of draft tokens"
        if form == "no"
        else f"this card keeps the recurrent states of draft tokens in the form {form!r}, which "
        f"is not implemented ({SERVED!r} is)"
    )
    raise UnsupportedError(
        f"--speculative-config with {config.model_config.architecture}: {known} (card finding "
        f"{FINDING!r}), and answers could be wrong. Leave --speculative-config out. To prove it, "
        f"run `{COMMAND}` on this card and set VLLM_KUNLUN_CARD_FINDINGS=FILE.json: drafts are "
        f"served if the form {SERVED!r} passed there."
    )
