# SPDX-License-Identifier: Apache-2.0
"""Which form of a vendor function holds, where public evidence contradicts itself.

Each such point is a :class:`Finding`: two or more forms of one call, of which some library takes
some. The conformance cases try every form (``Case.finding``, ``Case.form``), so that one
``vllm-kunlun ops check`` on a card decides them all; the product asks :func:`chosen` and has a line
for each form. Without a report the table's defaults hold, which are what most of the evidence says.

A finding may also be "proven or not": the form "no" has no cases and is the default, and "yes"
follows once its cases have passed on a card.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from vllm_kunlun.platforms import device, envs
from vllm_kunlun.platforms.errors import UnsupportedError, VendorLibraryError

__all__ = [
    "COMMAND",
    "FINDINGS",
    "Finding",
    "FindingInForce",
    "check_report",
    "chosen",
    "in_force",
    "misfits",
    "refused",
]

COMMAND = "vllm-kunlun ops check --report FILE.json"
"""What makes a report; run on the card, and name its file in ``VLLM_KUNLUN_CARD_FINDINGS``."""


@dataclass(frozen=True)
class Finding:
    """One point on which the evidence is divided.

    Attributes:
        name: of the finding.
        function: of the vendor, "SURFACE.NAME"; the one that the default form calls.
        question: what is open, in a few words.
        forms: name of each form -> what it means.
        default: the form without a report from a card.
        evidence: why that one.
        emulated: the form where the emulator answers, if that is another.
    """

    name: str
    function: str
    question: str
    forms: Mapping[str, str]
    default: str
    evidence: str
    emulated: str | None = None


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "merge-lse",
        "kunlun_ops.attention_merge_stage",
        "How do the log-sum-exps lie?",
        {"tokens-first": "float32 [T, H]", "heads-first": "float32 [H, T]"},
        "tokens-first",
        "The vendor's docstring and its own test of chunked prefill have [T, H], and later callers "
        "transpose; earlier ones pass [H, T].",
    ),
    Finding(
        "kv-cache-write",
        "kunlun_ops.reshape_and_cache_flash",
        "Which function writes the cache of more than one KV head?",
        {
            "reshape_and_cache_flash": "with BLHD_LAYOUT=False, strides honoured",
            "reshape_and_cache": "five arguments by position, dense pages",
        },
        "reshape_and_cache_flash",
        "The existing plugin calls it; its pull request 365 and issue 366 saw repeated text with "
        "two KV heads, which contiguous values may have cured. 46 public trees call the other.",
    ),
    Finding(
        "moe-int8-topk-ids",
        "kunlun_ops.moe_fc",
        "Is the int8 product of experts given topk_ids?",
        {"with": "topk_ids are the choices of each token", "without": "topk_ids is None"},
        "with",
        "All 37 public int8 calls pass them.",
    ),
    Finding(
        "moe-fused-swiglu",
        "kunlun_ops.moe_fc",
        'May act="SWISH_GLU" take the place of swiglu in prefills of 1024 tokens or more?',
        {
            "no": "it is not used: swiglu runs after the product",
            "narrow": "yes, into a y as wide as the result",
            "half": "yes, into the first half of a y twice as wide",
        },
        "no",
        "Errors of about 20 times the values were measured on a card from 1024 tokens on, with a y "
        "twice as wide; a later caller's y is as wide as the result.",
    ),
    Finding(
        "gdn-speculative-states",
        "kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2",
        "Where does the gated delta rule keep the states of draft tokens?",
        {
            "no": "it is not known to: models with a gated delta rule are not served with drafts",
            "columns": "h0_indices [N, S + 1]: a row for each sequence, a column for each token",
            "flat": "h0_indices [T]: one index for each token (this version cannot serve with it)",
        },
        "no",
        "On 0.1.58 h0_indices of another size than the tokens' number is refused; a later source "
        "reads it as [N, S + 1], from column accepted - 1.",
        emulated="columns",
    ),
)

_VENDOR_WHEELS = ("kunlun_ops", "xspeedgate_ops")


@dataclass(frozen=True)
class FindingInForce:
    """A finding, the form that the product uses, and whose word that is."""

    finding: Finding
    form: str
    source: str


@functools.cache
def chosen(name: str) -> str:
    """The form of a finding that this process uses.

    Raises:
        UnsupportedError: the file in ``VLLM_KUNLUN_CARD_FINDINGS`` is not a report from a card, or
            no form of the finding passed there.
    """
    return _in_force(_named(name)).form


def in_force() -> tuple[FindingInForce, ...]:
    """Every finding with its form, for ``doctor``. Raises as :func:`chosen`."""
    return tuple(_in_force(each) for each in FINDINGS)


def check_report() -> None:
    """Read the file that ``VLLM_KUNLUN_CARD_FINDINGS`` names, if it is set.

    Raises:
        UnsupportedError: it is not a report from a card.
    """
    if (path := envs.VLLM_KUNLUN_CARD_FINDINGS) is not None:
        _load(path)


def misfits() -> tuple[str, ...]:
    """What of the report in force is of another vendor library than the installed one."""
    path = envs.VLLM_KUNLUN_CARD_FINDINGS
    if path is None or not device.vendor_wheels_answer():
        return ()
    checked = _load(path)["surroundings"]["wheels"]
    installed = {wheel: _version(wheel) for wheel in _VENDOR_WHEELS}
    return tuple(
        f"{path} is of {wheel} {checked.get(wheel)}, and {version} is installed"
        for wheel, version in installed.items()
        if checked.get(wheel) != version
    )


def refused(name: str, error: Exception) -> VendorLibraryError:
    """The error to raise where the vendor's library refused a call in the chosen form."""
    finding = _named(name)
    return VendorLibraryError(
        f"{finding.function} was called in the form {chosen(name)!r} of the card finding {name!r}, "
        f"and the vendor's library refused it ({type(error).__name__}: {error}). Run `{COMMAND}` "
        "on this card and set VLLM_KUNLUN_CARD_FINDINGS=FILE.json: the report tells which form "
        f"this library takes ({' or '.join(finding.forms)})."
    )


def _named(name: str) -> Finding:
    return {each.name: each for each in FINDINGS}[name]


def _in_force(finding: Finding) -> FindingInForce:
    if not device.vendor_wheels_answer():
        return FindingInForce(finding, finding.emulated or finding.default, "the emulator's")
    path = envs.VLLM_KUNLUN_CARD_FINDINGS
    if path is None or finding.name not in (report := _report(path)):
        return FindingInForce(finding, finding.default, "the default")
    form = report[finding.name]
    if form is None:
        raise UnsupportedError(
            f"VLLM_KUNLUN_CARD_FINDINGS={path}: no form of {finding.name!r} passed on that card "
            f"({' or '.join(finding.forms)}), so {finding.function} cannot be used. Install "
            f"another vendor wheel and run `{COMMAND}` again."
        )
    if form not in finding.forms:
        raise _refusal(path, f"it knows a form {form!r} of {finding.name!r}, this version does not")
    return FindingInForce(finding, form, f"the report {path}")


def _report(path: str) -> dict[str, str | None]:
    """Name of each finding in a report -> the form that follows from it."""
    return {each["name"]: each["follows"] for each in _load(path)["findings"]}


@functools.cache
def _load(path: str) -> Any:
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refusal(path, f"it cannot be read ({type(error).__name__}: {error})") from None
    try:
        emulated = report["surroundings"]["emulated"]
        report["surroundings"]["wheels"].items()
        [(each["name"], each["follows"]) for each in report["findings"]]
    except (KeyError, TypeError, AttributeError):
        raise _refusal(path, "it is not the JSON of `vllm-kunlun ops check`") from None
    if emulated:
        raise _refusal(path, "it is a report on the emulator, which says nothing about a card")
    return report


def _refusal(path: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"VLLM_KUNLUN_CARD_FINDINGS={path}: {why}. Make the file with `{COMMAND}` on the card, or "
        "unset the variable."
    )


def _version(wheel: str) -> str | None:
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return None
