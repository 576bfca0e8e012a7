# SPDX-License-Identifier: Apache-2.0
"""Hooks of mkdocs.yml: the site's pages that lie outside of docs/, and tables made of the code.

``nox -s docs`` builds the site. Its pages are the files that a reader of the repository sees; what
is done to them here is only this:

- the READMEs and CONTRIBUTING.md become pages (``OUTSIDE``), and schemas files beside them;
- a link to a file that is no page becomes its text, with the path as a tooltip;
- a line ``<!-- site: NAME -->`` becomes the table NAME of ``TABLES``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from members import ROOT, meta_package, read_all
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS
from vllm_kunlun.ops.contract.findings import FINDINGS
from vllm_kunlun.ops.contract.functions import contract
from vllm_kunlun.platforms import envs

WHEELS = {f"wheels/{wheel.name}.md": f"{wheel.folder}/README.md" for wheel in read_all()}
SCHEMAS = {
    f"schemas/{file.name}": file.relative_to(ROOT).as_posix()
    for file in sorted(ROOT.glob("packages/kunlun-cli/src/vllm_kunlun/cli/schemas/*.json"))
}
OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "tests.md": "tests/README.md",
    **WHEELS,
}
"""Page of the site -> file of the repository."""
PAGES = {file: page for page, file in {**OUTSIDE, **SCHEMAS}.items()}
CERTAINTY = {"C": "certain", "H": "reported", "I": "inferred"}

_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
    r"|@import\s+[^;]*//[^;]*;|url\([\"']?(?:https?:)?//[^)]*\)"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The wheels' pages stand last in the menu."""
    assert isinstance(config.nav, list)
    config.nav.append({"Wheels": list(WHEELS)})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of ``OUTSIDE``, and the schemas as they are."""
    for page, file in {**OUTSIDE, **SCHEMAS}.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the tables, and turn each link into one of the site's."""
    source = OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return relinked(filled(markdown, TABLES), source)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Refuse a site that would ask another host for anything as it is opened."""
    site = Path(config.site_dir)
    for file in sorted(site.rglob("*")):
        if file.suffix in (".html", ".css"):
            for found in loaded_from_elsewhere(file.read_text(encoding="utf-8")):
                raise PluginError(f"{file.relative_to(site)} loads from another host: {found}")


def filled(markdown: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """``markdown`` with each ``<!-- site: NAME -->`` replaced.

    Raises:
        PluginError: there is no table of that name.
    """

    def table(found: re.Match[str]) -> str:
        if found[1] not in tables:
            raise PluginError(f"no table {found[1]!r}: there are {', '.join(tables)}")
        return tables[found[1]]()

    return re.sub(r"^<!-- site: (\w+) -->$", table, markdown, flags=re.MULTILINE)


def relinked(markdown: str, source: str) -> str:
    """``markdown`` of the file ``source`` (from the root) with the links of its page."""

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        path, mark, fragment = target.partition("#")
        if "://" in target or not path:
            return found[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = PAGES.get(file) or PAGES.get(f"{file}/README.md")
        if page is None and file.startswith("docs/"):
            page = file.removeprefix("docs/")
        if page is None:
            return f'<span title="{file}">{text}</span>'
        here = posixpath.dirname(PAGES.get(source, source.removeprefix("docs/")))
        return f"[{text}]({posixpath.relpath(page, here or '.')}{mark}{fragment})"

    parts = _FENCED.split(markdown)
    return "".join(p if p.startswith("```") else _LINK.sub(link, p) for p in parts)


def loaded_from_elsewhere(html: str) -> Iterator[str]:
    """What opening a page would fetch from another host; a link that a reader clicks is none."""
    return (found[0] for found in _LOADED.finditer(html))


def environment() -> str:
    """One table for each reader of variables."""
    parts = []
    readers = {
        "vllm-kunlun": "Read by this project",
        "vendor runtime": "Read by the vendor's runtime",
        "vLLM": "Read by vLLM",
        "nobody": "Read by nobody any more",
    }
    for reader, title in readers.items():
        rows = [
            f"| `{v.name}` | {_default(v)} | {_cell(v.meaning)} |"
            for v in envs.TABLE.values()
            if v.reader == reader
        ]
        head = ["| Variable | Default | Meaning |", "|---|---|---|"]
        parts.append("\n".join([f"## {title}", "", *head, *rows]))
    return "\n\n".join(parts)


def _default(variable: envs.EnvVar) -> str:
    if variable.on_card is not None:
        return f"`{variable.on_card}` at start on a card"
    if variable.default is None:
        return "–"
    default = int(variable.default) if variable.kind == "bool" else variable.default
    choices = [each for each in variable.choices if each != variable.default]
    return f"`{default}`" + (f" (or {', '.join(f'`{c}`' for c in choices)})" if choices else "")


def functions() -> str:
    """Every function of the vendor with what is known and what is open."""
    rows = ["| Function | What it does | Status | How sure | Open |", "|---|---|---|---|---|"]
    for each in contract():
        anchor = re.sub(r"[^\w-]", "", each.name.lower())
        open_points = [a.id for a in ASSUMPTIONS if a.function in (each.name, _short(each.name))]
        open_points += [f.name for f in FINDINGS if f.function == each.name]
        status = "called" if each.call is not None else "live" if each.live else "not reached"
        rows.append(
            f"| [`{each.name}`](vendor-contract.md#{anchor}) | {_cell(each.meaning)} | {status} "
            f"| {CERTAINTY[each.tag]} | {len(open_points) or '–'} |"
        )
    return "\n".join(rows)


def _short(name: str) -> str:
    return name.split(".", 1)[1]


def changelogs() -> str:
    """What each wheel's changelog says, and the entries of its next release."""
    parts = []
    titles = {"feature": "New", "change": "Changed", "bugfix": "Fixed"}
    for wheel in (*read_all(), meta_package()):
        folder = ROOT / wheel.folder
        parts.append(f"## {wheel.name}")
        entries = {
            kind: [
                f"- {' '.join(file.read_text().split())}"
                for file in sorted((folder / "changelog.d").glob(f"*.{kind}.md"))
            ]
            for kind in titles
        }
        if any(entries.values()):
            parts.append(f"### {wheel.name}: next release (now {wheel.version})")
        parts += [f"{titles[k]}:\n\n" + "\n".join(v) for k, v in entries.items() if v]
        _, _, released = (folder / "CHANGELOG.md").read_text().partition("notes start -->\n")
        parts.append(re.sub(r"^(#+)", r"#\1", released.strip(), flags=re.MULTILINE))
    return "\n\n".join(part for part in parts if part)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


TABLES: dict[str, Callable[[], str]] = {
    "environment": environment,
    "functions": functions,
    "changelogs": changelogs,
}
