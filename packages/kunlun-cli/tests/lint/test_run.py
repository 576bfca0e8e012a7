# SPDX-License-Identifier: Apache-2.0
"""Files under paths, and files that cannot be read."""

import pytest

from vllm_kunlun.cli.lint import registry, run
from vllm_kunlun.platforms.errors import UnsupportedError

KNOWN = [rule.name for rule in registry.RULES]


def test_folders_are_gone_through_without_what_is_hidden_or_built(tmp_path):
    for name in ("a.py", "b/c.py", ".venv/d.py", "build/e.py", "b/text.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [file.relative_to(tmp_path).as_posix() for file in run.files([tmp_path])]
    assert found == ["a.py", "b/c.py"]
    assert run.files([tmp_path / ".venv" / "d.py"]) == [tmp_path / ".venv" / "d.py"]
    with pytest.raises(UnsupportedError, match="neither a file nor a folder"):
        run.files([tmp_path / "gone"])


@pytest.mark.parametrize("content", [b"def f(:\n", b"\xff\xfe\x00"])
def test_a_file_that_is_not_python_is_a_finding(tmp_path, content):
    file = tmp_path / "x.py"
    file.write_bytes(content)
    assert [each.rule for each in run.lint_file(file, registry.RULES, KNOWN)] == ["syntax"]


def test_a_mend_keeps_comments_and_the_rest_of_the_text():
    from pathlib import Path

    content = "# first\nfrom vllm.attention import AttentionType  # why\n\n\nx = [1,2]  # odd\n"
    new, count = run.mend_text(Path("x.py"), content, registry.RULES, KNOWN)
    assert (new, count) == (content.replace("vllm.attention", "vllm.v1.attention.backend"), 1)


def test_what_is_silenced_is_not_mended():
    from pathlib import Path

    said = "# kunlun: ignore[vllm-names] because an older vLLM is meant"
    content = f"from vllm.attention import AttentionType  {said}\n"
    assert run.mend_text(Path("x.py"), content, registry.RULES, KNOWN) == (content, 0)
