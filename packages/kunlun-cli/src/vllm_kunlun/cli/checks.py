# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` looks at. Each check stands alone: one that breaks is reported, not the end."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from packaging.requirements import Requirement

from vllm_kunlun.cli import graphs
from vllm_kunlun.cli.check import Check
from vllm_kunlun.platforms import device, envs, version
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError
from vllm_kunlun.platforms.ledger import import_hook, patch_ledger

__all__ = ["CHECKS", "GROUPS", "run"]

WHEELS = {
    "kunlun-platform": "the platform",
    "kunlun-custom-ops": "layers, attention and sampling",
    "kunlun-cli": "this command",
}
"""Wheels that serving a model takes, besides a family's."""

EMULATOR = "kunlun-emulator"
"""The wheel that serving a model takes on a machine without a card."""

FAMILY_PREFIX = "kunlun-models-"

VENDOR_WHEELS = ("kunlun_ops", "xspeedgate_ops", "cocopod")

GROUPS = (
    "vllm.platform_plugins",
    "vllm.general_plugins",
    "vllm_kunlun.attention_backends",
    "vllm_kunlun.module_redirects",
    "vllm_kunlun.patches",
    "vllm_kunlun.model_families",
    "vllm_kunlun.platform_classes",
    "vllm_kunlun.splitting_ops",
)


def run(say: Callable[[str], object] = lambda name: None) -> list[Check]:
    """Every check, in an order in which earlier ones explain later ones.

    Args:
        say: told the name of each check before it is made; importing vLLM takes most of the time.
    """
    # A failing entry point is reported as a check; its log entry would say it twice.
    logging.getLogger("vllm.kunlun").setLevel(logging.CRITICAL)
    found: list[Check] = []
    for name, check in CHECKS.items():
        say(name)
        try:
            found.extend(check())
        except KunlunError as error:
            found.append(Check(name, "fail", str(error), "do what the message says"))
        except Exception as error:  # noqa: BLE001 -- a broken piece is what doctor is for
            found.append(
                Check(
                    name,
                    "fail",
                    f"the check itself broke: {type(error).__name__}: {error}",
                    "reinstall the wheel that the message names",
                )
            )
    return found


def _namespace() -> Iterator[Check]:
    import vllm_kunlun

    owner = getattr(vllm_kunlun, "__file__", None)
    if owner is None:
        yield Check("namespace", "ok", "vllm_kunlun is shared by the wheels")
        return
    yield Check(
        "namespace",
        "fail",
        f"{owner} makes vllm_kunlun one package and hides the other wheels' modules",
        "uninstall the other plugin that brought it: pip uninstall vllm-kunlun, "
        "then reinstall the wheels",
    )


def _wheels() -> Iterator[Check]:
    for name, purpose in WHEELS.items():
        found = _version(name)
        if found is None:
            yield Check(
                f"wheel {name}", "fail", f"not installed ({purpose})", f"pip install {name}"
            )
        else:
            yield Check(f"wheel {name}", "ok", found)
    families = sorted(
        {
            distribution.name
            for distribution in metadata.distributions()
            if distribution.name and distribution.name.startswith(FAMILY_PREFIX)
        }
    )
    for name in families:
        yield Check(f"wheel {name}", "ok", str(_version(name)))
    if not families:
        yield Check(
            "wheel kunlun-models-*",
            "warn",
            "no family wheel is installed: models run with vLLM's defaults, without a preset",
            "pip install kunlun-models-qwen, for one",
        )
    yield from _fit([*WHEELS, EMULATOR, *families])


def _emulator() -> Iterator[Check]:
    name, found = f"wheel {EMULATOR}", _version(EMULATOR)
    if found is not None:
        yield Check(name, "ok", found)
    elif device.detect().kind == "emulated":
        yield Check(
            name,
            "fail",
            "not installed, and no card is used: nothing takes its place",
            f"pip install {EMULATOR}",
        )


def _fit(wheels: list[str]) -> Iterator[Check]:
    """Whether our wheels' versions are those that they ask of each other."""
    for name in wheels:
        if _version(name) is None:
            continue
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            found = _version(requirement.name)
            ours = requirement.name in (*WHEELS, EMULATOR) or requirement.name.startswith(
                FAMILY_PREFIX
            )
            if ours and found is not None and found not in requirement.specifier:
                yield Check(
                    f"wheel {requirement.name}",
                    "fail",
                    f"{name} needs {requirement.name}{requirement.specifier}, found {found}",
                    f"pip install '{requirement.name}{requirement.specifier}'",
                )


def _vendor_wheels() -> Iterator[Check]:
    answer = device.vendor_wheels_answer()
    for module in VENDOR_WHEELS:
        name, found, spec = f"vendor wheel {module}", _version(module), find_spec(module)
        if not answer:
            state = f"{found}, unused" if found else "not installed"
            yield Check(name, "ok", f"{state}; the emulator stands in")
        elif spec is None:
            yield Check(
                name,
                "fail",
                "not installed, and its functions are asked for",
                "install the vendor's wheel for this Python and torch",
            )
        elif found is None:
            yield Check(
                name,
                "warn",
                f"{spec.origin} is used, and no installed wheel brought it",
                "take its folder off PYTHONPATH unless it is a test's fake",
            )
        else:
            yield Check(name, "ok", found)
    if answer and device.detect().kind != "xpu":
        yield Check(
            "vendor wheels off the card",
            "warn",
            "VLLM_KUNLUN_VENDOR=wheels: they are used, not the emulator, though no card is",
            "unset VLLM_KUNLUN_VENDOR unless a test set it",
        )


def _libraries() -> Iterator[Check]:
    for name in ("torch", "transformers"):
        found = _version(name)
        if found is None:
            yield Check(name, "fail", "not installed", f"pip install {name}")
        else:
            yield Check(name, "ok", found)


def _vllm() -> Iterator[Check]:
    version.check_vllm()
    found, tested = version.installed_vllm(), version.tested_in_words()
    if (release := version.tested_as(found)) is not None:
        yield Check("vllm", "ok", f"{found}, tested as {release}; tested is {tested}")
        return
    yield Check(
        "vllm",
        "warn",
        f"{found} is untested, and VLLM_KUNLUN_ALLOW_UNTESTED_VLLM lets it run; tested is {tested}",
        "hold its answers against those of a tested release",
    )


def _device() -> Iterator[Check]:
    found = device.detect()
    if found.kind == "none":
        yield Check(
            "device", "warn", f"none: {found.reason}", "set VLLM_KUNLUN_DEVICE=emulated or xpu"
        )
    else:
        yield Check("device", "ok", f"{found.kind}: {found.reason}")


def _platform() -> Iterator[Check]:
    if device.detect().kind == "none":
        yield Check("platform", "warn", "not asked for: the plugin stands aside")
        return
    version.check_vllm()
    from vllm.platforms import current_platform

    chosen = f"{type(current_platform).__module__}.{type(current_platform).__qualname__}"
    if type(current_platform).__module__.startswith("vllm_kunlun."):
        yield Check("platform", "ok", f"{chosen}: {current_platform.get_device_name()}")
        return
    yield Check(
        "platform",
        "fail",
        f"vLLM chose {chosen} instead of ours",
        "unset VLLM_PLUGINS or add kunlun to it, and uninstall other platform plugins",
    )


def _vendor_symbols() -> Iterator[Check]:
    library = importlib.import_module("vllm_kunlun.ops.vendor_ops.library")
    signatures = importlib.import_module("vllm_kunlun.ops.contract.signatures")
    found = signatures.compare(library.libraries())
    for name, missing in library.missing_symbols().items():
        needed = [each for each in missing if not library.is_optional(f"{name}.{each}")]
        if needed:
            yield Check(
                f"functions of {name}",
                "fail",
                f"lacks {', '.join(needed)}",
                f"install a newer vendor wheel of {name}",
            )
        elif missing:
            yield Check(
                f"functions of {name}",
                "warn",
                f"lacks {', '.join(missing)}; plain torch or another function stands in",
                f"install the vendor's wheel of {name}, a newer one if there is one",
            )
        else:
            yield Check(f"functions of {name}", "ok", "none is missing")
        yield from _signatures(name, [each for each in found if each.function.startswith(name)])


def _signatures(library: str, found: list[Any]) -> Iterator[Check]:
    """Whether the functions of one library take what the adapter passes."""
    name = f"arguments of {library}"
    differ = [each for each in found if each.state == "differs"]
    for each in differ:
        yield Check(
            name,
            "fail",
            f"{each.function} {each.detail}",
            "install the vendor's wheels for this torch",
        )
    unknown = [each.function.split(".", 1)[1] for each in found if each.state == "unknown"]
    if not differ:
        fit = len(found) - len(unknown)
        text = f"{fit} functions take what is passed"
        more = (
            f"; the arguments of {len(unknown)} cannot be read: {', '.join(unknown)}"
            if unknown
            else ""
        )
        yield Check(name, "ok", text + more)


def _card_findings() -> Iterator[Check]:
    card_findings = importlib.import_module("vllm_kunlun.ops.contract.findings")
    for each in card_findings.in_force():
        yield Check(
            f"card finding {each.finding.name}",
            "ok",
            f"{each.form} ({each.source}): {each.finding.forms[each.form]}",
        )
    for text in card_findings.misfits():
        yield Check(
            "card findings' report", "warn", text, f"run `{card_findings.COMMAND}` on this card"
        )


def _entry_points() -> Iterator[Check]:
    for group in GROUPS:
        names, broken = [], False
        for entry in metadata.entry_points(group=group):
            if not entry.value.startswith("vllm_kunlun.") and group.startswith("vllm."):
                continue  # another project's plugin for vLLM
            names.append(entry.name)
            try:
                entry.load()
            except Exception as error:  # noqa: BLE001 -- reported as a check
                broken = True
                owner = entry.dist.name if entry.dist else "its wheel"
                yield Check(
                    f"entry point {group}: {entry.name}",
                    "fail",
                    f"{entry.value} does not load: {type(error).__name__}: {error}",
                    f"pip install --force-reinstall --no-deps {owner}",
                )
        if not broken:
            yield Check(f"entry points {group}", "ok", ", ".join(names) or "none")


def _redirects() -> Iterator[Check]:
    for each in import_hook.report():
        yield _ledger_entry(f"redirect {each.redirect.target}", each.state, each.detail)


def _patches() -> Iterator[Check]:
    for each in patch_ledger.report():
        yield _ledger_entry(f"patch {each.patch.name}", each.state, each.detail)


def _ledger_entry(name: str, state: str, detail: str) -> Check:
    if state == "left out":
        fix = "models run uncompiled: slower, same results; install the wheels for this torch"
        return Check(name, "warn", f"compilation is turned off: {detail}", fix)
    if state == "stale":
        return Check(name, "fail", detail, "see the detail")
    return Check(name, "ok", f"{state}: {detail}")


def _environment() -> Iterator[Check]:
    found = False
    for name, resembles in envs.unread().items():
        found = True
        fix = f"did you mean {resembles}?" if resembles else "unset it; `vllm-kunlun env` lists all"
        yield Check(f"variable {name}", "warn", "is set, but nothing reads it", fix)
    for row in envs.describe():
        name = row["name"]
        try:
            getattr(envs, name)
        except UnsupportedError as error:
            found = True
            yield Check(f"variable {name}", "fail", str(error), "correct it or unset it")
    if not found:
        yield Check("environment", "ok", "every variable that is set is known and valid")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


CHECKS: dict[str, Callable[[], Iterator[Check]]] = {
    "namespace": _namespace,
    "wheels": _wheels,
    "libraries": _libraries,
    "vllm": _vllm,
    "device": _device,
    "emulator": _emulator,
    "environment": _environment,
    "platform": _platform,
    "vendor wheels": _vendor_wheels,
    "vendor functions": _vendor_symbols,
    "card findings": _card_findings,
    "entry points": _entry_points,
    "redirects": _redirects,
    "patches": _patches,
    "graphs": graphs.check_settings,
}
