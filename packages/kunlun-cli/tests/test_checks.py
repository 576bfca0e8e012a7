# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` looks at: each planted fault is one failed check, and the others still run."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import pytest

from vllm_kunlun.cli import checks
from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.ledger import import_hook, patch_ledger


def failed(value):
    return {check["name"]: check for check in value["checks"] if check["status"] == "fail"}


@pytest.fixture
def only(monkeypatch):
    """Run these checks only: most take no import of vLLM."""

    def choose(*names):
        monkeypatch.setattr(checks, "CHECKS", {name: checks.CHECKS[name] for name in names})

    return choose


def test_unsupported_vllm(run_json, only, monkeypatch):
    only("vllm", "wheels")
    monkeypatch.delenv("VLLM_KUNLUN_ALLOW_UNTESTED_VLLM", raising=False)
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.11.0")
    code, value = run_json("doctor")
    assert (code, value["ok"]) == (1, False)
    assert set(failed(value)) == {"vllm"}
    assert "0.11.0" in failed(value)["vllm"]["detail"]


def test_missing_wheel(run, run_json, only, monkeypatch):
    only("wheels")
    real = metadata.version

    def without_ops(name):
        if name == "kunlun-custom-ops":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", without_ops)
    code, value = run_json("doctor")
    assert code == 1
    assert failed(value)["wheel kunlun-custom-ops"]["fix"] == "pip install kunlun-custom-ops"
    assert "pip install kunlun-custom-ops" in run("doctor").stdout


def test_wheels_that_do_not_fit_each_other(run_json, only, monkeypatch):
    only("wheels")
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "0.9.0" if name == "kunlun-platform" else real(name)
    )
    _, value = run_json("doctor")
    detail = failed(value)["wheel kunlun-platform"]["detail"]
    assert "kunlun-platform" in detail
    assert "found 0.9.0" in detail


def test_a_module_that_is_gone_fails_its_entry_point_only(run_json, only, monkeypatch):
    only("entry points")
    entry = metadata.EntryPoint("gone", "vllm_kunlun.gone:provider", "vllm_kunlun.patches")
    real = metadata.entry_points

    def planted(group):
        return (entry,) if group == "vllm_kunlun.patches" else real(group=group)

    monkeypatch.setattr(metadata, "entry_points", planted)
    _, value = run_json("doctor")
    assert list(failed(value)) == ["entry point vllm_kunlun.patches: gone"]
    detail = failed(value)["entry point vllm_kunlun.patches: gone"]["detail"]
    assert "vllm_kunlun.gone:provider does not load: ModuleNotFoundError" in detail


def test_stale_redirect(run_json, only, monkeypatch):
    only("redirects")
    redirect = import_hook.Redirect(
        target="vllm.version",
        replacement="vllm_kunlun.gone",
        why="planted",
        upstream="",
        vllm_range=">=0.15.1",
        sha256="0" * 64,
        remove_when="never",
    )
    monkeypatch.setattr(import_hook, "collect", lambda: {redirect.target: redirect})
    code, value = run_json("doctor")
    assert code == 1
    assert "sha256" in failed(value)["redirect vllm.version"]["detail"]


def test_stale_patch(run_json, only, monkeypatch):
    only("patches")
    patch = patch_ledger.Patch(
        name="planted",
        target="json:dumps",
        replacement="json:loads",
        why="planted",
        upstream="",
        vllm_range=">=0.15.1",
        sha256="0" * 64,
        remove_when="never",
    )
    monkeypatch.setattr(patch_ledger, "collect", lambda: {patch.name: patch})
    _, value = run_json("doctor")
    assert "json:dumps" in failed(value)["patch planted"]["detail"]


def test_a_patch_that_only_compilation_needs_is_a_warning(run_json, only, monkeypatch):
    only("patches")
    patch = patch_ledger.Patch(
        name="planted",
        target="json:dumps",
        replacement="json:loads",
        why="planted",
        upstream="",
        vllm_range=">=0.15.1",
        sha256="0" * 64,
        remove_when="never",
        only_compilation=True,
    )
    monkeypatch.setattr(patch_ledger, "collect", lambda: {patch.name: patch})
    code, value = run_json("doctor")
    assert code == 0
    (check,) = value["checks"]
    assert check["status"] == "warn"
    assert check["detail"].startswith("compilation is turned off: patch 'planted'")


def test_vendor_library_without_a_function(run_json, only):
    from vllm_kunlun.emulator import kunlun_ops
    from vllm_kunlun.ops.vendor_ops.library import use_libraries

    only("vendor functions")
    lacking = types.SimpleNamespace(
        **{name: getattr(kunlun_ops, name) for name in kunlun_ops.__all__ if name != "rmsnorm"}
    )
    with use_libraries(kunlun_ops=lacking):
        code, value = run_json("doctor")
    assert code == 1
    assert list(failed(value)) == ["functions of kunlun_ops"]
    assert failed(value)["functions of kunlun_ops"]["detail"] == "lacks rmsnorm"


def test_an_optional_library_that_is_not_there_is_a_warning(run_json, only):
    from vllm_kunlun.ops.vendor_ops.library import use_libraries

    only("vendor functions")
    with use_libraries(flash_attn=None):
        code, value = run_json("doctor")
    assert code == 0
    (warned,) = [check for check in value["checks"] if check["status"] == "warn"]
    assert warned["name"] == "functions of flash_attn"
    assert "lacks flash_attn_func, flash_attn_varlen_func" in warned["detail"]
    assert "wheel of flash_attn" in warned["fix"]


def test_functions_that_take_other_arguments(run_json, only):
    from vllm_kunlun.emulator import kunlun_ops
    from vllm_kunlun.ops.vendor_ops.library import use_libraries

    only("vendor functions")

    def swiglu(x, out): ...

    others = types.SimpleNamespace(**{**vars(kunlun_ops), "swiglu": swiglu, "rmsnorm": max})
    with use_libraries(kunlun_ops=others):
        code, value = run_json("doctor")
    assert code == 1
    assert (
        "kunlun_ops.swiglu refuses our call" in failed(value)["arguments of kunlun_ops"]["detail"]
    )
    others.swiglu = kunlun_ops.swiglu
    with use_libraries(kunlun_ops=others):
        code, value = run_json("doctor")
    assert code == 0
    (found,) = [each for each in value["checks"] if each["name"] == "arguments of kunlun_ops"]
    assert "the arguments of 1 cannot be read: rmsnorm" in found["detail"]


def test_card_findings_say_whose_word_they_are(run_json, only, monkeypatch, tmp_path):
    from vllm_kunlun.ops.contract import findings

    only("card findings")
    layout = findings.Finding("layout", "kunlun_ops.f", "?", {"a": "A", "b": "B"}, "a", "")
    rule = findings.Finding("rule", "kunlun_ops.g", "?", {"no": "N", "yes": "Y"}, "no", "")
    monkeypatch.setattr(findings, "FINDINGS", (layout, rule))

    def details():
        _, value = run_json("doctor")
        return {check["name"]: (check["status"], check["detail"]) for check in value["checks"]}

    assert details()["card finding layout"] == ("ok", "a (the emulator's): A")
    monkeypatch.setenv("VLLM_KUNLUN_VENDOR", "wheels")
    file = tmp_path / "card.json"
    file.write_text(
        '{"surroundings": {"emulated": false, "wheels": {"kunlun_ops": "1.2"}}, '
        '"findings": [{"name": "layout", "follows": "b"}]}'
    )
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", str(file))
    found = details()
    assert found["card finding layout"] == ("ok", f"b (the report {file}): B")
    assert found["card finding rule"] == ("ok", "no (the default): N")
    assert found["card findings' report"][0] == "warn"
    monkeypatch.setenv("VLLM_KUNLUN_CARD_FINDINGS", str(tmp_path / "gone.json"))
    code, value = run_json("doctor")
    assert code == 1
    assert "gone.json" in failed(value)["card findings"]["detail"]


def vendor_checks(value):
    return {c["name"]: (c["status"], c["detail"]) for c in value["checks"]}


def test_vendor_wheels_are_not_used_without_a_card(run_json, only, monkeypatch):
    only("vendor wheels")
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "1.1.0" if name == "cocopod" else real(name)
    )
    code, value = run_json("doctor")
    assert code == 0
    found = vendor_checks(value)
    assert found["vendor wheel cocopod"] == ("ok", "1.1.0, unused; the emulator stands in")
    assert found["vendor wheel kunlun_ops"][1] == "not installed; the emulator stands in"


def test_modules_that_answer_in_place_of_vendor_wheels(run_json, only, monkeypatch, tmp_path):
    only("vendor wheels")
    monkeypatch.setenv("VLLM_KUNLUN_VENDOR", "wheels")
    for module in ("kunlun_ops", "xspeedgate_ops"):
        (tmp_path / f"{module}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    code, value = run_json("doctor")
    assert (code, list(failed(value))) == (1, ["vendor wheel cocopod"])
    found = vendor_checks(value)
    status, detail = found["vendor wheel kunlun_ops"]
    assert status == "warn"
    assert str(tmp_path / "kunlun_ops.py") in detail
    status, detail = found["vendor wheels off the card"]
    assert status == "warn"
    assert "VLLM_KUNLUN_VENDOR=wheels" in detail


def test_a_card_that_is_asked_for_and_not_there(run_json, only, monkeypatch):
    only("device", "environment")
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "xpu")
    _, value = run_json("doctor")
    assert list(failed(value)) == ["device"]
    assert "VLLM_KUNLUN_DEVICE=emulated" in failed(value)["device"]["detail"]


def test_variables_that_nobody_reads_warn_and_bad_values_fail(run_json, only, monkeypatch):
    only("environment")
    monkeypatch.setenv("XPU_VISIBLE_DEVICE", "0")
    monkeypatch.setenv("VLLM_KUNLUN_MAX_N", "many")
    _, value = run_json("doctor")
    assert list(failed(value)) == ["variable VLLM_KUNLUN_MAX_N"]
    warned = [check for check in value["checks"] if check["status"] == "warn"]
    assert [(w["name"], w["fix"]) for w in warned] == [
        ("variable XPU_VISIBLE_DEVICE", "did you mean XPU_VISIBLE_DEVICES?")
    ]


def test_a_package_that_hides_the_namespace(run_json, only, monkeypatch):
    only("namespace")
    monkeypatch.setattr(sys.modules["vllm_kunlun"], "__file__", "/x/__init__.py", raising=False)
    _, value = run_json("doctor")
    assert "/x/__init__.py" in failed(value)["namespace"]["detail"]


def test_a_check_that_breaks_is_a_finding_and_the_rest_goes_on(run_json, monkeypatch):
    def broken():
        raise ZeroDivisionError("planted")
        yield

    monkeypatch.setattr(
        checks, "CHECKS", {"broken": broken, "environment": checks.CHECKS["environment"]}
    )
    code, value = run_json("doctor")
    assert code == 1
    assert [check["name"] for check in value["checks"]] == ["broken", "environment"]
    assert "ZeroDivisionError: planted" in value["checks"][0]["detail"]
