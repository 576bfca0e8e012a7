# SPDX-License-Identifier: Apache-2.0
"""A capture that fails, through vLLM's own runner and graph wrapper, names where and why."""

from __future__ import annotations

import contextlib
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.compilation import cuda_graph
from vllm.compilation.counter import compilation_counter
from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from vllm_kunlun.platforms.card import capture
from vllm_kunlun.platforms.errors import GraphCaptureError, UnsupportedError

pytestmark = pytest.mark.skipif(
    not hasattr(cuda_graph, "set_graph_pool_id"), reason="a card's worker is refused with 0.33"
)

REFUSED = "CUDA error: operation not permitted when stream is capturing\nFor debugging consider"
BROKEN = "CUDA error: operation failed due to a previous error during capture"


class Piece:
    """One piece of a compiled graph; ``layer`` is what runs in it."""

    piecewise_compile_index, total_piecewise_compiles = 1, 4

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self) -> Any:
        return self.layer()


def layer_of(module: str, error: Exception) -> Any:
    """A function of ``module`` that raises ``error`` on its second line."""
    space = {"__name__": module, "error": error}
    exec("def forward():\n    raise error\n", space)
    return space["forward"]


def traced(layer: Any) -> Any:
    """A graph as torch writes it, which calls ``layer``."""
    graph = torch.fx.Graph()
    graph.output(graph.call_function(layer))
    return torch.fx.GraphModule(torch.nn.Module(), graph)


@contextlib.contextmanager
def capturing(graph: Any, **_: Any) -> Any:
    """As torch ends a capture: what broke it is followed by an error of its own."""
    try:
        yield
    except RuntimeError:
        raise RuntimeError(BROKEN)  # noqa: B904 -- torch's exit does not name what came before


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A runner whose ``capture_model`` captures one size with vLLM's ``_capture_cudagraphs``."""
    context = SimpleNamespace(
        batch_descriptor=BatchDescriptor(num_tokens=32),
        cudagraph_runtime_mode=CUDAGraphMode.PIECEWISE,
    )
    monkeypatch.setattr(cuda_graph, "get_forward_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(cuda_graph, "current_stream", lambda: None)
    monkeypatch.setattr(cuda_graph, "set_graph_pool_id", lambda _: None)
    from vllm.v1.worker import gpu_model_runner

    monkeypatch.setattr(gpu_model_runner, "is_global_first_rank", lambda: False)
    made = SimpleNamespace(
        compilation_config=SimpleNamespace(
            cudagraph_mode=CUDAGraphMode.PIECEWISE, cudagraph_num_of_warmups=0
        ),
        parallel_config=SimpleNamespace(use_ubatching=False),
        maybe_remove_all_loras=lambda _: None,
        lora_config=None,
        has_lora=False,
    )

    def capture_model() -> int:
        GPUModelRunner._capture_cudagraphs(
            made,
            [BatchDescriptor(num_tokens=32, has_lora=made.has_lora)],
            CUDAGraphMode.PIECEWISE,
        )
        return 5

    made.capture_model = capture_model
    made.fail_in = lambda piece: setattr(made, "_dummy_run", lambda *_, **__: piece())
    return made


def wrapped(piece: Any) -> Any:
    """``piece`` in vLLM's graph wrapper."""
    wrapper = object.__new__(cuda_graph.CUDAGraphWrapper)
    wrapper.__dict__.update(
        runnable=piece,
        runtime_mode=CUDAGraphMode.PIECEWISE,
        is_debugging_mode=False,
        graph_pool=(0, 0),
        cudagraph_options=cuda_graph.CUDAGraphOptions(debug_log_enable=False),
        concrete_cudagraph_entries={},
    )
    return wrapper


def message(runner: Any) -> str:
    with pytest.raises(GraphCaptureError) as caught:
        capture.explained(runner)()
    assert caught.value.__cause__ is not None
    return str(caught.value)


def test_a_layer_that_breaks_it_is_named_with_size_piece_and_line(runner: Any) -> None:
    layer = layer_of("vllm_kunlun.ops.planted", RuntimeError(REFUSED))
    runner.fail_in(wrapped(Piece(layer)))
    text = message(runner)
    assert "(32 tokens, piece 2 of 4, vllm_kunlun.ops.planted.forward, line 2)" in text
    assert "--enforce-eager" in text and "doctor --log FILE" in text
    # What broke the capture, and not the error that only tells that it is broken.
    assert text.endswith("Cause: RuntimeError: " + REFUSED.partition("\n")[0])
    assert BROKEN not in text


@pytest.mark.parametrize("module", ["somewhere.else", "vllm_kunlun.emulator.planted"])
def test_a_call_that_is_not_ours_is_named_as_the_traced_graph_has_it(
    runner: Any, module: str
) -> None:
    layer = layer_of(module, RuntimeError(REFUSED))
    runner.fail_in(wrapped(Piece(traced(layer))))
    assert "piece 2 of 4, at `forward = " in message(runner)


def test_what_fails_outside_of_the_pieces_says_so(runner: Any) -> None:
    runner.has_lora = True
    runner.fail_in(layer_of("somewhere.else", UnsupportedError("not this")))
    text = message(runner)
    assert "(32 tokens with LoRA, outside of the pieces)" in text
    assert text.endswith("Cause: UnsupportedError: not this")


def test_an_error_that_tells_nothing_of_its_own_and_has_nothing_before_it(runner: Any) -> None:
    runner.capture_model = layer_of("somewhere.else", RuntimeError(BROKEN))
    assert message(runner).endswith(f"Cause: RuntimeError: {BROKEN}")


@pytest.mark.parametrize("mode", [CUDAGraphMode.PIECEWISE, CUDAGraphMode.NONE])
@pytest.mark.parametrize("captured", [0, 3])
def test_graphs_that_are_on_and_of_which_none_was_captured(
    runner: Any,
    mode: CUDAGraphMode,
    captured: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="vllm.kunlun.graphs")
    monkeypatch.setattr(compilation_counter, "num_cudagraph_captured", 7)
    runner.compilation_config.cudagraph_mode = mode

    def capture_model() -> int:
        compilation_counter.num_cudagraph_captured += captured
        return 5

    runner.capture_model = capture_model
    assert capture.explained(runner)() == 5
    warned = mode == CUDAGraphMode.PIECEWISE and not captured
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert all("No graph was captured" in record.getMessage() for record in caplog.records)
