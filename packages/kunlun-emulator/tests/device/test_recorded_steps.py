# SPDX-License-Identifier: Apache-2.0
"""Replayed steps against the same graph run as it is, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.device import linear_packing, recorded_steps
from vllm_kunlun.emulator.device.packed_weight import PackedWeight
from vllm_kunlun.emulator.device.recorded_steps import RecordedSteps
from vllm_kunlun.ops.torch_ops.activation import swiglu
from vllm_kunlun.ops.torch_ops.norm import add_rms_norm_, rms_norm
from vllm_kunlun.ops.torch_ops.registration import custom_op
from vllm_kunlun.ops.torch_ops.rotary import rotary_embedding_
from vllm_kunlun.ops.vendor_ops import library
from vllm_kunlun.platforms.compiler import call_directly

HEADS, SIZE, WIDTH, POSITIONS = 2, 16, 64, 50
Q, KV = HEADS * SIZE, SIZE

_steps_done = torch.zeros(1)


@custom_op(mutates_args=("out",), namespace="kunlun_recorded_steps_test")
def count_step(x: torch.Tensor, out: torch.Tensor) -> None:
    """A state that is no argument, as the cache is none of attention's."""
    _steps_done.add_(1)
    out.copy_(x * _steps_done)


class Block(nn.Module):
    """What a layer of a language model calls, with a state where attention would be."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        for name, shape in (
            ("qkv", (Q + 2 * KV, WIDTH)), ("out", (WIDTH, Q)),
            ("up", (2 * WIDTH, WIDTH)), ("down", (WIDTH, WIDTH)),
        ):  # fmt: skip
            setattr(self, name, nn.Parameter(torch.randn(shape).mul_(0.1).to(dtype)))
        self.first = nn.Parameter(torch.rand(WIDTH).add_(0.5).to(dtype))
        self.second = nn.Parameter(torch.rand(WIDTH).add_(0.5).to(dtype))
        self.register_buffer("table", torch.rand(POSITIONS, SIZE).to(dtype))

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for _ in range(2):
            hidden = rms_norm(x, self.first, 1e-6)
            query, key, value = F.linear(hidden, self.qkv).split([Q, KV, KV], dim=-1)
            query, key = query.contiguous(), key.contiguous()
            rotary_embedding_(positions, query, key, SIZE, self.table, True)
            attended = torch.empty_like(query)
            count_step(query * (key + value).sum(-1, keepdim=True), attended)
            hidden = F.linear(attended, self.out).contiguous()
            add_rms_norm_(hidden, x, self.second, 1e-6)
            x = F.linear(swiglu(F.linear(hidden, self.up)), self.down) + x
        return x, hidden


class Engine:
    """A module compiled as vLLM does it, and its graph run as it is, over the same weights."""

    def __init__(self, module: nn.Module, **config: Any) -> None:
        self.steps: RecordedSteps | None = None
        self.graph: fx.GraphModule | None = None
        self._plain = False

        def backend(graph: fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
            call_directly(graph)
            self.graph, self.steps = graph, RecordedSteps(graph)
            return self._run

        torch._dynamo.reset()
        self._config = config
        self._compiled = torch.compile(module, backend=backend, fullgraph=True)

    def _run(self, *arguments: Any) -> Any:
        assert self.graph is not None and self.steps is not None
        return self.graph(*arguments) if self._plain else self.steps(*arguments)

    def __call__(self, *arguments: torch.Tensor, plain: bool = False) -> Any:
        self._plain = plain
        for each in arguments:
            torch._dynamo.mark_dynamic(each, each.dim() - 1 if each.dtype == torch.int64 else 0)
        with torch._dynamo.config.patch(**self._config):
            return self._compiled(*arguments)

    @property
    def recorded(self) -> set[int]:
        """Of how many tokens steps are recorded."""
        assert self.steps is not None
        return {key[-1] for key in self.steps._tapes}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def _block() -> Block:
    torch.manual_seed(1)
    return Block(torch.float32)


def inputs(tokens: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(tokens, WIDTH).to(dtype), torch.randint(POSITIONS, (tokens,))


def both(engine: Engine, x: torch.Tensor, positions: torch.Tensor) -> tuple[Any, Any]:
    """Results and what became of ``x``: of the graph, and of recorded steps."""
    done = []
    for plain in (True, False):
        _steps_done.fill_(1)
        mine = x.clone()
        results = engine(mine, positions.clone(), plain=plain)
        done.append([*results, mine, _steps_done.clone()])
    return done[0], done[1]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


SIZES = [8, 3, 3, 5, 3, 5, 5, 8, 8, 3, 33, 5, 8, 33, 33, 3]
"""Each of the first three is recorded at its second step, and replayed between the others'."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_batch_that_grows_and_shrinks(dtype: torch.dtype) -> None:
    engine = Engine(Block(dtype))
    for tokens in SIZES:
        plain, recorded = both(engine, *inputs(tokens, dtype))
        assert same(plain, recorded), tokens
    assert engine.recorded == {3, 5, 8}


def test_a_replay_looks_up_no_function_of_the_vendor(
    _block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(_block)
    for _ in range(2):
        both(engine, *inputs(4))
    asked: list[str] = []
    for area in ("norm", "rotary", "activation"):
        monkeypatch.setattr(
            f"vllm_kunlun.ops.vendor_ops.{area}.function",
            lambda library_, name: asked.append(name) or library.function(library_, name),
        )
    engine(*inputs(4))
    assert not asked
    engine(*inputs(4), plain=True)
    assert {"rmsnorm", "add_rmsnorm", "swiglu", "rotary_embedding"} == set(asked)


def test_results_are_the_callers_to_keep(_block: Block) -> None:
    engine = Engine(_block)
    kept, copies = [], []
    for _ in range(5):
        results = engine(*inputs(4))
        kept.append(results)
        copies.append([each.clone() for each in results])
    assert all(map(same, kept, copies))
    assert not torch.equal(kept[-1][0], kept[-2][0])


def test_a_caller_may_write_to_results(_block: Block) -> None:
    engine = Engine(_block)
    for _ in range(4):
        x, positions = inputs(4)
        plain, recorded = both(engine, x, positions)
        assert same(plain, recorded)
        for each in recorded:
            each.fill_(float("nan"))


class InPlace(nn.Module):
    """Writes to an input, and gives it back, and a part of it, as a piece of a graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = F.relu(x)
        add_rms_norm_(hidden, x, self.weight, 1e-6)
        left, right = x.split([Q, WIDTH - Q], dim=-1)
        return hidden, left, x, (right + positions.unsqueeze(1)).contiguous()


def test_results_that_are_parts_of_an_input() -> None:
    engine = Engine(InPlace())
    for _ in range(4):
        x, positions = inputs(4)
        plain, recorded = both(engine, x, positions)
        assert same(plain, recorded)
        _, left, again, _, mine, _ = recorded
        assert left.data_ptr() == again.data_ptr() == mine.data_ptr()
        assert not torch.equal(mine, x), "the graph writes to it"
    assert engine.recorded == {4}


class Halves(nn.Module):
    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x + positions.unsqueeze(1)).split([Q, WIDTH - Q], dim=-1)


class ReadsValues(nn.Module):
    """The shape of what it computes with depends on values."""

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = torch.empty_like(x)
        count_step(x, out)
        return (out * positions.nonzero().sum(),)


@pytest.mark.parametrize(
    ("module", "config"),
    [(Halves, {}), (ReadsValues, {"capture_dynamic_output_shape_ops": True})],
    ids=["results share memory", "shapes depend on values"],
)
def test_what_cannot_be_recorded_runs_as_it_is(
    module: Callable[[], nn.Module], config: dict[str, Any]
) -> None:
    """The step that finds out runs once: its state may not advance twice."""
    engine = Engine(module(), **config)
    for _ in range(4):
        plain, recorded = both(engine, *inputs(4))
        assert same(plain, recorded)
    assert not engine.recorded
    assert engine.steps is not None and not engine.steps._known


def test_weights_that_change_in_place_or_move() -> None:
    block = Block(torch.float32)
    engine = Engine(block)
    for _ in range(3):
        both(engine, *inputs(4))
    with torch.no_grad():
        block.first.mul_(3)
        block.up.mul_(2)
    assert same(*both(engine, *inputs(4)))
    block.second.data = torch.rand(WIDTH)
    for _ in range(3):
        assert same(*both(engine, *inputs(4)))
    assert engine.recorded == {4}


def test_weights_that_move_at_each_step_end_recording() -> None:
    block = Block(torch.float32)
    engine = Engine(block)
    for _ in range(recorded_steps.MAX_MOVES + 4):
        block.second.data = torch.rand(WIDTH)
        assert same(*both(engine, *inputs(4)))
    assert not engine.recorded


class Packed(nn.Module):
    def __init__(self, handle: int) -> None:
        super().__init__()
        self.handle = handle

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        multiply = torch.ops.vllm_kunlun_emulated.packed_linear.default
        return multiply(x, self.handle, WIDTH, None), positions + 1


@pytest.mark.parametrize("tokens", [1, 4])
def test_a_packed_weight_that_was_written_is_read_anew(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one token, too, whose recording reads the packed memory itself."""
    weights = [torch.randn(WIDTH, WIDTH) for _ in range(2)]
    monkeypatch.setattr(linear_packing, "_packed_weights", [PackedWeight(weights[0])])
    engine = Engine(Packed(0))
    engine(*inputs(8))
    assert engine.graph is not None and engine.steps is not None
    x, positions = inputs(tokens)
    sizes = [node.meta["example_value"] for node in engine.graph.graph.nodes
             if node.op == "placeholder"]  # fmt: skip
    arguments = [
        tokens if not isinstance(each, torch.Tensor) else x if each.dim() == 2 else positions
        for each in sizes
    ]
    for weight in (weights[0], weights[0], weights[0], weights[1], weights[1], weights[1]):
        if weight is weights[1]:
            linear_packing._packed_weights[0] = PackedWeight(weight)
        result, following = engine.steps(*arguments)
        torch.testing.assert_close(result, x @ weight.T, rtol=1e-5, atol=1e-5)
        assert torch.equal(following, positions + 1)
    assert tokens in engine.recorded


def test_positions_past_the_table_are_refused_in_a_replay(_block: Block) -> None:
    engine = Engine(_block)
    for _ in range(3):
        both(engine, *inputs(4))
    x, positions = inputs(4)
    with pytest.raises(VendorContractError, match="positions"):
        engine(x, positions + POSITIONS)
    assert same(*both(engine, x, positions)), "and the next step is right"


def test_a_stand_in_for_the_library_sees_each_call(_block: Block) -> None:
    engine = Engine(_block)
    for _ in range(3):
        both(engine, *inputs(4))

    class StandIn:
        def __getattr__(self, name: str) -> Any:
            seen.append(name)
            return getattr(before, name)

    seen: list[str] = []
    before = library.libraries().kunlun_ops
    with library.use_libraries(kunlun_ops=StandIn()):
        engine(*inputs(4))
    assert seen.count("rmsnorm") == 2


def test_outside_inference_mode_nothing_is_recorded(_block: Block) -> None:
    engine = Engine(_block)
    with torch.inference_mode(False), torch.no_grad():
        for _ in range(3):
            engine(*inputs(4))
    assert not engine.recorded


def test_the_recording_that_rested_longest_makes_room(
    _block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(_block)
    for tokens in (2, 2, 3, 3, 2):
        both(engine, *inputs(tokens))
    assert engine.steps is not None
    (bytes_,) = {each.bytes for key, each in engine.steps._tapes.items() if key[-1] == 3}
    monkeypatch.setattr(recorded_steps, "MAX_BYTES", 2 * bytes_)
    for _ in range(3):
        assert same(*both(engine, *inputs(4)))
    assert engine.recorded == {2, 4}
    for _ in range(3):
        assert same(*both(engine, *inputs(20)))
    assert 20 not in engine.recorded, "it would not fit alone"
