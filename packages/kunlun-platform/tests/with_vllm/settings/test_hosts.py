# SPDX-License-Identifier: Apache-2.0
"""What a server under Ray is given: our executor, and the variables of its workers."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kunlun.platforms.settings import hosts


def test_one_host_is_left_as_it_is(build: Any) -> None:
    config = build(tensor_parallel_size=2)
    hosts.update(config)
    assert config.parallel_config.distributed_executor_backend == "mp"
    assert config.parallel_config.ray_runtime_env is None


def test_workers_of_ray_start_with_the_servers_variables(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'vllm-kunlun[ray]'")
    from vllm.v1.executor.abstract import Executor

    monkeypatch.setenv("USE_ORI_ROPE", "1")
    monkeypatch.setenv("VLLM_HOST_IP", "10.0.0.1")
    config = build()
    parallel = config.parallel_config
    parallel.distributed_executor_backend = "ray"
    hosts.update(config)
    assert Executor.get_class(config).__name__ == "KunlunRayExecutor" and parallel.use_ray
    variables = parallel.ray_runtime_env["env_vars"]
    assert variables["USE_ORI_ROPE"] == "1"
    assert variables["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] == "1"
    assert "VLLM_HOST_IP" not in variables


def test_an_environment_of_the_users_own_stays(build: Any) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'vllm-kunlun[ray]'")
    config = build()
    config.parallel_config.distributed_executor_backend = "ray"
    config.parallel_config.ray_runtime_env = {"env_vars": {"MINE": "1"}}
    hosts.update(config)
    assert config.parallel_config.ray_runtime_env == {"env_vars": {"MINE": "1"}}
