"""Weights over training by hand, and that a blended truth pays the larger of what its two parts pay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.rewards import LabelSchedule, LabelWeights, blend_labels, relevance

NUM_ITEMS = 6
GAINS = st.dictionaries(st.integers(0, NUM_ITEMS - 1), st.floats(0.01, 1.0), max_size=4)
WEIGHTS = st.builds(LabelWeights, *[st.just(0.0) | st.floats(0.01, 1.0)] * 2)


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        (LabelSchedule(), 0.3, (1.0, 0.0)),
        (LabelSchedule(0.5), 0.0, (1.0, 0.5)),
        (LabelSchedule(0.5), 1.0, (1.0, 0.5)),
        (LabelSchedule(0.5, "linear"), 0.0, (1.0, 0.5)),
        (LabelSchedule(0.5, "linear"), 0.25, (1.0, 0.375)),
        (LabelSchedule(0.5, "linear"), 1.0, (1.0, 0.0)),
        (LabelSchedule(0.5, "two_stage"), 0.0, (0.0, 0.5)),
        (LabelSchedule(0.5, "two_stage", 0.25), 0.24, (0.0, 0.5)),
        (LabelSchedule(0.5, "two_stage", 0.25), 0.25, (1.0, 0.0)),  # stage two begins at the switch itself
        (LabelSchedule(0.5, "two_stage"), 1.0, (1.0, 0.0)),
        (LabelSchedule(0.5, "augmented_only"), 0.0, (0.0, 0.5)),
        (LabelSchedule(0.5, "augmented_only"), 1.0, (0.0, 0.5)),
    ],
)
def test_weights_over_training(schedule: LabelSchedule, progress: float, expected: tuple[float, float]) -> None:
    assert schedule.at(progress) == expected


@pytest.mark.parametrize(
    ("schedule", "changes"),
    [
        (LabelSchedule(), False),
        (LabelSchedule(0.0, "linear"), False),  # nothing to fade out
        (LabelSchedule(0.5), False),
        (LabelSchedule(0.5, "augmented_only"), False),
        (LabelSchedule(0.5, "linear"), True),
        (LabelSchedule(0.5, "two_stage"), True),
    ],
)
def test_only_some_schedules_need_to_know_how_far_training_is(schedule: LabelSchedule, changes: bool) -> None:
    assert schedule.changes is changes
    if not changes:
        assert len({schedule.at(progress) for progress in np.linspace(0, 1, 11)}) == 1


def test_blending_by_hand() -> None:
    truth, augmented = [{3: 1.0}, {1: 0.25}, {}], [{3: 0.5, 7: 0.75}, {1: 1.0}, {2: 0.5}]
    assert blend_labels(truth, augmented, LabelWeights(1.0, 0.5)) == [{3: 1.0, 7: 0.375}, {1: 0.5}, {2: 0.25}]
    assert blend_labels(truth, augmented, LabelWeights(1.0, 0.0)) == truth
    assert blend_labels(truth, augmented, LabelWeights(0.0, 1.0)) == augmented
    assert blend_labels(truth, augmented, LabelWeights(0.0, 0.0)) == [{}, {}, {}]


@given(st.lists(st.tuples(GAINS, GAINS), min_size=1, max_size=4), WEIGHTS, st.randoms(use_true_random=False))
def test_what_is_blended_pays_the_larger_of_the_two(rows: list, weights: LabelWeights, random) -> None:
    truth, augmented = [true for true, _ in rows], [extra for _, extra in rows]
    ranked = np.array([[random.randint(-1, NUM_ITEMS - 1) for _ in range(5)] for _ in rows])
    separate = (weights.true * relevance(ranked, truth), weights.augmented * relevance(ranked, augmented))
    blended = blend_labels(truth, augmented, weights)
    np.testing.assert_array_equal(relevance(ranked, blended), np.maximum(*separate))
    assert all(gain > 0 for row in blended for gain in row.values())


def test_what_was_given_is_not_changed() -> None:
    truth, augmented = [{3: 0.5}], [{3: 1.0, 4: 1.0}]
    blend_labels(truth, augmented, LabelWeights(1.0, 1.0))
    assert (truth, augmented) == ([{3: 0.5}], [{3: 1.0, 4: 1.0}])


def test_one_row_of_each() -> None:
    with pytest.raises(ValueError, match="2 rows of true labels and 1 of augmented ones"):
        blend_labels([{}, {}], [{}], LabelWeights(1.0, 1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "cosine"}, "'cosine'; expected one of constant, linear, two_stage, augmented_only"),
        ({"weight": 1.5}, "augmented labels is 1.5; expected a share"),
        ({"weight": -0.1}, "is -0.1"),
        ({"weight": float("nan")}, "is nan"),
        ({"switch": 0.0}, "switch is 0.0"),
        ({"switch": 1.0}, "switch is 1.0"),
        ({"kind": "two_stage"}, "'two_stage' pays for augmented labels alone, but their weight is 0"),
        ({"kind": "augmented_only"}, "nothing would be earned. Set a weight above 0"),
    ],
)
def test_bad_schedules(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSchedule(**settings)


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_is_a_share(progress: float) -> None:
    with pytest.raises(ValueError, match=f"progress is {progress}"):
        LabelSchedule().at(progress)
