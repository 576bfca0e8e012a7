# SPDX-License-Identifier: Apache-2.0
"""A fault names the line of vLLM or of this project that led to it."""

from vllm_kunlun.emulator.rehearsal import faults
from vllm_kunlun.platforms.errors import KunlunError


def test_the_place_is_the_innermost_line_of_ours():
    from vllm_kunlun.ops import compiled

    namespace = {"faults": faults}
    exec(compile("def f():\n    return faults.place()", compiled.__file__, "exec"), namespace)
    assert namespace["f"]() == "vllm_kunlun/ops/compiled.py:2, f"


def test_outside_of_ours_it_is_the_caller():
    assert faults.place().startswith("test_faults.py:")


def test_every_fault_is_one_of_this_project_and_says_where():
    for name in faults.__all__:
        kind = getattr(faults, name)
        if isinstance(kind, type):
            assert issubclass(kind, KunlunError)
            assert "what (at test_faults.py:" in str(kind("what"))
