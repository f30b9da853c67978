"""What lists are made of, by hand."""

from __future__ import annotations

import pytest

from rankrl.metrics import coverage_at_k, in_catalog_share, repeat_share


def test_in_catalog_share_counts_lines_not_ranks() -> None:
    ranked = [[0, -1, 1, -1], [-1, -1, -1, -1], [0, 1, 2, 3], [-1, -1, -1, -1]]
    assert in_catalog_share(ranked, [3, 2, 9, 0]).tolist() == [2 / 3, 0, 1, 0]
    with pytest.raises(ValueError, match="list 0 has 2 lines but an item at rank 3"):
        in_catalog_share(ranked, [2, 2, 9, 0])
    with pytest.raises(ValueError, match="one count per list"):
        in_catalog_share(ranked, [2])


def test_repeats_and_coverage() -> None:
    ranked = [[0, 0, 1, 0], [-1, -1, -1, -1], [3, -1, 2, 1]]
    assert repeat_share(ranked).tolist() == [0.5, 0, 0]
    assert coverage_at_k(ranked, 8, 1) == 2 / 8
    assert coverage_at_k(ranked, 8, 4) == 4 / 8
    with pytest.raises(ValueError, match="item 3, but the catalogue has 3"):
        coverage_at_k(ranked, 3, 1)
