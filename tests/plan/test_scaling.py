"""The same step on more GPUs: every list is still written and learned from, once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.plan.arithmetic import Shape
from rankrl.plan.estimate import DEVICES, Setup
from rankrl.plan.scaling import scaling_table, spread

STEP = Setup("rank_grpo", strategy="ddp", processes=8, batch=8, accumulation=6, rollout=48, generations=8)
SMALL = Shape("small", 10_000, ((40, 50, 4),), ((40, 50, 4),), 2, 40, 80, 4, 2, 10, 100)


@given(st.integers(1, 32), st.integers(1, 32), st.integers(1, 16), st.data())
def test_a_step_has_as_many_lists_as_before(batch: int, accumulation: int, processes: int, data: st.DataObject) -> None:
    setup = replace(STEP, batch=batch, accumulation=accumulation, processes=processes, rollout=batch * accumulation)
    lists = setup.lists_a_step
    gpus = data.draw(st.sampled_from([n for n in range(1, lists + 1) if lists % n == 0]))
    shared = spread(setup, gpus)
    assert (shared.lists_a_step, shared.processes) == (lists, gpus)
    assert shared.batch <= batch, "what fits once fits again"
    assert shared.rollout == lists // gpus, "all of a step at once, as before"


def test_the_step_itself_stays_as_it_is() -> None:
    assert spread(STEP, 8) == STEP


def test_one_gpu_exchanges_nothing() -> None:
    assert spread(STEP, 1).strategy == "single"
    assert spread(replace(STEP, strategy="single", processes=1), 16).strategy == "ddp"
    assert spread(replace(STEP, strategy="zero2"), 16).strategy == "zero2"


def test_more_than_eight_gpus_are_several_machines() -> None:
    assert [spread(STEP, gpus).nodes for gpus in (1, 8, 16, 48)] == [1, 1, 2, 6]


def test_lists_written_in_parts_stay_in_parts() -> None:
    parts = replace(STEP, rollout=16)
    assert [spread(parts, gpus).rollout for gpus in (8, 16, 48)] == [16, 16, 8]


def test_a_step_that_cannot_be_shared() -> None:
    for gpus in (5, 768):
        with pytest.raises(
            ValueError,
            match=f"a step of 384 lists cannot be shared by {gpus} GPUs; .* divisors of it: 1, 2, 3, .* 384\\.",
        ):
            spread(STEP, gpus)


def test_what_most_of_a_step_goes_to() -> None:
    """A tiny model computes in no time: writing one token after the other is all that is left."""
    table = scaling_table(SMALL, STEP, STEP, DEVICES["h100"], None, [8, 384])
    assert list(table.columns[0].cells) == ["8", "384"]
    assert list(table.columns[-1].cells) == ["rollout", "rollout"]
    assert list(table.columns[-2].cells) == ["", ""], "hours of an unknown number of steps"
