# SPDX-License-Identifier: Apache-2.0
"""Plans are made once for the same values, and again for any other."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.functions import step_cache
from vllm_kunlun.emulator.functions.step_cache import StepCache, check_values
from vllm_kunlun.emulator.replay import Kept, Recording


class Plans:
    """A cache and how often it had to make a plan."""

    def __init__(self) -> None:
        self.cache: StepCache[int] = StepCache()
        self.made = 0

    def get(self, key: int, tensor: torch.Tensor, source: torch.Tensor | None = None) -> int:
        def make() -> int:
            self.made += 1
            return self.made

        return self.cache.get((key,), (tensor,), make, source)


@pytest.fixture
def plans() -> Plans:
    return Plans()


def test_equal_values_share_a_plan(plans: Plans) -> None:
    lengths = torch.tensor([3, 5])
    assert plans.get(0, lengths) == plans.get(0, lengths.clone()) == 1


def test_another_key_another_shape_or_another_value_is_another_plan(plans: Plans) -> None:
    assert plans.get(0, torch.tensor([3, 5])) == 1
    assert plans.get(1, torch.tensor([3, 5])) == 2
    assert plans.get(0, torch.tensor([3, 6])) == 3
    assert plans.get(0, torch.tensor([3])) == 4


def test_a_tensor_that_is_changed_in_place_is_another_one(plans: Plans) -> None:
    """vLLM fills the same buffers step after step."""
    lengths = torch.tensor([3, 5])
    plans.get(0, lengths)
    lengths += 1
    assert plans.get(0, lengths) == 2


def test_a_source_is_compared_by_identity(plans: Plans) -> None:
    lengths, table = torch.tensor([3]), torch.zeros(4)
    assert plans.get(0, lengths, table) == plans.get(0, lengths, table) == 1
    other = torch.zeros(4)
    assert plans.get(0, lengths, other) == 2
    assert plans.get(0, lengths, other) == 2
    assert plans.get(0, lengths) == 2, "a plan that asks for no source may be used"


def test_a_source_that_is_gone_is_no_longer_the_same(plans: Plans) -> None:
    lengths = torch.tensor([3])
    plans.get(0, lengths, torch.zeros(4))
    assert plans.get(0, lengths, torch.zeros(4)) == 2


def test_a_plan_without_a_source_does_not_serve_one(plans: Plans) -> None:
    lengths = torch.tensor([3])
    plans.get(0, lengths)
    assert plans.get(0, lengths, torch.zeros(4)) == 2


def test_only_the_newest_plans_are_kept(plans: Plans) -> None:
    values = torch.zeros(1)
    for key in range(step_cache.CAPACITY + 1):
        plans.get(key, values)
    made = plans.made
    for key in range(1, step_cache.CAPACITY + 1):
        plans.get(key, values)
    assert plans.made == made
    plans.get(0, values)
    assert plans.made == made + 1, "the oldest plan was kept"


def test_a_plan_that_could_not_be_made_is_tried_again(plans: Plans) -> None:
    def fail() -> int:
        raise ValueError("wrong lengths")

    for _ in range(2):
        with pytest.raises(ValueError, match="wrong lengths"):
            plans.cache.get((0,), (torch.zeros(1),), fail)
    assert plans.get(0, torch.zeros(1)) == 1


def test_values_are_checked_once_and_again_before_a_repetition_with_others() -> None:
    lengths, checked = torch.tensor([3, 5]), []
    held: StepCache[None] = StepCache()

    def check() -> None:
        checked.append(lengths.tolist())

    for _ in range(2):
        check_values(held, ("f",), (lengths,), check)
    assert checked == [[3, 5]]

    of_step: dict[tuple[object, ...], Kept] = {}
    for _ in range(2):
        recording = Recording(of_step)
        with recording.open(), recording.inside():
            check_values(held, ("f",), (lengths,), check)
    assert checked == [[3, 5]] * 2, "a recording does not rely on what was checked outside"
    lengths.add_(1)
    for _ in range(2):
        for call in recording.calls:
            call()
    assert checked == [[3, 5], [3, 5], [4, 6]]


def test_a_call_that_no_recording_repeats_leaves_nothing_in_it() -> None:
    of_step: dict[tuple[object, ...], Kept] = {}
    with Recording(of_step).open():
        check_values(StepCache(), ("f",), (torch.tensor([3]),), lambda: None)
    assert not of_step
