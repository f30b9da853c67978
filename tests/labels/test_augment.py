"""From scores to labels: what is kept, how much it counts, and labels made wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.labels import Scored, kept_labels, reliability, replace_at_random, weigh_by_trust

SCORED = Scored(
    np.array([[3, 8, 1, 5], [2, 4, -1, -1], [6, 7, 9, -1]]),
    np.array([[3.5, 4.0, 3.4999, 4.0], [np.nan, 3.0, np.nan, np.nan], [3.5, np.nan, 4.0, np.nan]]),
    "s",
)

# Kept


def test_what_is_scored_high_enough_is_kept_best_first_then_as_retrieved() -> None:
    kept = kept_labels(SCORED)
    assert [list(row.items()) for row in kept] == [[(8, 1.0), (5, 1.0), (3, 0.875)], [], [(9, 1.0), (6, 0.875)]]


def test_the_threshold() -> None:
    assert [list(row) for row in kept_labels(SCORED, 4)] == [[8, 5], [], [9]]
    assert [list(row) for row in kept_labels(SCORED, 0.1)] == [[8, 5, 3, 1], [4], [9, 6]], "never what has no score"
    for wrong in (0, -1, 4.1, np.nan):
        with pytest.raises(ValueError, match=r"min_label_score is .*; expected a score above 0, at most 4"):
            kept_labels(SCORED, wrong)


@given(st.lists(st.sampled_from([0.0, 1.0, 3.0, 3.5, 4.0, np.nan]), min_size=1, max_size=8), st.floats(0.01, 4))
def test_kept_against_one_by_one(scores: list[float], min_label_score: float) -> None:
    scored = Scored(np.arange(len(scores))[None], np.array([scores]), "s")
    good = [(item, score / 4) for item, score in enumerate(scores) if score >= min_label_score]
    assert list(kept_labels(scored, min_label_score)[0].items()) == sorted(good, key=lambda pair: -pair[1])


# Weighed


def test_gains_are_trust_times_score() -> None:
    """Of the truth {8} and {1} of the first two dialogues one is found: the source recovers 1/2, worth 10 labels."""
    labels = kept_labels(SCORED)
    weighed = weigh_by_trust(labels, [{8: 1.0}, {1: 1.0}, {}], 10)
    first, third = (6 / 11 - 0.3) / 0.7, (0.5 - 0.15) / 0.85  # chance: 3 of 10 items, 0 of 10
    np.testing.assert_allclose(weighed.trust, [first, 5 / 11, third])
    assert weighed.labels[0] == pytest.approx({8: first, 5: first, 3: first * 0.875})
    assert weighed.labels[1] == {}
    assert weighed.labels[2] == pytest.approx({9: third, 6: third * 0.875})
    assert [list(row) for row in weighed.labels] == [list(row) for row in labels], "the order stays"
    assert weighed.reliability is not None
    assert weighed.reliability.source_trust == pytest.approx(third)


def test_the_prior_is_passed_on() -> None:
    labels, truth = [{1: 1.0}, {2: 1.0}], [{1: 1.0}, {5: 1.0}]
    for prior in (0, 3):
        expected = reliability(labels, truth, 10, prior=prior).dialogue_trust
        np.testing.assert_array_equal(weigh_by_trust(labels, truth, 10, prior=prior).trust, expected)


def test_a_given_trust_is_not_measured() -> None:
    weighed = weigh_by_trust([{1: 1.0, 2: 0.5}, {}], [{}, {}], 10, trust=0.3)
    assert weighed.labels == [{1: 0.3, 2: 0.15}, {}]
    assert weighed.trust.tolist() == [0.3, 0.3]
    assert weighed.reliability is None


def test_what_cannot_be_trusted_has_no_labels() -> None:
    assert weigh_by_trust([{1: 1.0}], [{}], 10, trust=0).labels == [{}]
    nothing_found = weigh_by_trust([{1: 1.0}, {2: 1.0}], [{3: 1.0}, {3: 1.0}], 10)
    assert nothing_found.labels == [{}, {}]


@pytest.mark.parametrize("trust", [-0.1, 1.1, float("nan")])
def test_trust_is_a_share(trust: float) -> None:
    with pytest.raises(ValueError, match=r"trust is .*; expected 0 \(labels count nothing\) to 1"):
        weigh_by_trust([{1: 1.0}], [{}], 10, trust=trust)


def test_trust_cannot_be_measured_without_truth() -> None:
    with pytest.raises(ValueError, match=r"say how much the labels may count \(trust\)"):
        weigh_by_trust([{1: 1.0}], [{}], 10)


# Replaced

ROWS = st.lists(st.dictionaries(st.integers(0, 11), st.floats(0.1, 1), max_size=12), max_size=5)


@given(ROWS, st.floats(0, 1), st.integers(0, 5))
def test_as_many_labels_no_item_twice_and_the_gains_stay(rows: list[dict], share: float, seed: int) -> None:
    replaced = replace_at_random(rows, 12, share, seed=seed)
    assert [list(row.values()) for row in replaced] == [list(row.values()) for row in rows]
    assert all(0 <= item < 12 for row in replaced for item in row)
    assert replaced == replace_at_random(rows, 12, share, seed=seed)


@given(ROWS)
def test_a_share_of_0_replaces_nothing_and_of_1_all_that_it_can(rows: list[dict]) -> None:
    assert replace_at_random(rows, 12, 0) == rows
    for before, after in zip(rows, replace_at_random(rows, 12, 1), strict=True):
        assert len(before.keys() & after.keys()) == max(0, 2 * len(before) - 12), "only as many items are left"


def test_the_share_and_the_seed_count() -> None:
    rows = [dict.fromkeys(range(10), 1.0)] * 300
    replaced, other = (replace_at_random(rows, 1000, 0.3, seed=seed) for seed in (0, 1))
    kept = sum(len(before.keys() & after.keys()) for before, after in zip(rows, replaced, strict=True))
    assert kept / 3000 == pytest.approx(0.7, abs=0.03)
    assert replaced != other
    drawn = [item for row in replaced for item in row if item >= 10]
    assert np.mean(drawn) == pytest.approx(504.5, abs=40), "drawn from the whole catalogue alike"


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ValueError, match=r"share is .*; expected a share of the labels"):
        replace_at_random([{1: 1.0}], 10, share)
