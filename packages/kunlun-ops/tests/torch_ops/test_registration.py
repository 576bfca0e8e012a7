# SPDX-License-Identifier: Apache-2.0
"""The three-piece registration, and torch's own checks of every op registered with it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from vllm_kunlun.ops import custom_op
from vllm_kunlun.ops.torch_ops import (
    activation,
    causal_conv1d,
    embedding,
    encoder_attention,
    gdn,
    lora,
    norm,
    registration,
    rotary,
)

NAMESPACE = "vllm_kunlun_tests"
MODULES = (
    causal_conv1d, activation, encoder_attention, gdn, lora, norm, rotary, embedding,
)  # fmt: skip
"""Where our ops are registered."""
_names = (f"op_{number}" for number in itertools.count())


def declare(function: Any, **pieces: Any) -> Any:
    """``function`` as an op under a fresh name of the tests' own namespace."""
    return registration.register(next(_names), function, namespace=NAMESPACE, **pieces)


def arguments_of(op: Any) -> str:
    return str(op._schema).split("(", 1)[1]


# ------------------------------------------------------------------------------- schemas


def scaled(x: Tensor, factor: float) -> Tensor:
    return x * factor


def scaled_fake(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def many_kinds(
    x: Tensor,
    sizes: list[int],
    names: Sequence[int],
    bias: Tensor | None,
    scale: float | None = None,
    flag: bool = False,
    kind: str = "none",
) -> tuple[Tensor, Tensor]:
    total = x.sum() if bias is None else x.sum() + bias.sum()
    return x.reshape(sizes).clone(), total * (scale or 1.0) + sum(names)


def many_kinds_fake(sizes: list[int], flag: bool, x: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(sizes), x.new_empty((), dtype=torch.bool if flag else x.dtype)


def test_schema_of_every_kind_of_annotation() -> None:
    op = declare(many_kinds, fake=many_kinds_fake)
    assert arguments_of(op) == (
        "Tensor x, SymInt[] sizes, SymInt[] names, Tensor? bias, float? scale=None, "
        'bool flag=False, str kind="none") -> (Tensor, Tensor)'
    )


def test_op_calls_the_implementation_and_keeps_it_reachable() -> None:
    op = declare(scaled, fake=scaled_fake)
    x = torch.randn(3, 5)
    torch.testing.assert_close(op(x, 2.5), x * 2.5, rtol=0, atol=0)
    assert op.implementation is scaled
    first, total = declare(many_kinds, fake=many_kinds_fake)(x, [5, 3], (1, 2), None, scale=2.0)
    assert first.shape == (5, 3)
    torch.testing.assert_close(total, x.sum() * 2 + 3)


def test_fake_gives_shapes_under_fake_tensors_and_meta() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    op = declare(scaled, fake=scaled_fake)
    with FakeTensorMode():
        assert op(torch.empty(4, 7), 1.0).shape == (4, 7)
    assert op(torch.empty(4, 7, device="meta"), 1.0).device.type == "meta"


def test_fake_takes_by_name_what_it_needs_defaults_included() -> None:
    op = declare(many_kinds, fake=many_kinds_fake)
    x = torch.empty(3, 5, device="meta")
    first, total = op(x, [5, 3], (1, 2), None)
    assert (first.shape, total.dtype) == ((5, 3), torch.float32)
    assert op(x, [15], (1, 2), bias=None, flag=True)[1].dtype == torch.bool


def test_fake_with_names_of_its_own_takes_all_arguments_in_order() -> None:
    op = declare(scaled, fake=lambda *given: torch.empty_like(given[0]))
    assert op(torch.empty(4, 7, device="meta"), 1.0).shape == (4, 7)
    op = declare(scaled, fake=lambda tensor, number: torch.empty_like(tensor))
    assert op(torch.empty(4, 7, device="meta"), 1.0).shape == (4, 7)


def test_mutated_arguments_are_marked() -> None:
    def fill(x: Tensor, value: float, spare: Tensor) -> None:
        x.fill_(value)

    op = declare(fill, mutates_args=("x",))
    assert arguments_of(op) == "Tensor(a0!) x, float value, Tensor spare) -> ()"
    x = torch.zeros(3)
    assert op(x, 2.0, x) is None
    assert x.tolist() == [2.0] * 3


def test_an_op_survives_compilation_as_one_node() -> None:
    op = declare(scaled, fake=scaled_fake)
    seen: list[Any] = []

    def keep(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        seen.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    compiled = torch.compile(lambda x: op(x, 3.0) + 1, backend=keep, fullgraph=True)
    x = torch.randn(2, 3)
    torch.testing.assert_close(compiled(x), x * 3 + 1)
    assert op in seen


# ------------------------------------------------------------------------------- refusals


def test_unknown_mutated_argument_is_named() -> None:
    with pytest.raises(ValueError, match=r"mutates_args names \['y'\].*\['x', 'factor'\]"):
        declare(scaled, mutates_args=("y",), fake=scaled_fake)


def test_a_value_without_a_fake_is_refused() -> None:
    with pytest.raises(ValueError, match="has no fake"):
        declare(scaled)


def test_one_name_for_two_functions_is_refused() -> None:
    def another(x: Tensor, factor: float) -> Tensor:
        return x + factor

    name = next(_names)
    first = registration.register(name, scaled, fake=scaled_fake, namespace=NAMESPACE)
    with pytest.raises(ValueError, match=f"{NAMESPACE}::{name} is already registered"):
        registration.register(name, another, fake=scaled_fake, namespace=NAMESPACE)
    torch.testing.assert_close(first(torch.ones(2), 5.0), torch.full((2,), 5.0))


def test_the_same_function_twice_is_one_op() -> None:
    name = next(_names)
    pieces = {"fake": scaled_fake, "namespace": NAMESPACE}
    first = registration.register(name, scaled, **pieces)
    assert registration.register(name, scaled, **pieces) is first


def test_a_refused_registration_leaves_the_name_free() -> None:
    name = next(_names)
    with pytest.raises(ValueError, match="has no fake"):
        registration.register(name, scaled, namespace=NAMESPACE)
    op = registration.register(name, scaled, fake=scaled_fake, namespace=NAMESPACE)
    assert op(torch.ones(1), 4.0).item() == 4.0


def test_decorator_takes_the_functions_name_or_another() -> None:
    @custom_op(fake=scaled_fake)
    def decorated_by_the_tests(x: Tensor, factor: float) -> Tensor:
        return x * factor

    @custom_op(name="named_by_the_tests", fake=scaled_fake)
    def anything(x: Tensor, factor: float) -> Tensor:
        return x - factor

    ops = torch.ops.vllm_kunlun
    assert ops.decorated_by_the_tests(torch.ones(1), 3.0).item() == 3.0
    assert ops.named_by_the_tests(torch.ones(1), 3.0).item() == -2.0
    assert decorated_by_the_tests is ops.decorated_by_the_tests.default
    assert anything is ops.named_by_the_tests.default


# ------------------------------------------------------------------- every op of this wheel


def _samples(dtype: torch.dtype) -> dict[str, tuple[Any, ...]]:
    """Op -> arguments that a model's step would pass."""
    torch.manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape).to(dtype)

    ids = torch.tensor([0, 3, 9, 17, 25], dtype=torch.int64)
    positions = torch.tensor([0, 4, 7], dtype=torch.int64)
    lora_a, lora_b = [random(2, 1, 8, 24)], [random(2, 1, 12, 8)]
    lengths = torch.tensor([1, 2, 0], dtype=torch.int32)
    segments = (lengths, torch.tensor([-1, 1, -1], dtype=torch.int32), torch.tensor([True]))
    lod, rows = torch.tensor([0, 3, 70], dtype=torch.int32), torch.tensor([2, 0], dtype=torch.int32)
    plan = gdn.plan_chunks(lod, lod.device)
    convolved = (random(70, 8), random(8, 4), None, random(3, 3, 8))
    # q, k, v, g, beta: two sequences, two value heads to a key head
    packed = (
        random(1, 70, 1, 16), random(1, 70, 1, 16), random(1, 70, 2, 8),
        -torch.rand(1, 70, 2), torch.rand(1, 70, 2).to(dtype),
    )  # fmt: skip
    return {
        "gdn_gating": (torch.randn(2), random(5, 2), torch.randn(2)),
        "chunk_gated_delta_rule": (
            *packed, random(2, 2, 16, 8), lod, plan.indices, plan.offsets, 0.25, True,
        ),
        "recurrent_gated_delta_rule_": (
            *packed, random(3, 2, 8, 16), lod, rows, None, 0.25, True,
        ),
        "causal_conv1d_": (
            *convolved, lod, lod.clone(), rows, rows.clone(),
            torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0, 1], dtype=torch.int32),
        ),
        "causal_conv1d_update_": (random(2, 8), *convolved[1:], rows, rows.clone()),
        "rms_norm": (random(3, 24), random(24), 1e-6),
        "add_rms_norm_": (random(3, 24), random(3, 24), random(24), 1e-6),
        "gemma_rms_norm": (random(3, 24), random(24), 1e-6),
        "gemma_add_rms_norm": (random(3, 24), random(3, 24), random(24), 1e-6),
        "rms_norm_gated": (random(3, 24), random(3, 24), random(24), 1e-6, 12, True),
        "swiglu": (random(3, 26),),
        "gelu": (random(3, 13),),
        "quick_gelu": (random(3, 13),),
        "rotary_embedding_": (positions, random(3, 64), random(3, 32), 32, random(8, 16), True),
        "rotary_embedding": (positions, random(3, 2, 32), random(3, 1, 32), 32, 16,
                             torch.randn(8, 16), False),
        "mrotary_embedding": (
            random(3, 64), random(3, 32), positions.int().repeat(3, 1), random(8, 16), True, True,
            32, 16, [4, 2, 2],
        ),
        "split_norm_rope": (
            random(3, 4 * 32), random(8, 32), random(32), random(32), positions, 2, 1, 32, 32,
        ),
        "split_norm_rope_gated": (
            random(3, 6 * 32), random(8, 16), random(32), random(32), positions, 2, 1, 32, 16,
        ),
        "encoder_attention": (
            random(1, 9, 4, 16), random(1, 9, 2, 16), random(1, 9, 2, 16),
            torch.tensor([0, 2, 9], dtype=torch.int32), 0.3,
        ),
        "lora_linear_": (random(3, 12), random(3, 24), lora_a, lora_b, [12], 0.5, *segments),
        "lora_shrink_": (torch.zeros(1, 3, 8), random(3, 24), lora_a, 0.5, *segments),
        "lora_expand_": (random(3, 20), random(1, 3, 8), lora_b, [12], 4, *segments),
        "mask_input": (ids, 0, 16, 4, 20, 24),
    }  # fmt: skip


def _registered() -> set[str]:
    modules = {module.__name__ for module in MODULES}
    return {
        qualified.split("::")[1]
        for qualified, implementation in registration._registered.items()
        if implementation.__module__ in modules
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", sorted(_registered()))
def test_torch_accepts_the_op(name: str, dtype: torch.dtype) -> None:
    """Schema, mutation, aliasing, fake and dynamic shapes agree with what the op does."""
    arguments = _samples(dtype)[name]
    torch.library.opcheck(
        getattr(torch.ops.vllm_kunlun, name).default,
        arguments,
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
