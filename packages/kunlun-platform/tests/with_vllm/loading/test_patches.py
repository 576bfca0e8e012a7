# SPDX-License-Identifier: Apache-2.0
"""The runner's reload_weights is ours, in the releases that need it."""

from __future__ import annotations

import pkgutil

from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.loading import reloading
from vllm_kunlun.platforms.loading.patches import patches
from vllm_kunlun.platforms.vllm_compat import not_yet


def test_the_wheel_provides_them() -> None:
    found = patch_ledger.collect()
    assert found["reload-weights"] in patches()


def test_reload_weights_is_ours_in_these_releases_alone() -> None:
    wanted = [entry for entry in patches() if entry.holds(version.installed_vllm())]
    ours = {reloading.reload_weights, not_yet.reload_weights}
    assert (GPUModelRunner.reload_weights in ours) == bool(wanted)
    for entry in wanted:
        assert GPUModelRunner.reload_weights is pkgutil.resolve_name(entry.replacement)
        assert source_sha256(entry.target) in entry.expected_sha256()
