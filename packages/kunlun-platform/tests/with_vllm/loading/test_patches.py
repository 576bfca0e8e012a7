# SPDX-License-Identifier: Apache-2.0
"""The runner's reload_weights is ours, in the releases that need it."""

from __future__ import annotations

from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.loading import reloading
from vllm_kunlun.platforms.loading.patches import patches


def test_the_wheel_provides_them() -> None:
    found = patch_ledger.collect()
    assert [found[entry.name] for entry in patches()] == list(patches())


def test_reload_weights_is_ours_in_these_releases_alone() -> None:
    (entry,) = patches()
    wanted = entry.holds(version.installed_vllm())
    assert (GPUModelRunner.reload_weights is reloading.reload_weights) == wanted
    assert not wanted or source_sha256(entry.target) in entry.expected_sha256()
