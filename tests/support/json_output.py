# SPDX-License-Identifier: Apache-2.0
"""What a command printed with ``--json``, held to its schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from vllm_kunlun.cli import schemas

__all__ = ["read"]


def read(name: str, text: str) -> dict[str, Any]:
    """The object in ``text``, as the schema ``name`` of :mod:`vllm_kunlun.cli.schemas` describes.

    Raises:
        jsonschema.ValidationError: it is another.
    """
    value: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator(schemas.schema(name)).validate(value)
    return value
