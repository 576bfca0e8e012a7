# SPDX-License-Identifier: Apache-2.0
"""What registering costs in a process that has just started: which modules it imports."""

from __future__ import annotations

import json

from vllm_kunlun.platforms.ledger.patch_ledger import source_sha256

PROVIDERS = """
    from vllm_kunlun.platforms.ledger.import_hook import Redirect
    from vllm_kunlun.platforms.ledger.patch_ledger import Patch
    def redirects():
        return [Redirect("victim.mod", "ours", "w", "u", ">=0.15.1", {module!r}, "r")]
    def patches():
        return [Patch("f", "victim.other:f", "ours:f", "w", "u", ">=0.15.1", {function!r}, "r")]
    """

MODULES = [
    f"vllm_kunlun.platforms.{name}"
    for name in (
        "errors",
        "envs",
        "version",
        "device",
        "entry_points",
        "ledger.module_source",
        "ledger.definition_hash",
        "ledger.import_hook",
        "ledger.patch_ledger",
        "families",
    )
]

MEASURE = """
    import json, sys
    # vLLM has imported these before it asks a platform plugin anything.
    import importlib.metadata, logging, packaging.specifiers
    from pydantic import BaseModel
    class Warm(BaseModel):  # loads the machinery that builds models
        field: int | None = None
    before = set(sys.modules)
    for name in {modules!r}:
        __import__(name)
    from vllm_kunlun.platforms import device, version
    from vllm_kunlun.platforms.ledger import import_hook, patch_ledger
    import_hook.GROUP, patch_ledger.GROUP = "planted.module_redirects", "planted.patches"
    device.detect("auto")
    version.check_vllm()
    import_hook.install()
    patch_ledger.install()
    assert len(import_hook.report()) == len(patch_ledger.report()) == 1
    heavy = [n for n in ("torch", "vllm", "numpy", "transformers") if n in sys.modules]
    print(json.dumps({{"heavy": heavy}}))
    """


def test_registering_imports_nothing_heavy(ground) -> None:
    module = ground.module("victim.mod", "x = 1\n" * 2000)
    ground.module("victim.other", "x = 1\n" * 2000 + "def f(): ...\n")
    function = source_sha256("victim.other:f")
    ground.module("providers", PROVIDERS.format(module=module, function=function))
    ground.distribution(
        "wheel", redirects={"one": "providers:redirects"}, patches={"one": "providers:patches"}
    )
    ran = ground.python(MEASURE.format(modules=MODULES))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["heavy"] == []
