# SPDX-License-Identifier: Apache-2.0
"""``ops bench`` on the emulator, in milliseconds."""

from __future__ import annotations

import types

import pytest

from vllm_kunlun.cli.ops import benching


@pytest.fixture
def tiny(monkeypatch):
    """Every benchmark on the emulator, in milliseconds."""
    from vllm_kunlun.ops.conformance.benchmark import cases

    real_run, real_benchmarks = benching._run, cases.benchmarks
    monkeypatch.setattr(cases, "benchmarks", lambda scale: real_benchmarks("tiny"))
    monkeypatch.setattr(benching, "_run", lambda chosen, scale: real_run(chosen, "tiny"))


def test_bench_has_both_times_their_ratio_and_the_ceiling(run_json, tiny):
    code, value = run_json("ops", "bench")
    assert code == 0
    assert value["threads"] > 0
    assert value["dtype"] == "float32"
    assert value["surroundings"]["emulated"] is True
    assert value["ceilings"]["copy_bytes_per_second"] > 0
    assert set(value["ceilings"]["operations_per_second"]) == {"float32", "float16", "int8"}
    for row in value["results"]:
        assert row["problem"] == ""
        assert row["ratio"] == pytest.approx(row["torch_us"] / row["vendor_us"])
        assert row["share_of_ceiling"] > 0
    assert {"MoE", "decode attention", "sampling"} <= {row["area"] for row in value["results"]}


def test_bench_of_one_function_as_text(run, tiny):
    result = run("ops", "bench", "rmsnorm", "quant2d", "--quick")
    assert result.exit_code == 0
    for part in ("norm (rmsnorm)", "int8 quantisation (quant2d)", "x torch", "of ceiling", "GB/s"):
        assert part in result.stdout
    assert "decode" not in result.stdout


def test_bench_of_a_function_without_a_benchmark(run):
    result = run("ops", "bench", "swap_blocks")
    assert result.exit_code == 2
    assert "no benchmark runs kunlun_ops.swap_blocks" in " ".join(result.stderr.split())


def test_bench_tells_a_wrong_result(run, run_json, tiny):
    from vllm_kunlun.emulator import kunlun_ops
    from vllm_kunlun.ops.vendor_ops.library import use_libraries

    wrong = types.SimpleNamespace(**{**vars(kunlun_ops), "rmsnorm": lambda *args: args[2].fill_(7)})
    with use_libraries(kunlun_ops=wrong):
        code, value = run_json("ops", "bench", "rmsnorm")
        text = run("ops", "bench", "rmsnorm").stdout
    assert code == 1
    assert "differs from torch's" in value["results"][0]["problem"]
    assert "norm, 3 x 32: the result differs" in text
