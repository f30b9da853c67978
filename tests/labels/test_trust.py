"""How far labels can be trusted: worked by hand, and what random labels and half-wrong ones are worth."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.labels import CalibrationBin, Reliability, Scored, calibration, reliability, replace_at_random

NUM_ITEMS = 100
LABELS = [{1: 1.0, 2: 0.9}, {item: 1.0 for item in range(50)}, {7: 1.0}, {}]
TRUTH = [{1: 1.0, 5: 1.0}, {3: 1.0, 60: 1.0}, {}, {4: 1.0}]


def test_what_is_counted() -> None:
    measured = reliability(LABELS, TRUTH, NUM_ITEMS)
    assert measured.found.tolist() == [1, 1, 0, 0]
    assert measured.wanted.tolist() == [2, 2, 0, 1]
    np.testing.assert_allclose(measured.chance, [0.02, 0.5, 0.01, 0.0])
    assert measured.recovered == pytest.approx(2 / 5)
    assert measured.expected == pytest.approx((2 * 0.02 + 2 * 0.5) / 5)  # the third dialogue wants nothing
    assert measured.source_trust == pytest.approx((0.4 - 0.208) / (1 - 0.208))


def test_the_trust_of_a_dialogue_starts_from_its_source() -> None:
    """The source recovers 0.4, worth 10 labels: 4 of 10. The first dialogue adds 1 of 2, the last one 0 of 1."""
    trust = reliability(LABELS, TRUTH, NUM_ITEMS, prior=10).dialogue_trust
    expected = [(5 / 12 - 0.02) / 0.98, 0.0, (0.4 - 0.208) / 0.792, 4 / 11]
    np.testing.assert_allclose(trust, expected)  # half of the catalogue as labels: 5 of 12 is below chance


def test_a_large_prior_gives_all_dialogues_the_rate_of_their_source_and_none_their_own() -> None:
    one_label_each = [{1: 1.0}, {2: 1.0}]
    truth = [{1: 1.0}, {5: 1.0}]
    alone, together = (reliability(one_label_each, truth, NUM_ITEMS, prior=prior) for prior in (0, 1e9))
    assert alone.dialogue_trust.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(together.dialogue_trust, together.source_trust)


def test_without_a_prior_dialogues_without_truth_are_trusted_as_their_source() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = reliability(LABELS, TRUTH, NUM_ITEMS, prior=0)
        trust = measured.dialogue_trust
    np.testing.assert_allclose(trust, [(0.5 - 0.02) / 0.98, 0.0, measured.source_trust, 0.0])


def test_the_extremes() -> None:
    truth = [{1: 1.0}, {2: 1.0, 3: 1.0}]
    perfect = reliability(truth, truth, NUM_ITEMS)
    assert perfect.source_trust == 1
    assert perfect.dialogue_trust.tolist() == [1, 1]
    nothing = reliability([{}, {}], truth, NUM_ITEMS)
    assert (nothing.recovered, nothing.expected, nothing.source_trust) == (0, 0, 0)
    everything = [{item: 1.0 for item in range(NUM_ITEMS)}] * 2
    assert reliability(everything, truth, NUM_ITEMS).source_trust == 0, "whoever names everything has read nothing"


LABEL_ROWS = st.lists(st.dictionaries(st.integers(0, 19), st.just(1.0), max_size=8), min_size=1, max_size=6)


@given(labels=LABEL_ROWS, data=st.data(), prior=st.floats(0, 100))
def test_trust_is_a_share_and_finding_more_raises_it(
    labels: list[dict[int, float]], data: st.DataObject, prior: float
) -> None:
    truth = [data.draw(st.dictionaries(st.integers(0, 19), st.just(1.0), max_size=4)) for _ in labels]
    truth[0] = truth[0] or {0: 1.0}
    measured = reliability(labels, truth, 20, prior=prior)
    assert 0 <= measured.source_trust <= 1
    assert ((measured.dialogue_trust >= 0) & (measured.dialogue_trust <= 1)).all()
    found = measured.found.copy()
    found[0] = measured.wanted[0]
    better = Reliability(found, measured.wanted, measured.chance, prior)
    assert better.source_trust >= measured.source_trust
    assert (better.dialogue_trust >= measured.dialogue_trust - 1e-12).all()


# What wrong labels are worth: 1,000 dialogues, catalogue of 1,000 items, 10 labels and 2 true ones each


@pytest.fixture(scope="module")
def many() -> tuple[list[dict[int, float]], list[dict[int, float]]]:
    """Labels that hold every true one."""
    rng = np.random.default_rng(0)
    labels = [dict.fromkeys(rng.choice(1000, 10, replace=False).tolist(), 1.0) for _ in range(1000)]
    return labels, [dict.fromkeys(list(row)[:2], 1.0) for row in labels]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_replacing_labels_takes_away_as_much_of_what_is_found(many: tuple, share: float) -> None:
    labels, truth = many
    measured = reliability(replace_at_random(labels, 1000, share), truth, 1000)
    assert measured.recovered == pytest.approx(1 - share, abs=0.04)
    assert measured.source_trust == pytest.approx(1 - share, abs=0.04)
    assert measured.dialogue_trust.mean() == pytest.approx(1 - share, abs=0.05)


def test_random_labels_are_not_trusted(many: tuple) -> None:
    """Not even where there are many of them: 300 of 1,000 items find 0.3 of the truth by chance."""
    _, truth = many
    rng = np.random.default_rng(1)
    labels = [dict.fromkeys(rng.choice(1000, 300, replace=False).tolist(), 1.0) for _ in truth]
    measured = reliability(labels, truth, 1000)
    assert measured.expected == pytest.approx(0.3)
    assert measured.recovered == pytest.approx(0.3, abs=0.04)
    assert measured.source_trust < 0.05


@pytest.mark.parametrize(
    ("labels", "truth", "prior", "message"),
    [
        ([{}], [{}], 10, "no dialogue has a true label.*say how much the labels may count"),
        ([], [], 10, "no dialogue has a true label"),
        ([{}], [{1: 1.0}, {}], 10, "1 rows of labels and 2 of truth"),
        ([{}], [{1: 1.0}], -1, r"prior is -1; expected 0 \(each dialogue by itself\) or more"),
        ([{}], [{1: 1.0}], float("nan"), "prior is nan"),
    ],
)
def test_wrong_input(labels: list, truth: list, prior: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reliability(labels, truth, 10, prior=prior)


# Calibration


def test_calibration_by_hand() -> None:
    """A border belongs to the bin above it, 4 to the last one; padding and dialogues without truth do not count."""
    scored = Scored(
        np.array([[1, 2, 3, 4, 5], [6, 7, 8, -1, -1], [1, 2, 3, 4, 5]]),
        np.array([[0, 0.5, 1, 3.5, 4], [3.4, np.nan, 1, np.nan, np.nan], [4, 4, 4, 4, 4]]),
        "s",
    )
    truth = [{3: 1.0, 5: 1.0, 9: 1.0}, {7: 1.0, 6: 1.0}, {}]
    assert calibration(scored, truth) == [
        CalibrationBin(0, 1, items=2, wanted=0),
        CalibrationBin(1, 2, items=2, wanted=1),
        CalibrationBin(2, 3, items=0, wanted=0),
        CalibrationBin(3, 3.5, items=1, wanted=1),
        CalibrationBin(3.5, 4, items=2, wanted=1),
    ]
    assert [part.rate for part in calibration(scored, truth, [0, 2, 4])] == [1 / 4, 2 / 3]


def test_the_rate_of_an_empty_bin_is_unknown() -> None:
    assert np.isnan(CalibrationBin(0, 1, 0, 0).rate)
    nothing = Scored(np.full((1, 2), -1), np.full((1, 2), np.nan), "s")
    assert [part.items for part in calibration(nothing, [{1: 1.0}], [0, 4])] == [0]
