# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import importlib.resources
import inspect
import logging
import sys
from dataclasses import replace

import pytest

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import PatchError
from vllm_kunlun.platforms.ledger import import_hook, patch_ledger
from vllm_kunlun.platforms.ledger.import_hook import Redirect
from vllm_kunlun.platforms.ledger.patch_ledger import Patch, source_sha256

MODULE = "victim.engine"

VICTIM = """
    import functools

    LIMIT = 10

    def double(x):
        return 2 * x

    @functools.lru_cache
    def cached(x):
        return x + LIMIT

    class Runner:
        def step(self):
            return "vllm"

        @staticmethod
        def name():
            return "vllm"

        @classmethod
        def make(cls):
            return ("vllm", cls)

    class Fast(Runner):
        pass
    """

OURS = """
    from vllm_kunlun.platforms.ledger import patch_ledger
    LIMIT = 99
    def double(x): return 100 + patch_ledger.original("double")(x)
    def step(self): return "ours over " + patch_ledger.original("step")(self)
    def name(): return "ours"
    def make(cls): return ("ours", cls)
    def cached(x): return -x
    """

PROVIDER = """
    from vllm_kunlun.platforms.ledger.patch_ledger import Patch
    def patches():
        return [Patch(name={name!r}, target={target!r}, replacement={replacement!r}, why="w",
                      upstream="u", vllm_range=">=0.15.1", sha256={sha256!r}, remove_when="r")]
    """


@pytest.fixture(autouse=True)
def planted(ground) -> None:
    ground.module(MODULE, VICTIM)
    ground.module("our_patches", OURS)


def make(path: str, replacement: str | None = None) -> Patch:
    name = path.rpartition(".")[2]
    target = f"{MODULE}:{path}"
    return Patch(
        name=name,
        target=target,
        replacement=f"our_patches:{replacement or name}",
        why="why",
        upstream="link",
        vllm_range=">=0.15.1",
        sha256=source_sha256(target) or "0" * 64,
        remove_when="never",
    )


def provide(ground, patch: Patch, wheel: str) -> None:
    module = wheel.replace("-", "_") + "_patches"
    ground.module(
        module,
        PROVIDER.format(
            name=patch.name,
            target=patch.target,
            replacement=patch.replacement,
            sha256=patch.sha256,
        ),
    )
    ground.distribution(wheel, patches={wheel: f"{module}:patches"})


def status(patch: Patch) -> patch_ledger.PatchStatus:
    (found,) = patch_ledger.report([patch])
    return found


@pytest.mark.parametrize("imported_first", [True, False])
def test_applied_now_or_after_the_import(imported_first: bool) -> None:
    patches = [make("double"), make("Runner.step"), make("LIMIT")]
    if imported_first:
        importlib.import_module(MODULE)
    patch_ledger.install(patches)
    if not imported_first:
        assert MODULE not in sys.modules
        assert "our_patches" not in sys.modules
        assert {status(patch).state for patch in patches} == {"waiting"}
    engine = importlib.import_module(MODULE)
    assert engine.double(3) == 106
    assert engine.Runner().step() == engine.Fast().step() == "ours over vllm"
    assert engine.LIMIT == 99
    assert patch_ledger.original("double")(3) == 6
    assert {status(patch).state for patch in patches} == {"active"}


def test_static_and_class_methods_stay_what_they_are() -> None:
    patch_ledger.install([make("Runner.name"), make("Runner.make")])
    engine = importlib.import_module(MODULE)
    assert engine.Runner().name() == engine.Runner.name() == "ours"
    assert engine.Fast.make() == ("ours", engine.Fast)
    patch_ledger.remove()
    assert engine.Runner().name() == "vllm"
    assert engine.Fast.make() == ("vllm", engine.Fast)
    assert isinstance(vars(engine.Runner)["make"], classmethod)


def test_remove_restores_the_very_objects() -> None:
    engine = importlib.import_module(MODULE)
    before = dict(vars(engine)), dict(vars(engine.Runner))
    finders = list(sys.meta_path)
    patch_ledger.install([make("double"), make("Runner.step"), make("cached")])
    assert engine.cached(4) == -4
    patch_ledger.remove()
    patch_ledger.remove()
    assert (dict(vars(engine)), dict(vars(engine.Runner))) == before
    assert sys.meta_path == finders
    with pytest.raises(PatchError, match="not applied"):
        patch_ledger.original("double")


def test_install_twice_and_after_a_reload() -> None:
    patch = make("double")
    patch_ledger.install([patch])
    engine = importlib.import_module(MODULE)
    patch_ledger.install([patch])
    ledger = importlib.reload(patch_ledger)
    ledger.install([ledger.Patch(**vars(patch))])
    assert sum(type(finder).__name__ == "PatchFinder" for finder in sys.meta_path) == 1
    assert engine.double(3) == 106, "applied once, not over itself"
    ledger.remove()
    assert engine.double(3) == 6


def test_a_reloaded_module_is_patched_again() -> None:
    patch_ledger.install([make("double")])
    engine = importlib.import_module(MODULE)
    assert importlib.reload(engine).double(3) == 106
    patch_ledger.remove()
    assert engine.double(3) == 6


def test_the_module_looks_as_if_loaded_without_us() -> None:
    patch_ledger.install([make("double")])
    engine = importlib.import_module(MODULE)
    assert type(engine.__loader__).__name__ == "SourceFileLoader"
    assert engine.__spec__.loader is engine.__loader__
    assert "def step" in inspect.getsource(engine.Runner)
    assert importlib.resources.files("victim").joinpath("engine.py").is_file()


def test_copies_made_before_the_patch_are_named(ground, caplog: pytest.LogCaptureFixture) -> None:
    ground.module("victim.early", f"from {MODULE} import double")
    importlib.import_module("victim.early")
    with caplog.at_level(logging.WARNING, logger="vllm.kunlun"):
        patch_ledger.install([make("double")])
    assert "victim.early" in caplog.text
    assert "victim.early" in status(make("double")).detail


# -- planted faults ---------------------------------------------------------------------------


def refused(patch: Patch, *expected: str) -> None:
    """Refused each time it is asked for: vLLM calls a platform plugin twice."""
    for _ in range(2):
        with pytest.raises(PatchError) as caught:
            patch_ledger.install([patch])
        for text in (patch.name, *expected):
            assert text in str(caught.value)
    assert status(patch).state == "stale"
    assert importlib.import_module(MODULE).double(3) == 6


@pytest.mark.parametrize("imported_first", [True, False])
def test_a_changed_source(ground, imported_first: bool) -> None:
    patch = make("double")
    ground.module(MODULE, VICTIM.replace("2 * x", "x * 2"))
    if imported_first:
        importlib.import_module(MODULE)
    refused(patch, patch.sha256, source_sha256(patch.target) or "")


def test_a_change_elsewhere_in_the_file_is_none_of_its_business(ground) -> None:
    patch = make("double")
    ground.module(MODULE, VICTIM.replace("x + LIMIT", "x - LIMIT"))
    patch_ledger.install([patch])
    assert importlib.import_module(MODULE).double(3) == 106


@pytest.mark.parametrize("path", ["gone", "Runner.gone", "Fast.step", "Gone.step"])
def test_a_missing_attribute(path: str) -> None:
    refused(make(path, "double"), "is not defined in its source")


def test_a_missing_module() -> None:
    refused(replace(make("double"), target="victim.gone:double"), "victim.gone:double")


def test_an_untested_vllm_outside_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.99.0")
    entry = replace(make("double"), vllm_range="<0.15", sha256="0" * 64)
    refused(entry, "<0.15", "0.99.0 is installed")


def test_someone_else_was_faster(ground) -> None:
    ground.module("intruder", "def double(x): return -x")
    engine = importlib.import_module(MODULE)
    engine.double = importlib.import_module("intruder").double
    with pytest.raises(PatchError, match=r"already replaced by the code at .*intruder\.py:1"):
        patch_ledger.install([make("double")])
    assert engine.double(3) == -3


def test_someone_else_comes_after_us() -> None:
    patch_ledger.install([make("double")])
    engine = importlib.import_module(MODULE)
    engine.double = theirs = lambda x: -x
    assert "replaced again" in status(make("double")).detail
    patch_ledger.remove()
    assert engine.double is theirs, "not ours to undo"


@pytest.mark.parametrize("imported_first", [True, False])
def test_a_replacement_that_fails(ground, imported_first: bool) -> None:
    """Nothing of a failed call stays applied, and the second call fails like the first."""
    patches = [make("Runner.step"), replace(make("double"), replacement="our_patches:gone")]
    if imported_first:
        engine = importlib.import_module(MODULE)
        for _ in range(2):
            with pytest.raises(PatchError, match=r"'double'.*our_patches:gone"):
                patch_ledger.install(patches)
        assert engine.Runner().step() == "vllm"
        return
    patch_ledger.install(patches)
    for _ in range(2):
        with pytest.raises(PatchError, match=r"'double'.*our_patches:gone"):
            importlib.import_module(MODULE)
    assert MODULE not in sys.modules
    assert {status(patch).state for patch in patches} == {"waiting"}


def test_two_patches_of_one_name_or_target(ground) -> None:
    first = make("double")
    for second in (replace(first, name="other"), replace(make("LIMIT"), name="double")):
        with pytest.raises(PatchError, match="claim one name or one target"):
            patch_ledger.install([first, second])
    provide(ground, first, "wheel-a")
    provide(ground, first, "wheel-b")
    with pytest.raises(PatchError, match="claim one name or one target"):
        patch_ledger.install()


def test_a_patch_of_a_redirected_module(ground) -> None:
    sha256 = ground.module("victim.other", "def f(): return 1")
    ground.module("ours_other", "def f(): return 2")
    target = Redirect("victim.other", "ours_other", "w", "u", ">=0.15", sha256, "r")
    import_hook.install([target])
    patch = replace(
        make("double"), target="victim.other:f", sha256=source_sha256("victim.other:f") or ""
    )
    with pytest.raises(PatchError, match="redirected to ours_other as a whole"):
        patch_ledger.install([patch])


def test_a_malformed_entry() -> None:
    with pytest.raises(PatchError, match="module:attribute"):
        replace(make("double"), target="victim.engine.double")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def patches(): raise OSError('disc on fire')", "disc on fire"),
        ("import no_such_library", "no_such_library"),
        ("def patches(): return ['a']", "sequence of Patch"),
    ],
)
def test_a_provider_that_fails(ground, source: str, complaint: str) -> None:
    ground.module("bad_patches", source)
    ground.distribution("wheel-a", patches={"bad_wheel": "bad_patches:patches"})
    with pytest.raises(PatchError, match=complaint) as caught:
        patch_ledger.install()
    assert "bad_wheel" in str(caught.value)


# -- other processes --------------------------------------------------------------------------

SPAWN = """
    import multiprocessing
    from vllm_kunlun.platforms.ledger import patch_ledger

    def child(queue, register):
        if register:
            patch_ledger.GROUP = "planted.patches"
            patch_ledger.install()
        import victim.engine
        queue.put(victim.engine.double(3))

    if __name__ == "__main__":
        patch_ledger.GROUP = "planted.patches"
        patch_ledger.install()
        context = multiprocessing.get_context("spawn")
        for register in (False, True):
            queue = context.Queue()
            process = context.Process(target=child, args=(queue, register))
            process.start()
            print(queue.get(timeout=60))
            process.join(60)
            assert process.exitcode == 0
    """


def test_a_spawned_process_registers_for_itself(ground) -> None:
    provide(ground, make("double"), "wheel-a")
    ran = ground.python(SPAWN)
    assert ran.stdout.split() == ["6", "106"], ran.stderr
