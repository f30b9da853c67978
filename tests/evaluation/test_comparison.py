"""Systems over seeds: what is paired with what, and when a curve first reaches a level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.evaluation import Scores
from rankrl.evaluation.comparison import comparison_markdown, first_reach, over_seeds


def scores(*values: float, first: int = 0) -> Scores:
    """Scores of rows that are dialogues of their own."""
    ids = tuple(f"set:{first + row}:0" for row in range(len(values)))
    return Scores(ids, {"ndcg@10": np.array(values)}, {}, np.zeros(10))


def test_the_mean_over_seeds_weighs_every_seed_alike() -> None:
    assert over_seeds({0: scores(0.0, 1.0), 1: scores(1.0, 1.0, 1.0, 1.0)}, "ndcg@10").mean == 0.75


def test_a_difference_is_paired_row_by_row() -> None:
    easy_and_hard = scores(0.9, 0.1, 0.5)
    better = scores(0.95, 0.15, 0.55)
    gain = over_seeds({0: better}, "ndcg@10", {0: easy_and_hard})
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.05, 0.05, 0.05))


def test_rows_without_a_value_are_left_out_and_so_are_seeds_without_any() -> None:
    assert over_seeds({0: scores(np.nan, 0.4), 1: scores(np.nan, np.nan)}, "ndcg@10").mean == 0.4
    assert np.isnan(over_seeds({0: scores(np.nan)}, "ndcg@10").mean)


def test_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="different rows"):
        over_seeds({0: scores(0.1, 0.2)}, "ndcg@10", {0: scores(0.1, 0.2, first=7)})


def test_the_table_shows_means_gains_and_every_seed() -> None:
    systems = {
        "grpo": {0: scores(0.1, 0.3), 1: scores(0.2, 0.2)},
        "rank_grpo": {0: scores(0.2, 0.4), 1: scores(0.4, 0.4)},
    }
    head, _, baseline, other, _ = comparison_markdown(systems, "grpo", ["ndcg@10"], by_seed="ndcg@10")
    assert head == "| against grpo | seeds | ndcg@10 | ndcg@10 by seed |"
    assert baseline == "| grpo | 2 | 0.200 | 0.200 0.200 |"
    assert other == "| rank_grpo | 2 | 0.350<br>0.1500 [0.1000, 0.2000] | 0.300 0.400 |"


def test_what_is_not_finished_is_compared_where_both_are() -> None:
    """Seed 1 alone has both: 0.4 against 0.2. Without any, an arm shows its mean and no difference."""
    systems = {
        "grpo": {0: scores(0.1, 0.3), 1: scores(0.2, 0.2)},
        "ours": {1: scores(0.4, 0.4), 2: scores(0.8, 0.8)},
        "late": {2: scores(0.5, 0.5)},
    }
    _, _, baseline, ours, late, _ = comparison_markdown(systems, "grpo", ["ndcg@10"], by_seed="ndcg@10")
    assert baseline == "| grpo | 2 | 0.200 | 0.200 0.200 - |"
    assert ours == "| ours | 2, 1 paired | 0.600<br>0.2000 [0.2000, 0.2000] | - 0.400 0.800 |"
    assert late == "| late | 1, 0 paired | 0.500 | - - 0.500 |"


def test_seeds_that_were_tested_on_the_same_dialogues_do_not_make_these_more() -> None:
    """Eight seeds that score alike are as sure as one of them; in eight worlds they would be surer."""
    ours, theirs = ({seed: scores(*values) for seed in range(8)} for values in ([0.1, 0.5, 0.9, 0.3], [0.0] * 4))
    same, other = (over_seeds(ours, "ndcg@10", theirs, same_dialogues=same) for same in (True, False))
    assert same.low == pytest.approx(over_seeds({0: ours[0]}, "ndcg@10").low, abs=0.06)
    assert same.high - same.low > 2 * (other.high - other.low)
    for shared, gain in ((True, same), (False, other)):
        table = comparison_markdown({"a": theirs, "b": ours}, "a", ["ndcg@10"], "ndcg@10", same_dialogues=shared)
        assert f"<br>{gain} |" in table[3]


def test_first_reach_by_hand() -> None:
    assert first_reach([0, 100, 200], [0.1, 0.2, 0.4], 0.3) == 150.0
    assert first_reach([50, 100], [0.3, 0.1], 0.2) == 50.0, "it is there from the start"
    assert first_reach([0, 10, 20, 30], [0.0, 0.5, 0.1, 0.5], 0.5) == 10.0, "the first time counts"
    assert np.isnan(first_reach([0, 100], [0.1, 0.2], 0.3))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0, 1))
def test_a_curve_stands_at_the_level_where_it_is_said_to_reach_it(values: list[float], level: float) -> None:
    amounts = np.arange(len(values), dtype=float)
    reached = first_reach(amounts, values, level)
    if np.isnan(reached):
        assert max(values) < level
    else:
        assert np.interp(reached, amounts, values) >= level - 1e-9
        assert all(value < level for amount, value in zip(amounts, values, strict=True) if amount < reached)
