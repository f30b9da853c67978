"""`served` and `strict` against a loop over the lines of a list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.metrics import recall_at_k, served, strict

LINES = st.lists(st.integers(-1, 6), min_size=5, max_size=5)
ROWS = st.lists(st.tuples(LINES, st.sets(st.integers(-1, 6), max_size=3)), min_size=1, max_size=4)


def plain(ranked: list[int], seen: set[int], k: int, *, close_up: bool) -> list[int]:
    shown: list[int] = []
    for item in ranked:
        if item >= 0 and item not in seen and item not in shown:
            shown.append(item)
        elif not close_up:
            shown.append(-1)
    return (shown + [-1] * k)[:k]


@given(ROWS, st.integers(1, 8))
def test_agrees_with_a_plain_loop(rows: list[tuple[list[int], set[int]]], k: int) -> None:
    ranked, seen = [row for row, _ in rows], [items for _, items in rows]
    assert served(ranked, seen, k).tolist() == [plain(*row, k, close_up=True) for row in rows]
    assert strict(ranked, seen, k).tolist() == [plain(*row, k, close_up=False) for row in rows]


@given(ROWS, st.integers(1, 8))
def test_what_is_served_never_scores_below_the_list_as_written(rows: list[tuple[list[int], set[int]]], k: int) -> None:
    ranked, seen, truth = [row for row, _ in rows], [items for _, items in rows], [[0, 1, 2]] * len(rows)
    shown, written = recall_at_k(served(ranked, seen, k), truth, k), recall_at_k(strict(ranked, seen, k), truth, k)
    assert (shown >= written).all()


def test_a_long_list_is_served_in_its_order() -> None:
    """Sixty lines, every other one of them unknown: sorting what is unknown to the end moves nothing else."""
    ranked = [item if item % 2 else -1 for item in range(60)]
    assert served([ranked], None, 60).tolist() == [plain(ranked, set(), 60, close_up=True)]


def test_nothing_seen_may_be_left_out() -> None:
    assert served([[2, -1, 2, 3]], None, 3).tolist() == [[2, 3, -1]]
    assert strict([[2, -1, 2, 3]], None, 4).tolist() == [[2, -1, -1, 3]]


def test_no_rank_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        served(np.array([[-1, 4]]), None, 0)
