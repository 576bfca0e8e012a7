# SPDX-License-Identifier: Apache-2.0
"""The page ``docs/json-output.md``: what each command prints with ``--json``, from its schemas.

python support/json_output.py           # write it
python support/json_output.py --check   # exit code 1 if it is not what would be written
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import written

from vllm_kunlun.cli import schemas
from vllm_kunlun.cli.teaching import COULD_NOT, TEACHING

PAGE = "docs/json-output.md"
_DEFINITION = "#/$defs/"
FOLDER = "packages/kunlun-cli/src/vllm_kunlun/cli/schemas"
INTRODUCTION = """\
# JSON and exit codes

Every command takes `--json` and then prints one object on standard output and nothing else there;
progress and warnings go to standard error. The files of `--report FILE.json` hold the same object.
Written from the schemas by `python support/json_output.py`; tests hold what the commands print to
them.

```bash
vllm-kunlun env --json > env.json
```

The schemas (JSON Schema 2020-12) are in the wheel `kunlun-cli`, so yours are those of the command
that you have:

```python
import json

import jsonschema
from vllm_kunlun.cli.schemas import schema

with open("env.json") as file:
    jsonschema.validate(json.load(file), schema("env"))
```

Every key is there, unless its meaning begins with "Only"; what does not apply is null, or empty
where the table says so. JSON has no infinity: where a figure may be a string, that is `"nan"`,
`"inf"` or `"-inf"`. In the tables `ways[].cards` is `cards` of each entry of `ways`, and `more.*.b`
is `b` of the value of each key of `more`. A type such as `run` stands in several places; its keys
follow once, as `run.phases`.
"""


def main() -> None:
    written.command(
        __doc__,
        PAGE,
        page,
        why="differs from the schemas: run `python support/json_output.py`",
    )


def page() -> str:
    """The whole page: exit codes, then the commands in the order of ``vllm-kunlun --help``."""
    order = list(TEACHING)
    by_command = sorted(schemas.names(), key=lambda name: (order.index(_command(name)), name))
    return "\n".join([INTRODUCTION, exit_codes(), *map(section, by_command)])


def exit_codes() -> str:
    """One line for each command."""
    rows = ["| Command | 0 | 1 |", "|---|---|---|"]
    for command, taught in TEACHING.items():
        rows.append(f"| `{command}` | {taught.yes} | {taught.no or '–'} |")
    return f"## Exit codes\n\nOf every command 2: {COULD_NOT}.\n\n" + "\n".join(rows) + "\n"


def section(name: str) -> str:
    """The table of one schema."""
    whole = schemas.schema(name)
    head = [
        f"## {whole['title'].removeprefix('vllm-kunlun ')}",
        "",
        f"{whole['description']} Schema: [`{name}.json`](../{FOLDER}/{name}.json).",
        "",
        "| Key | Type | Meaning |",
        "|---|---|---|",
    ]
    found = list(rows(whole, whole))
    for part in repeated(whole):
        found += rows(whole["$defs"][part], whole, f"{part}.")
    table = [f"| `{key}` | {kind} | {text} |" for key, kind, text in found]
    return "\n".join([*head, *table]) + "\n"


def repeated(whole: dict[str, Any]) -> list[str]:
    """Definitions that the schema refers to more than once."""
    text = json.dumps(whole)
    return [name for name in whole.get("$defs", {}) if text.count(f'"#/$defs/{name}"') > 1]


def rows(
    schema: dict[str, Any], whole: dict[str, Any], before: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Path, type and meaning of each key of ``schema``, a part of ``whole``, and of those within.

    Args:
        before: path of the object, with its dot.
    """
    for name, value in schema.get("properties", {}).items():
        path = before + (f'"{name}"' if " " in name else name)
        meaning = _cell(value["description"])
        part = value.get("$ref", "").removeprefix(_DEFINITION)
        if part in repeated(whole):
            yield path, f"`{part}`", meaning
            continue
        held = resolved(value, whole)
        yield path, type_of(held), meaning
        yield from rows(held, whole, f"{path}.")
        items = resolved(held.get("items", {}), whole)
        yield from rows(items, whole, f"{path}[].")
        each = held.get("additionalProperties")
        if isinstance(each, dict):
            yield from rows(resolved(each, whole), whole, f"{path}.*.")


def resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """``schema``, or what its ``$ref`` names in ``whole``."""
    name = schema.get("$ref")
    found: dict[str, Any] = whole["$defs"][name.removeprefix(_DEFINITION)] if name else schema
    return found


def type_of(schema: dict[str, Any]) -> str:
    """In words: "string or null", "list of integers", "one of" and the values."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        values = ", ".join(f"`{each}`" for each in schema["enum"] if each is not None)
        return f"one of {values}{' or null' if None in schema['enum'] else ''}"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    words = {kind: kind for kind in kinds}
    if "array" in kinds:
        words["array"] = f"list of {_several(schema['items'])}"
    each = schema.get("additionalProperties")
    if isinstance(each, dict):
        words["object"] = f"object of {_several(each)}"
    return " or ".join(words.values())


def _several(schema: dict[str, Any]) -> str:
    """In the plural: ``lists of integers``, ``strings or nulls``."""
    singular = "object" if "$ref" in schema else type_of(schema)
    return re.sub(r"\b(?!of\b|or\b)\w+?s?\b", lambda word: word[0].rstrip("s") + "s", singular)


def _command(name: str) -> str:
    """Of a schema, the command as ``TEACHING`` has it."""
    words = name.split("-")
    return " ".join(words[:2]) if words[0] == "ops" else words[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
