import numpy as np
import pytest

from rankrl.demonstrations import popular_items, truth_then_popular


def test_popularity_counts_the_truth_and_keeps_the_catalogue_order_in_ties() -> None:
    assert popular_items([[2, 1], [2], []], 4).tolist() == [2, 1, 0, 3]


@pytest.mark.parametrize("item", [3, 7, -1])
def test_only_items_of_the_catalogue_are_popular(item: int) -> None:
    with pytest.raises(ValueError, match=r"truth names items .*; ids are 0..2"):
        popular_items([[1], [item]], 3)
    assert popular_items([], 3).tolist() == [0, 1, 2]


def test_lists_open_with_the_truth_and_skip_what_was_mentioned() -> None:
    lists = truth_then_popular([[3], [2, 0]], [[2], []], np.array([2, 1, 0, 3]), num_ranks=3)
    assert lists.tolist() == [[3, 1, 0], [2, 0, 1]]


def test_too_small_a_catalogue_is_an_error() -> None:
    with pytest.raises(ValueError, match="leaves 2 items"):
        truth_then_popular([[0]], [[1]], np.array([0, 1, 2]), num_ranks=3)


@pytest.mark.parametrize("item", [-1, 3])
def test_what_the_catalogue_lacks_is_not_demonstrated(item: int) -> None:
    with pytest.raises(ValueError, match=r"dialogue 1 wants the items .*; ids are 0..2"):
        truth_then_popular([[0], [1, item]], [[], []], np.array([0, 1, 2]), num_ranks=2)
