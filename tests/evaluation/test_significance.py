"""Intervals over dialogues: against a plain bootstrap, against theory, and what clusters do to the width."""

from __future__ import annotations

import numpy as np
import pytest

from rankrl.evaluation import Interval, bootstrap_mean, standard_error
from rankrl.evaluation.significance import bootstrap_means, bootstrap_over_seeds


def test_agrees_with_drawing_dialogues_one_by_one() -> None:
    rng = np.random.default_rng(1)
    dialogues = [f"d{i}" for i in rng.integers(0, 30, size=90)]
    values = rng.random(90)
    groups = [values[[name == dialogue for name in dialogues]] for dialogue in sorted(set(dialogues))]
    means = [
        np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]).mean() for _ in range(4000)
    ]

    interval = bootstrap_mean(values, dialogues, num_samples=4000)

    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)


def test_independent_rows_give_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=4000)
    interval = bootstrap_mean(values, [str(row) for row in range(4000)])
    half = 1.96 * values.std() / np.sqrt(4000)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_copies_of_a_row_in_one_dialogue_do_not_make_it_surer() -> None:
    values = np.random.default_rng(0).random(50)
    names = [f"d{row}" for row in range(50)]
    copied, once = bootstrap_mean(np.repeat(values, 9), np.repeat(names, 9)), bootstrap_mean(values, names)
    assert copied.to_json() == pytest.approx(once.to_json())


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    values, names = np.arange(6.0), list("aabbcc")
    assert bootstrap_mean(values, names) == bootstrap_mean(values[::-1], names[::-1])
    assert bootstrap_mean(values, names, seed=3) == bootstrap_mean(values, names, seed=3)


def test_a_paired_difference_is_surer_than_two_means() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(200)
    names = [str(row) for row in range(200)]
    better, worse = hard + 0.05 + 0.01 * rng.normal(size=200), hard
    difference = bootstrap_mean(better - worse, names)
    assert 0 < difference.low < 0.05 < difference.high
    assert bootstrap_mean(better, names).low < bootstrap_mean(worse, names).high  # the means alone would not tell


def test_a_large_number_of_dialogues_is_drawn_in_parts() -> None:
    values = np.random.default_rng(0).random(9000)
    interval = bootstrap_mean(values, [str(row) for row in range(9000)], num_samples=1000)
    assert interval.low < values.mean() < interval.high


# ---- Metrics that not every row has ----------------------------------------------------------------------------------


def test_rows_without_a_value_count_neither_in_means_nor_in_draws() -> None:
    """Two of five dialogues have the value: as many draws have it, and their mean is over what was drawn of it."""
    names, values = ["a", "a", "b", "c", "d", "e"], [1.0, np.nan, 0.0, np.nan, np.nan, np.nan]
    rng = np.random.default_rng(1)
    by_dialogue = np.array([1.0, 0.0, np.nan, np.nan, np.nan])
    means = [np.nanmean(drawn) for drawn in rng.choice(by_dialogue, (6000, 5)) if not np.isnan(drawn).all()]

    interval = bootstrap_means({"x": values}, names, partial=["x"], num_samples=6000, level=0.5)["x"]

    assert interval.mean == 0.5
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.25, 0.75]), abs=0.05)
    once = bootstrap_means({"x": [np.nan, 0.75, 0.25]}, ["a", "b", "b"], partial=["x"])["x"]
    assert once == Interval(0.5, 0.5, 0.5)  # a single dialogue that has it: no width


def test_where_every_row_has_a_value_partial_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    metrics, names = {"x": rng.random(60), "y": rng.random(60)}, [f"d{i}" for i in rng.integers(0, 20, 60)]
    assert bootstrap_means(metrics, names, partial=["x"]) == bootstrap_means(metrics, names)


def test_a_hole_in_one_metric_leaves_the_others_alone() -> None:
    rng = np.random.default_rng(0)
    values, names = rng.random(60), [f"d{i}" for i in rng.integers(0, 20, 60)]
    holes = np.where(np.arange(60) % 3, values, np.nan)
    both = bootstrap_means({"x": values, "y": holes, "z": np.full(60, np.nan)}, names, partial=["y", "z"])
    assert both["x"].to_json() == pytest.approx(bootstrap_mean(values, names).to_json())
    assert both["y"].mean == pytest.approx(np.nanmean(holes))
    assert list(both) == ["x", "y"]  # nobody has z
    assert bootstrap_means({"z": np.full(60, np.nan)}, names, partial=["z"]) == {}


@pytest.mark.parametrize(("values", "partial"), [([1, np.nan], ["y"]), ([np.nan, np.inf], ["x"])])
def test_a_hole_that_was_not_announced_is_an_error(values: list[float], partial: list[str]) -> None:
    with pytest.raises(ValueError, match="value 1 is not finite"):
        bootstrap_means({"x": values}, ["a", "b"], partial=partial)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([], [], "one per row"),
        ([1.0], ["a", "b"], "2 dialogue names"),
        ([[1.0]], ["a"], "one per row"),
        ([1.0, np.nan], ["a", "b"], "value 1 is not finite"),
    ],
)
def test_bad_input(values: list, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, names)


def test_intervals_survive_json() -> None:
    interval = Interval(0.2, 0.1, 0.3)
    assert Interval.parse(interval.to_json()) == Interval.parse(interval) == interval
    assert Interval.parse(0.5) == Interval(0.5, 0.5, 0.5)


# Over seeds


def test_a_single_run_has_the_interval_of_its_dialogues() -> None:
    rng = np.random.default_rng(0)
    values, names = rng.random(300), [f"d{row // 3}" for row in range(300)]
    alone, over = bootstrap_mean(values, names), bootstrap_over_seeds([values], [names])
    assert over.mean == alone.mean
    assert (over.low, over.high) == pytest.approx((alone.low, alone.high), abs=0.003)


def test_agrees_with_drawing_runs_and_then_dialogues_one_by_one() -> None:
    """Three runs of different size, rows of a dialogue drawn together."""
    rng = np.random.default_rng(1)
    names = [[f"d{i}" for i in np.sort(rng.integers(0, 12, size=size))] for size in (30, 40, 50)]
    values = [rng.random(len(row)) + shift for row, shift in zip(names, (0.0, 0.1, 0.3), strict=True)]

    def groups(run: int) -> list[np.ndarray]:
        return [values[run][np.array(names[run]) == name] for name in sorted(set(names[run]))]

    def drawn(run: int) -> float:
        parts = groups(run)
        return np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))]).mean().item()

    means = [np.mean([drawn(run) for run in rng.integers(3, size=3)]) for _ in range(3000)]
    interval = bootstrap_over_seeds(values, names, num_samples=6000)
    assert interval.mean == pytest.approx(np.mean([row.mean() for row in values])), "every run counts alike"
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)


def test_runs_that_always_score_the_same_leave_no_doubt() -> None:
    names = list("aabb")
    assert bootstrap_over_seeds([[0.5] * 4] * 3, [names] * 3) == Interval(0.5, 0.5, 0.5)
    assert bootstrap_over_seeds([[0.2, 0.4]] * 2, [["a", "a"]] * 2) == Interval(*[pytest.approx(0.3)] * 3)


def test_the_spread_between_runs_widens_the_interval() -> None:
    """The same dialogues, and the same mean over all: four runs that agree, and four that do not."""
    values = np.random.default_rng(0).random(400)
    names = [[str(row) for row in range(400)]] * 4
    agree, spread = (
        bootstrap_over_seeds([values + shift for shift in shifts], names)
        for shifts in ([0.0] * 4, [-0.1, -0.05, 0.05, 0.1])
    )
    assert agree.mean == pytest.approx(spread.mean)
    assert spread.high - spread.low > 2 * (agree.high - agree.low)


def test_more_runs_narrow_the_interval() -> None:
    """Every run draws dialogues of its own: 16 times as many, a quarter of the width."""
    values, names = np.random.default_rng(0).random(200), [str(row) for row in range(200)]
    one, many = (bootstrap_over_seeds([values] * runs, [names] * runs, num_samples=4000) for runs in (1, 16))
    assert many.high - many.low == pytest.approx((one.high - one.low) / 4, rel=0.1)


def test_the_same_seed_gives_the_same_interval_over_seeds() -> None:
    values, names = [np.arange(6.0), np.arange(3.0)], [list("aabbcc"), list("abc")]
    assert bootstrap_over_seeds(values, names, seed=3) == bootstrap_over_seeds(values, names, seed=3)
    assert bootstrap_over_seeds(values, names, seed=3) != bootstrap_over_seeds(values, names, seed=4)


def test_a_lower_level_gives_a_narrower_interval() -> None:
    """By the normal distribution 1.645 and 1.960 deviations to either side, for 90 and for 95 %."""
    values, names = np.random.default_rng(0).random(400), [f"d{row}" for row in range(400)]
    for interval_of in (
        lambda level: bootstrap_mean(values, names, level=level),
        lambda level: bootstrap_over_seeds([values], [names], level=level),
    ):
        narrow, wide = interval_of(0.9), interval_of(0.95)
        assert (narrow.high - narrow.low) / (wide.high - wide.low) == pytest.approx(1.645 / 1.960, rel=0.08)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([], [], "values of 0 runs and names of 0; give both for every run"),
        ([[1.0]], [["a"], ["b"]], "values of 1 runs and names of 2"),
        ([[1.0], []], [["a"], []], "one per row"),
        ([[1.0], [1.0, 2.0]], [["a"], ["b"]], "1 dialogue names"),
        ([[1.0, np.nan]], [["a", "b"]], "value 1 is not finite"),
    ],
)
def test_runs_that_cannot_be_used(values: list, names: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_over_seeds(values, names)


# ---- Standard errors -------------------------------------------------------------------------------------------------


def test_the_standard_error_by_hand() -> None:
    """Rows 0, 1 | 1, 1, 1: mean 0.8; dialogue a is 0.6 below what its two rows would have, b 0.6 above."""
    error = standard_error([0, 1, 1, 1, 1], list("aabbb"))
    assert error == pytest.approx((2 * (0.6**2 + 0.6**2)) ** 0.5 / 5)


def test_the_standard_error_of_single_rows_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).random(30)
    names = [str(row) for row in range(30)]
    assert standard_error(values, names) == pytest.approx(values.std(ddof=1) / np.sqrt(30))


def test_the_standard_error_is_the_deviation_of_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    names = [f"d{i}" for i in rng.integers(0, 80, size=240)]
    values = rng.random(240) + np.array([int(name[1:]) % 3 for name in names])
    interval = bootstrap_mean(values, names, num_samples=8000, level=0.6827)
    assert standard_error(values, names) == pytest.approx((interval.high - interval.low) / 2, rel=0.05)


def test_one_dialogue_has_no_standard_error() -> None:
    with pytest.raises(ValueError, match="give at least two"):
        standard_error([0.0, 1.0], ["a", "a"])


def test_runs_on_the_same_dialogues_do_not_make_these_more() -> None:
    """Sixteen runs that score alike say of the dialogues what one of them says."""
    values = np.random.default_rng(0).random(40)
    names = [f"d{row // 2}" for row in range(40)]
    alone = bootstrap_mean(values, names, num_samples=4000)
    apart, together = (
        bootstrap_over_seeds([values] * 16, [names] * 16, num_samples=4000, same_dialogues=same)
        for same in (False, True)
    )
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.08)
    assert apart.high - apart.low == pytest.approx((alone.high - alone.low) / 4, rel=0.15)


def test_what_the_runs_differ_by_widens_the_interval_on_the_same_dialogues_too() -> None:
    values, names = np.tile([0.2, 0.4], 10), [str(row) for row in range(20)]
    narrow, wide = (
        bootstrap_over_seeds([values, values + shift], [names] * 2, same_dialogues=True) for shift in (0.0, 0.5)
    )
    assert wide.high - wide.low > 0.4 > narrow.high - narrow.low
    assert wide.mean == pytest.approx(0.55)


def test_other_dialogues_are_not_the_same() -> None:
    with pytest.raises(ValueError, match="different dialogues"):
        bootstrap_over_seeds([[0.1, 0.2], [0.1, 0.2]], [["a", "b"], ["a", "c"]], same_dialogues=True)
