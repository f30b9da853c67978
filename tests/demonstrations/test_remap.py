"""Remap against plain loops, in its array form and in its candidate form."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from rankrl.demonstrations import remap_candidates, remap_scores
from tests.demonstrations import references


def unit(rng, rows, width):
    vectors = rng.standard_normal((rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def problem(seed, dialogues=4, ranks=5, titles=7, items=9, width=6):
    """Lists with empty places and repeats, titles that are items and titles that are not, two of them one item."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(-1, titles, (dialogues, ranks))
    raw[0, 0] = 0
    same = rng.integers(-1, items, titles)
    vectors = unit(rng, titles, width), unit(rng, items, width), unit(rng, dialogues, width)
    return raw, same, *vectors


def matrix_of(same, num_items):
    matrix = np.zeros((len(same), num_items))
    for title, item in enumerate(same):
        if item >= 0:
            matrix[title, item] = 1
    return matrix


def test_known_answer() -> None:
    similarity = [[0.5, 0.1, 0.0], [0.2, 0.4, 1.0]]
    scores = remap_scores([[1, 0], [-1, 0]], similarity, [-1, 2], [[0.0, 0.3, 0.0], [1.0, 0.0, 0.0]], weight=2.0)
    root = 1 / np.sqrt(2)
    expected = [[0.2 + 0.5 * root, 0.4 + 0.1 * root + 0.6, 1.0 + 1.0], [0.5 * root + 2.0, 0.1 * root, 0.0]]
    np.testing.assert_allclose(scores, expected)
    assert scores.dtype == np.float64


@given(seed=st.integers(0, 2**32), weight=st.floats(-2, 2), form=st.sampled_from(["ids", "dense", "sparse", "bool"]))
def test_equals_plain_loops(seed, weight, form) -> None:
    raw, same, titles, items, contexts = problem(seed)
    matrix = matrix_of(same, len(items))
    given_as = {"ids": same, "dense": matrix, "sparse": csr_array(matrix), "bool": matrix.astype(bool)}[form]
    expected = references.remap(raw, titles @ items.T, matrix, contexts @ items.T, weight)
    scores = remap_scores(raw, titles @ items.T, given_as, contexts @ items.T, weight)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)


def test_a_title_may_be_several_items() -> None:
    scores = remap_scores([[0]], np.zeros((1, 3)), np.array([[1, 0, 1]]), np.zeros((1, 3)))
    assert scores.tolist() == [[1.0, 0.0, 1.0]]


def test_a_repeated_title_counts_once_and_keeps_its_rank() -> None:
    same, zeros = np.eye(2), np.zeros((2, 2))
    scores = remap_scores([[0, 0, 1]], zeros, same, np.zeros((1, 2)))
    np.testing.assert_allclose(scores, [[1, 1 / np.sqrt(3)]])


def test_parts_of_the_catalogue_add_up(monkeypatch, tmp_path) -> None:
    raw, same, titles, items, contexts = problem(1)
    similarity, context = titles @ items.T, contexts @ items.T
    whole = remap_scores(raw, similarity, same, context)
    monkeypatch.setattr("rankrl.demonstrations.remap.BLOCK_SCORES", 20)
    np.save(tmp_path / "similarity.npy", similarity)
    mapped = np.load(tmp_path / "similarity.npy", mmap_mode="r")
    np.testing.assert_allclose(remap_scores(raw, mapped, same, context), whole, rtol=1e-15)


@pytest.mark.parametrize("sparse", [False, True])
@given(seed=st.integers(0, 2**32), weight=st.floats(-2, 2), block=st.integers(1, 5), number=st.integers(5, 12))
def test_candidates_are_the_best_of_the_exact_scores(sparse, seed, weight, block, number) -> None:
    raw, same, *vectors = problem(seed)
    titles, items, contexts = vectors
    exact = references.remap(
        raw,
        titles.astype(np.float64) @ items.T.astype(np.float64),
        matrix_of(same, len(items)),
        contexts.astype(np.float64) @ items.T.astype(np.float64),
        weight,
    )
    if sparse:
        titles, items, contexts = map(csr_array, vectors)
    found = remap_candidates(raw, titles, same, items, contexts, num_candidates=number, weight=weight, block=block)
    assert found.items.shape == (len(raw), min(number, 9))
    for row in range(len(raw)):
        np.testing.assert_allclose(found.scores[row], exact[row, found.items[row]], rtol=1e-6, atol=1e-6)
        named = {int(same[title]) for title in raw[row] if title >= 0 and same[title] >= 0}
        assert named <= set(found.items[row])
        others = [item for item in references.top(exact[row], 9) if item not in named]
        assert set(found.items[row]) == named | set(others[: found.items.shape[1] - len(named)])


@pytest.mark.parametrize("sparse", [False, True])
def test_all_candidates_are_the_array(sparse) -> None:
    raw, same, titles, items, contexts = problem(3)
    array = remap_scores(raw, titles @ items.T, same, contexts @ items.T)
    vectors = [csr_array(part) if sparse else part for part in (titles, items, contexts)]
    candidates = remap_candidates(raw, vectors[0], same, vectors[1], vectors[2])
    assert candidates.items.tolist() == [list(range(9))] * 4
    np.testing.assert_allclose(candidates.scores, array, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(candidates.to_csr().toarray(), candidates.scores)


def test_many_parts_and_blocks_are_one(monkeypatch) -> None:
    raw, same, titles, items, contexts = problem(4, dialogues=30, items=50)
    whole = remap_candidates(raw, titles, same, items, contexts, num_candidates=8)
    monkeypatch.setattr("rankrl.demonstrations.remap.PART_ITEMS", 7)
    parts = remap_candidates(raw, titles, same, items, contexts, num_candidates=8, block=4)
    np.testing.assert_array_equal(parts.items, whole.items)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-14)


def test_named_items_are_candidates_however_bad_they_are() -> None:
    raw, same, titles, items, contexts = problem(5, ranks=2)
    raw[:] = [0, 1]
    same[:2] = [3, 3]
    far = np.where(np.arange(9)[:, None] == 3, -titles[0], items).astype(np.float32)
    found = remap_candidates(raw, titles, same, far, contexts, num_candidates=2, weight=50.0)
    assert (found.items == 3).any(axis=1).all()


def test_equal_scores_go_to_the_smaller_id() -> None:
    vector = np.array([[1.0, 0.0]], dtype=np.float32)
    found = remap_candidates([[0]], vector, [7], np.repeat(vector, 9, axis=0), vector, num_candidates=4)
    assert found.items.tolist() == [[0, 1, 2, 7]]


def test_empty_lists_leave_the_dialogue_and_are_counted(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        scores = remap_scores([[0], [-1]], [[0.5, 0.1]], [1], [[0.0, 0.0], [0.2, 0.4]])
    np.testing.assert_allclose(scores, [[0.5, 1.1], [0.2, 0.4]])
    assert "1 of 2 raw lists are empty" in caplog.text


BAD = {
    "every list is empty": (dict(raw_lists=[[-1, -1]]), "all 1 raw lists are empty"),
    "no rank": (dict(raw_lists=np.zeros((1, 0), dtype=int)), r"shape \(1, 0\)"),
    "ragged lists": (dict(raw_lists=[[0], [1, 0]]), "same length"),
    "unknown title": (dict(raw_lists=[[0, 2]]), "names title 2, but there are 2 titles"),
    "id below -1": (dict(raw_lists=[[0, -2]]), "holds the id -2"),
    "similarity of one title": (dict(item_similarity=[0.1, 0.2, 0.3]), r"item_similarity must have shape \(C, N\)"),
    "context of other items": (dict(context_similarity=[[0.1]]), r"must have shape \(1, 3\)"),
    "context of two dialogues": (dict(context_similarity=np.zeros((2, 3))), r"got \(2, 3\)"),
    "same item unknown": (dict(same_item=[0, 3]), "names items 0 to 3"),
    "same item below -1": (dict(same_item=[0, -2]), "names items -2 to 0"),
    "same item of three titles": (dict(same_item=[0, 1, 2]), r"expected item ids of shape \(2,\)"),
    "same item as shares": (dict(same_item=[0.5, 0.5]), "same_item is float64"),
    "same item not 0/1": (dict(same_item=np.full((2, 3), 0.5)), "other values than 0 and 1"),
    "NaN": (dict(item_similarity=[[np.nan, 0, 0], [0, 0, 0]]), "NaN"),
    "infinite context": (dict(context_similarity=[[np.inf, 0, 0]]), "NaN or infinite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case) -> None:
    good = dict(
        raw_lists=[[0, 1]], item_similarity=np.zeros((2, 3)), same_item=[0, -1], context_similarity=np.zeros((1, 3))
    )
    changed, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        remap_scores(**(good | changed))


BAD_VECTORS = {
    "another encoder": (dict(item_vectors=np.eye(4, 6)), r"item_vectors \(4, 6\)"),
    "mixed kinds": (dict(item_vectors=csr_array(np.eye(4, 3))), "all be dense or all be sparse"),
    "contexts of two dialogues": (dict(context_vectors=np.eye(2, 3)), "2 context_vectors for 1 lists"),
    "too few candidates": (dict(num_candidates=1), "num_candidates is 1, but the lists name up to 2"),
    "NaN": (dict(item_vectors=np.full((4, 3), np.nan)), "item_vectors hold NaN"),
    "no block": (dict(block=0), "block is 0"),
}


@pytest.mark.parametrize("case", BAD_VECTORS)
def test_bad_vectors(case) -> None:
    good = dict(
        raw_lists=[[0, 1]],
        teacher_vectors=np.eye(2, 3),
        same_item=[0, -1],
        item_vectors=np.eye(4, 3),
        context_vectors=np.eye(1, 3),
    )
    changed, message = BAD_VECTORS[case]
    remap_candidates(**good)
    with pytest.raises(ValueError, match=message):
        remap_candidates(**(good | changed))
