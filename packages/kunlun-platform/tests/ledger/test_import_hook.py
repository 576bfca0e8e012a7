# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import pickle
import sys
from dataclasses import replace

import pytest

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import RedirectError
from vllm_kunlun.platforms.ledger import import_hook
from vllm_kunlun.platforms.ledger.import_hook import Redirect

TARGET = "victim.pack.mod"

VICTIM = """
    from __future__ import annotations
    from dataclasses import dataclass
    WHO = "vllm"
    @dataclass
    class Point:
        x: int = 3
    """

REPLACEMENT = """
    from vllm_kunlun.platforms.ledger import import_hook
    original = import_hook.import_original("victim.pack.mod")
    WHO = "ours, over " + original.WHO
    """

PROVIDER = """
    from vllm_kunlun.platforms.ledger.import_hook import Redirect
    def redirects():
        return [Redirect(target={target!r}, replacement={replacement!r}, why="w", upstream="u",
                         vllm_range=">=0.15.1", sha256={sha256!r}, remove_when="r")]
    """


@pytest.fixture
def redirect(ground) -> Redirect:
    sha256 = ground.module(TARGET, VICTIM)
    ground.module("replaced_mod", REPLACEMENT)
    return Redirect(TARGET, "replaced_mod", "why", "link", ">=0.15.1", sha256, "never")


def provide(ground, redirect: Redirect, wheel: str) -> None:
    module = wheel.replace("-", "_") + "_redirects"
    ground.module(
        module,
        PROVIDER.format(
            target=redirect.target, replacement=redirect.replacement, sha256=redirect.sha256
        ),
    )
    ground.distribution(wheel, redirects={wheel: f"{module}:redirects"})


def state(redirect: Redirect) -> str:
    (status,) = import_hook.report([redirect])
    return status.state


def test_both_names_and_the_parent_give_the_replacement(redirect: Redirect) -> None:
    import_hook.install([redirect])
    assert type(sys.meta_path[0]).__name__ == "RedirectFinder"
    module = importlib.import_module(TARGET)
    assert module is importlib.import_module("replaced_mod")
    assert sys.modules["victim.pack"].mod is module
    assert module.WHO == "ours, over vllm"
    assert module.__name__ == module.__spec__.name == "replaced_mod"
    from victim.pack import mod
    from victim.pack.mod import WHO

    assert (mod, WHO) == (module, "ours, over vllm")


def test_install_imports_neither_target_nor_replacement(redirect: Redirect) -> None:
    import_hook.install([redirect])
    assert not {"victim", "victim.pack", TARGET, "replaced_mod"} & set(sys.modules)
    assert state(redirect) == "unused"


def test_state_follows_the_process(redirect: Redirect) -> None:
    (status,) = import_hook.report([redirect])
    assert (status.state, status.detail) == ("unused", "the hook is not installed in this process")
    import_hook.install([redirect])
    assert import_hook.replacement_of(TARGET) == "replaced_mod"
    importlib.import_module(TARGET)
    assert state(redirect) == "active"
    import_hook.remove()
    assert import_hook.replacement_of(TARGET) is None
    assert state(redirect) == "unused"


def test_install_twice_and_after_a_reload(redirect: Redirect) -> None:
    import_hook.install([redirect])
    import_hook.install([redirect])
    module = importlib.import_module(TARGET)
    import_hook.install([redirect])
    hook = importlib.reload(import_hook)
    hook.install([hook.Redirect(**vars(redirect))])
    assert sum(type(finder).__name__ == "RedirectFinder" for finder in sys.meta_path) == 1
    assert importlib.import_module(TARGET) is module
    hook.remove()
    assert not any(type(finder).__name__ == "RedirectFinder" for finder in sys.meta_path)
    assert importlib.import_module(TARGET).WHO == "vllm"


def test_providers_made_before_a_reload_still_count(
    ground, redirect: Redirect, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(ground, redirect, "wheel-a")
    import_hook.install()
    hook = importlib.reload(import_hook)
    monkeypatch.setattr(hook, "GROUP", ground.redirects)
    hook.install()
    assert importlib.import_module(TARGET).WHO == "ours, over vllm"


def test_remove_gives_vllms_own_module_back(redirect: Redirect) -> None:
    finders = list(sys.meta_path)
    import_hook.install([redirect])
    ours = importlib.import_module(TARGET)
    import_hook.remove()
    import_hook.remove()
    assert sys.meta_path == finders
    assert not hasattr(sys.modules["victim.pack"], "mod")
    own = importlib.import_module(TARGET)
    assert own is not ours
    assert (own.WHO, own.__name__) == ("vllm", TARGET)
    assert sys.modules["victim.pack"].mod is own


def test_the_original_is_loaded_once_and_beside(redirect: Redirect) -> None:
    import_hook.install([redirect])
    original = import_hook.import_original(TARGET)
    assert original is import_hook.import_original(TARGET)
    assert original.WHO == "vllm"
    assert TARGET not in sys.modules
    ours = importlib.import_module(TARGET)
    assert ours.original is original
    assert sys.modules[TARGET] is ours
    point = original.Point(5)
    assert pickle.loads(pickle.dumps(point)) == point


def test_the_original_of_a_module_imported_as_it_is(redirect: Redirect) -> None:
    own = importlib.import_module(TARGET)
    assert import_hook.import_original(TARGET) is own


def test_an_original_that_is_not_there(ground) -> None:
    with pytest.raises(RedirectError, match=r"victim\.absent has no source"):
        import_hook.import_original("victim.absent")


def test_a_circular_import_meets_the_replacement(ground, redirect: Redirect) -> None:
    ground.module("replaced_mod", "EARLY = 1\nimport victim.pack.user\nLATE = 2")
    ground.module("victim.pack.user", "from victim.pack.mod import EARLY")
    import_hook.install([redirect])
    assert importlib.import_module(TARGET).LATE == 2
    assert sys.modules["victim.pack.user"].EARLY == 1
    assert sys.modules[TARGET] is sys.modules["replaced_mod"]


# -- planted faults ---------------------------------------------------------------------------


def refused(redirect: Redirect, *expected: str) -> None:
    with pytest.raises(RedirectError) as caught:
        import_hook.install([redirect])
    for text in (redirect.target, *expected):
        assert text in str(caught.value)
    assert not any(type(finder).__name__ == "RedirectFinder" for finder in sys.meta_path)
    assert state(redirect) == "stale"


def test_a_missing_target(redirect: Redirect) -> None:
    refused(
        replace(redirect, target="victim.pack.gone"),
        "does not exist in vLLM 0.15.1",
    )


def test_a_target_in_no_package(redirect: Redirect) -> None:
    refused(replace(redirect, target="gone.gone"), "does not exist")


def test_a_changed_source(ground, redirect: Redirect) -> None:
    found = ground.module(TARGET, VICTIM + "# one byte more")
    refused(redirect, found, redirect.sha256)


@pytest.mark.parametrize("wanted", [">=0.98", "==0.11.0"])
def test_an_untested_vllm_outside_the_range(
    redirect: Redirect, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.97")
    unlike = replace(redirect, vllm_range=wanted, sha256="0" * 64)
    refused(unlike, wanted, "0.97 is installed")
    import_hook.install([replace(redirect, vllm_range=wanted)])
    assert importlib.import_module(TARGET).WHO == "ours, over vllm", "the source of a tested one"


def test_a_tested_vllm_outside_the_range(redirect: Redirect) -> None:
    unneeded = replace(redirect, vllm_range="==0.11.0")
    import_hook.install([unneeded])
    assert importlib.import_module(TARGET).WHO == "vllm"
    assert state(unneeded) == "out of range"


def test_a_hash_for_each_range(redirect: Redirect) -> None:
    other = {"==0.11.0": "0" * 64}
    both = replace(redirect, vllm_range="", sha256={**other, ">=0.15.1": redirect.sha256})
    import_hook.install([both])
    assert importlib.import_module(TARGET).WHO == "ours, over vllm"
    assert state(replace(redirect, vllm_range="", sha256=other)) == "active"
    import_hook.remove()
    assert state(replace(redirect, vllm_range="", sha256=other)) == "out of range"


def test_a_target_imported_too_early(redirect: Redirect) -> None:
    importlib.import_module(TARGET)
    refused(redirect, "imported before")


def test_a_package_as_target(ground, redirect: Redirect) -> None:
    refused(replace(redirect, target="victim.pack"), "is a package")


def test_every_problem_is_named_at_once(redirect: Redirect) -> None:
    gone = [replace(redirect, target=f"victim.pack.gone{n}") for n in range(2)]
    with pytest.raises(RedirectError, match=r"(?s)gone0.*gone1"):
        import_hook.install([redirect, *gone])


def test_a_replacement_that_fails_names_the_redirect(ground, redirect: Redirect) -> None:
    ground.module("replaced_mod", "import no_such_library")
    import_hook.install([redirect])
    for _ in range(2):
        with pytest.raises(
            RedirectError, match=rf"{TARGET} is redirected to replaced_mod"
        ) as caught:
            importlib.import_module(TARGET)
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)
        assert "no_such_library" in str(caught.value)
        assert TARGET not in sys.modules


def test_an_optional_import_does_not_hide_a_failing_replacement(ground, redirect: Redirect) -> None:
    """vLLM wraps some imports in `except ImportError`; ours must come through them."""
    ground.module("replaced_mod", "raise ImportError('symbol missing')")
    import_hook.install([redirect])
    with pytest.raises(RedirectError, match="symbol missing"):
        try:
            importlib.import_module(TARGET)
        except ImportError:
            pytest.fail("swallowed as an optional import")


def test_two_providers_of_one_target(ground, redirect: Redirect) -> None:
    provide(ground, redirect, "wheel-a")
    provide(ground, replace(redirect, replacement="other_mod"), "wheel-b")
    with pytest.raises(RedirectError, match=rf"{TARGET} is redirected twice"):
        import_hook.install()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def redirects(): raise OSError('disc on fire')", "disc on fire"),
        ("import no_such_library", "no_such_library"),
        ("def redirects(): return {'a': 'b'}", "sequence of Redirect"),
        ("def redirects(): return None", "sequence of Redirect"),
        (
            PROVIDER.replace(">=0.15.1", ">>0.15.1").format(
                target="a", replacement="b", sha256="c"
            ),
            ">>",
        ),
    ],
)
def test_a_provider_that_fails(ground, source: str, complaint: str) -> None:
    ground.module("bad_redirects", source)
    ground.distribution("wheel-a", redirects={"bad_wheel": "bad_redirects:redirects"})
    with pytest.raises(RedirectError, match=complaint) as caught:
        import_hook.install()
    assert "bad_wheel" in str(caught.value)
    assert not any(type(finder).__name__ == "RedirectFinder" for finder in sys.meta_path)


# -- other processes --------------------------------------------------------------------------

SPAWN = """
    import multiprocessing
    from vllm_kunlun.platforms.ledger import import_hook

    def plain(queue):
        import victim.pack.mod
        queue.put(victim.pack.mod.WHO)

    def registered(queue):
        import_hook.GROUP = "planted.module_redirects"
        import_hook.install()
        import victim.pack.mod
        (status,) = import_hook.report()
        queue.put((victim.pack.mod.WHO, status.state))

    def run(function, *arguments):
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=function, args=(queue, *arguments))
        process.start()
        result = queue.get(timeout=60)
        process.join(60)
        assert process.exitcode == 0
        return result

    if __name__ == "__main__":
        import_hook.GROUP = "planted.module_redirects"
        import_hook.install()
        print(run(plain))
        print(run(registered))
    """


def test_a_spawned_process_registers_for_itself(ground, redirect: Redirect) -> None:
    provide(ground, redirect, "wheel-a")
    ran = ground.python(SPAWN)
    assert ran.stdout.splitlines() == ["vllm", "('ours, over vllm', 'active')"], ran.stderr


def test_a_stale_redirect_stops_a_fresh_process(ground, redirect: Redirect) -> None:
    provide(ground, redirect, "wheel-a")
    ground.module(TARGET, VICTIM + "changed = True")
    ran = ground.python(
        """
        from vllm_kunlun.platforms.ledger import import_hook
        import_hook.GROUP = "planted.module_redirects"
        import_hook.install()
        """
    )
    assert ran.returncode == 1
    assert ran.stderr.count("Traceback") == 1
    last = ran.stderr.splitlines()[-1]
    assert "RedirectError: the source of victim.pack.mod is not the one" in last
