"""Agreement by hand, and against SciPy's rank correlation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from rankrl.labels import teacher_agreement

SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.5, 3.5, 4.0])] * 2), min_size=2, max_size=12)


def test_by_hand() -> None:
    found = teacher_agreement([4.0, 3.5, 1.0, 3.0], [3.5, 2.0, 0.0, 4.0], threshold=3.5)
    assert found["mse"] == pytest.approx((0.25 + 2.25 + 1.0 + 1.0) / 4)
    assert found["spearman"] == pytest.approx(1 - 6 * (1 + 1 + 0 + 4) / (4 * 15))
    assert (found["precision"], found["recall"]) == (0.5, 0.5)
    assert (found["labels"], found["teacher_labels"]) == (0.5, 0.5)


def test_what_is_undefined_is_none() -> None:
    found = teacher_agreement([2.0, 2.0], [1.0, 3.0])
    assert (found["mse"], found["spearman"], found["precision"], found["recall"]) == (1.0, None, None, None)


@given(SCORES)
def test_the_correlation_is_scipys(pairs: list[tuple[float, float]]) -> None:
    scores, teacher = zip(*pairs, strict=True)
    found = teacher_agreement(scores, teacher)["spearman"]
    if len(set(scores)) == 1 or len(set(teacher)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(scores, teacher).statistic)


@pytest.mark.parametrize(("scores", "teacher"), [([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[1.0]])])
def test_other_shapes_are_refused(scores: list, teacher: list) -> None:
    with pytest.raises(ValueError, match="expected"):
        teacher_agreement(scores, teacher)


def test_scores_have_to_be_numbers() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        teacher_agreement([4.0, float("nan")], [3.5, 2.0])
