"""Candidates, the lists that are drawn from scores, and what few candidates cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.demonstrations import Candidates, top_items, top_overlap
from rankrl.demonstrations.candidates import mean_ranks
from tests.demonstrations import references


def random_scores(rng, rows, columns):
    """Scores with many ties."""
    return rng.integers(0, 5, (rows, columns)) / 2


@given(seed=st.integers(0, 2**32), number=st.integers(1, 4))
def test_lists_equal_a_plain_sort(seed, number) -> None:
    rng = np.random.default_rng(seed)
    scores = random_scores(rng, 3, 8)
    exclude = [set(rng.integers(-1, 8, 3).tolist()) for _ in range(3)]
    expected = [references.top(row, number, seen) for row, seen in zip(scores, exclude, strict=True)]
    items = np.sort(np.stack([rng.permutation(20)[:8] for _ in range(3)]))
    few = Candidates(items, scores, num_items=20)
    seen_there = [{int(items[row, place]) for place in seen if place >= 0} for row, seen in enumerate(exclude)]
    assert top_items(scores, number, exclude).tolist() == expected
    assert top_items(few, number, seen_there).tolist() == np.take_along_axis(items, np.array(expected), 1).tolist()
    assert top_items(scores, number).tolist() == [references.top(row, number) for row in scores]


def test_all_items_can_be_listed() -> None:
    assert top_items([[0.0, 2.0, 1.0]], 3).tolist() == [[1, 2, 0]]


def test_ids_outside_the_catalogue_exclude_nothing() -> None:
    assert top_items([[0.0, 2.0, 1.0]], 2, [[-1, 99]]).tolist() == [[1, 2]]


def test_a_memory_mapped_file_is_read(tmp_path) -> None:
    np.save(tmp_path / "scores.npy", np.array([[0.0, 2.0, 1.0]], dtype=np.float32))
    assert top_items(np.load(tmp_path / "scores.npy", mmap_mode="r"), 2).tolist() == [[1, 2]]


def test_too_few_items_left() -> None:
    few = Candidates(np.array([[0, 4, 7], [1, 2, 3]]), np.zeros((2, 3)), num_items=9)
    assert top_items(few, 3).tolist() == [[0, 4, 7], [1, 2, 3]]
    with pytest.raises(ValueError, match="dialogue 1 has 2 items left to list, but num_ranks is 3. Raise num_cand"):
        top_items(few, 3, [[5], [2]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], 1), r"\(D, N\)"),
        (([[1.0, np.nan]], 1), "dialogue 0 has a score that is NaN"),
        (([[1.0, -np.inf]], 1), "NaN or infinite"),
        (([[1.0, 2.0]], 0), "num_ranks is 0"),
        (([[1.0, 2.0]], 1, [[], []]), "exclude has 2 rows for 1 dialogues"),
    ],
)
def test_bad_scores(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        top_items(*arguments)


@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        ([[0, 1]], [[0.0]], "must have one shape"),
        ([0, 1], [0.0, 1.0], "must have one shape"),
        ([[1, 0]], [[0.0, 0.0]], "ascending"),
        ([[1, 1]], [[0.0, 0.0]], "none twice"),
        ([[1, 5]], [[0.0, 0.0]], "items 1 to 5; ids are 0..4"),
        ([[-1, 3]], [[0.0, 0.0]], "items -1 to 3"),
        ([[1, 3]], [[0.0, np.inf]], "infinite"),
    ],
)
def test_bad_candidates(items, scores, message) -> None:
    with pytest.raises(ValueError, match=message):
        Candidates(np.array(items), np.array(scores), num_items=5)


@given(seed=st.integers(0, 2**32))
def test_items_are_located_in_their_rows(seed) -> None:
    rng = np.random.default_rng(seed)
    items = np.sort(np.stack([rng.permutation(9)[:4] for _ in range(5)]))
    few = Candidates(items, np.zeros((5, 4)), num_items=9)
    rows, wanted = rng.integers(0, 5, 20), rng.integers(-1, 9, 20)
    expected = [
        items[row].tolist().index(item) if item in items[row] else -1 for row, item in zip(rows, wanted, strict=True)
    ]
    assert few.locate(rows, wanted).tolist() == expected


def test_csr_keeps_a_candidate_of_score_zero() -> None:
    few = Candidates(np.array([[0, 2], [1, 2]]), np.array([[0.0, 1.0], [2.0, 3.0]]), num_items=4)
    assert few.to_csr().nnz == 4
    assert few.to_csr().toarray().tolist() == [[0, 0, 1, 0], [0, 2, 3, 0]]
    assert few[1:].to_csr().toarray().tolist() == [[0, 2, 3, 0]]


def test_overlap_is_the_share_of_the_exact_list() -> None:
    exact = np.array([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    few = Candidates(np.array([[0, 2], [0, 1]]), np.array([[4.0, 2.0], [4.0, 3.0]]), num_items=4)
    assert top_overlap(few, exact, num_ranks=2) == 0.75
    assert top_overlap(exact, exact, num_ranks=3) == 1.0
    assert top_overlap(exact, exact, num_ranks=3, exclude=[[0], [1]]) == 1.0
    with pytest.raises(ValueError, match="1 dialogues are compared with 2"):
        top_overlap(exact[:1], exact, num_ranks=2)


def test_mean_ranks() -> None:
    assert mean_ranks([[3.0, 1.0, 2.0], [1.0, 1.0, 5.0]]).tolist() == [1.5, 3.0, 1.5]
    few = Candidates(np.array([[0, 2], [1, 2]]), np.array([[1.0, 2.0], [2.0, 3.0]]), num_items=4)
    np.testing.assert_array_equal(mean_ranks(few), [2.0, 2.0, 1.0, np.nan])
