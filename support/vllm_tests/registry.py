# SPDX-License-Identifier: Apache-2.0
"""The text architectures of vLLM's list of examples, of which transformers has a configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from vllm_tests.errors import UpstreamError

__all__ = ["text_models"]

_PRINT = """
import json
from tests.models.registry import _TEXT_GENERATION_EXAMPLE_MODELS as models
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as names
types = {architecture: kind for kind, architecture in reversed(names.items())}
found = [(info.default, types[name], name) for name, info in models.items() if name in types]
print(json.dumps(found))
"""


def text_models(tree: Path) -> list[tuple[str, str, str]]:
    """``(name on the hub, type of configuration, architecture)`` of each.

    Raises:
        UpstreamError: the list cannot be imported.
    """
    done = subprocess.run(
        ["env", f"PYTHONPATH={tree}{os.pathsep}", sys.executable, "-c", _PRINT],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UpstreamError(f"tests/models/registry.py of vLLM failed: {done.stderr[-500:]}")
    found: list[tuple[str, str, str]] = [tuple(each) for each in json.loads(_last(done.stdout))]
    return found


def _last(text: str) -> str:
    return text.strip().splitlines()[-1]
