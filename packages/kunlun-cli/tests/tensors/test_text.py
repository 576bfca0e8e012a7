# SPDX-License-Identifier: Apache-2.0
"""The text: what is wrong is named, in 80 columns."""

from vllm_kunlun.cli.tensors.rows import as_result
from vllm_kunlun.cli.tensors.text import lines


def said(found, *, every=False):
    result = as_result(found, architecture="MyForCausalLM", tensor_parallel_size=2)
    return lines(result, every=every)


def test_each_fault_is_named_with_its_file_and_what_it_may_be(found):
    text = "\n".join(said(found))
    for word in ("unknown", "a.safetensors", "the parameter has shape [2, 2]", "WRONG: 3 things",
                 "nearest in the checkpoint: model.layers.0.v_prj", "this rank of 2"):  # fmt: skip
        assert word in text
    assert "-> new" not in text


def test_all_lists_every_tensor_and_tie(found):
    text = "\n".join(said(found, every=True))
    for word in ("renamed    old", "-> new", "is embed"):
        assert word in text


def test_no_line_is_wider_than_a_terminal(found):
    found.faults[0] = found.faults[0].__class__(
        "unexpected", found.faults[0].source, "a reason of many words " * 20
    )
    assert max(map(len, said(found, every=True))) <= 80


def test_many_of_a_kind_are_cut_off_and_said(found):
    found.missing = [f"layer.{n}" for n in range(50)]
    text = said(found)
    assert "  and 30 more; --all shows them" in text
    assert sum(line.startswith("  layer.") for line in said(found, every=True)) == 50


def test_a_refusal_is_the_whole_text(found):
    result = {**as_result(found), "refused": "a.safetensors is cut off"}
    assert lines(result, every=False)[0] == "a.safetensors is cut off"
