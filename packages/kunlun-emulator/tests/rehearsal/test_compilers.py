# SPDX-License-Identifier: Apache-2.0
"""What a compiler copies from its examples lies where they lie, and its graphs read that."""

import pytest
import torch


@pytest.fixture
def compiled(rehearsal):
    """Compiles ``x + 1`` by a compiler that is given."""
    yield lambda compiler: torch.compile(lambda x: x + 1, backend=compiler)
    torch._dynamo.reset()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_copy_of_an_example_lies_where_the_example_does(compiled, device):
    copies = []

    def compiler(module, examples):
        copies.append(examples[0].clone())
        return module

    assert compiled(compiler)(torch.zeros(4, device=device)).tolist() == [1.0] * 4
    assert [each.device.type for each in copies] == [device]


def test_a_graph_reads_the_buffer_that_its_compiler_made(compiled, piece):
    """As vLLM's ``cudagraph_copy_inputs`` does."""

    def compiler(module, examples):
        buffer = examples[0].clone()
        captured = piece(lambda x: module(x)[0])

        def copy_and_call(x):
            buffer.copy_(x)
            return (captured(buffer),)

        return copy_and_call

    function = compiled(compiler)
    for step in range(5):  # captured, then run by the code and by the nodes in turns
        x = torch.full((4,), float(step), device="cuda")
        result = function(x)
        assert result.is_cuda
        assert result.tolist() == [step + 1.0] * 4
