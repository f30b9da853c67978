"""Stage 1 as a whole equals its steps one after the other, in every combination, and never looks where it must not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from catalog import Catalog
from rankrl.demonstrations import (
    Adjustment,
    BuildSettings,
    Candidates,
    Demonstrations,
    RawLists,
    build_demonstrations,
    reflect_scores,
    remap_candidates,
    remap_scores,
    top_items,
)
from rankrl.demonstrations.build import check_data, rated_items
from rankrl.teachers import Ratings
from rankrl.teachers.rating_statistics import rating_statistics

K, RATED = 4, 6
SETTINGS = BuildSettings(num_ranks=K, num_candidates=1000, num_rated=RATED, context_weight=0.7, rating_weight=0.4)


@dataclass
class World:
    """Random input of D dialogues, C titles and N items."""

    raw: RawLists
    titles: NDArray[np.float64]
    items: NDArray[np.float64]
    talks: NDArray[np.float64]
    opinions: NDArray[np.float64]
    seen: list[set[int]]
    truth: list[dict[int, float]]

    @classmethod
    def of(cls, seed: int, num_dialogues: int = 9, num_titles: int = 14, num_items: int = 20) -> World:
        rng = np.random.default_rng(seed)
        titles, items, talks = (
            (vectors := rng.normal(size=(number, 8))) / np.linalg.norm(vectors, axis=1, keepdims=True)
            for number in (num_titles, num_items, num_dialogues)
        )
        same = np.where(rng.random(num_titles) < 0.5, rng.permutation(num_items)[:num_titles], -1)
        ranks = rng.integers(num_titles, size=(num_dialogues, 5))
        ranks[rng.random(ranks.shape) < 0.2] = -1
        ranks[0] = -1  # an empty list
        return cls(
            RawLists([f"title {number}" for number in range(num_titles)], same, ranks, 0),
            *(titles, items, talks),
            rng.integers(-2, 3, size=(num_dialogues, num_items)).astype(np.float64),
            [set(rng.integers(num_items, size=rng.integers(4)).tolist()) for _ in range(num_dialogues)],
            [{int(item): 1.0 for item in rng.integers(num_items, size=2)} for _ in range(num_dialogues)],
        )

    def judge(self, rated: NDArray[np.int64]) -> Ratings:
        """Its opinions, but every third item of a dialogue stays unrated."""
        self.rated = rated
        values = [np.where(items % 3 == 0, np.nan, self.opinions[row, items]) for row, items in enumerate(rated)]
        statistics = rating_statistics([row[None] for row in values], [], {2: "", -2: ""}, ignored={}, silent=0)
        return Ratings(values, [[""] * len(row) for row in values], statistics)

    def build(self, settings: BuildSettings = SETTINGS, **changes: object) -> Demonstrations:
        given = {"seen": self.seen, "judge": self.judge, "truth": self.truth, **changes}
        return build_demonstrations(self.raw, self.titles, self.items, self.talks, settings, **given)  # type: ignore[arg-type]


def steps_by_hand(world: World, steps: tuple[str, ...], seen: list[set[int]] | None) -> dict[str, NDArray[np.int64]]:
    """The published functions on full `(D, N)` matrices."""
    pick = partial(top_items, num_ranks=K, exclude=seen)
    scores = remap_scores(
        world.raw.ranks, world.titles @ world.items.T, world.raw.same_item, world.talks @ world.items.T, 0.7
    )
    lists = {"remap": pick(scores)}
    if "reflect" in steps:
        ratings = np.full(scores.shape, np.nan)
        for row, items in enumerate(top_items(scores, RATED, seen)):
            for item in items:
                if item % 3:
                    ratings[row, item] = world.opinions[row, item]
        scores = reflect_scores(scores, ratings, 0.4)
        lists["reflect"] = pick(scores)
    if "adjust" in steps:
        lists["adjust"] = pick(Adjustment.fit(scores, world.truth).apply(scores))
    return lists


FEW = settings(max_examples=8)  # an example fits Adjust once or more
STEPS = [("remap",), ("remap", "reflect"), ("remap", "adjust"), ("remap", "reflect", "adjust")]


@pytest.mark.parametrize("steps", STEPS, ids="+".join)
@FEW
@given(seed=st.integers(0, 10**6), show_seen=st.booleans())
def test_the_whole_is_its_steps(steps: tuple[str, ...], seed: int, show_seen: bool) -> None:
    world = World.of(seed)
    seen = None if show_seen else world.seen
    built = world.build(replace(SETTINGS, steps=steps), seen=seen)
    expected = steps_by_hand(world, steps, seen)
    assert list(built.lists) == ["raw", *steps]
    for step, lists in expected.items():
        np.testing.assert_array_equal(built.lists[step], lists, err_msg=step)
    assert built.final is built.lists[steps[-1]]
    assert (built.ratings is not None) == ("reflect" in steps)
    assert (built.adjustment is not None) == ("adjust" in steps)


@FEW
@given(seed=st.integers(0, 10**6), num_candidates=st.sampled_from([14, 20, 1000]))
def test_seen_items_and_duplicates_are_never_listed(seed: int, num_candidates: int) -> None:
    world = World.of(seed)
    built = world.build(replace(SETTINGS, num_candidates=num_candidates))
    for step, lists in built.lists.items():
        if step != "raw":
            assert lists.shape == (9, K)
            for row, items in enumerate(lists.tolist()):
                assert len(set(items)) == K
                assert not set(items) & world.seen[row]
                assert set(items) <= set(range(20))
    for row, items in enumerate(world.rated.tolist()):
        assert not set(items) & world.seen[row], "nobody pays for the rating of what cannot be listed"


def test_seen_items_are_listed_where_that_is_wanted() -> None:
    world = World.of(0)
    everything = [set(row) for row in world.build(seen=None).lists["remap"].tolist()]
    without = world.build(seen=everything).lists["remap"]
    assert all(not seen & set(row) for seen, row in zip(everything, without.tolist(), strict=True))


def test_no_step_leaves_the_lists_as_they_are() -> None:
    world = World.of(1)
    built = world.build(replace(SETTINGS, steps=(), num_ranks=7), judge=None, truth=None)
    assert list(built.lists) == ["raw"]
    assert built.scores is built.ratings is built.adjustment is None
    assert built.final.shape == (9, 7)
    np.testing.assert_array_equal(built.final[:, :5], world.raw.items)
    assert (built.final[:, 5:] == -1).all()


def test_the_judge_rates_as_many_as_every_dialogue_has() -> None:
    world = World.of(2)
    world.seen[3] = set(range(15))
    world.build(replace(SETTINGS, num_rated=100))
    assert world.rated.shape == (9, 5)
    world.build(replace(SETTINGS, num_rated=3))
    assert world.rated.shape == (9, 3)


# Adjust: on whose truth


def test_adjust_learns_from_the_first_dialogues_only() -> None:
    world = World.of(3)
    before = world.build(replace(SETTINGS, adjust_on=5))
    world.truth[5:] = [{0: 1.0}] * 4
    after = world.build(replace(SETTINGS, adjust_on=5))
    np.testing.assert_array_equal(before.final, after.final)
    world.truth[4] = {item: 1.0 for item in range(6)}
    changed = world.build(replace(SETTINGS, adjust_on=5))
    assert before.scores is not None
    assert changed.scores is not None
    assert not np.allclose(before.scores.scores, changed.scores.scores)


@FEW
@given(seed=st.integers(0, 10**6), row=st.integers(0, 8), folds=st.integers(2, 4))
def test_folds_never_use_a_dialogues_own_truth(seed: int, row: int, folds: int) -> None:
    """Whatever one dialogue wants, its own scores stay; those of the other folds move."""
    world = World.of(seed)
    groups = [f"dialogue {number // 2}" for number in range(9)]  # rows 0 and 1 are one dialogue, ...
    build = partial(world.build, replace(SETTINGS, folds=folds), groups=groups)
    before = build().scores
    world.truth[row] = {item: 1.0 for item in range(20) if item not in world.truth[row]}
    after = build().scores
    assert before is not None
    assert after is not None

    own = row // 2 % folds
    same_fold = np.array([number // 2 % folds == own for number in range(9)])
    np.testing.assert_array_equal(before.scores[same_fold], after.scores[same_fold])
    assert (before.scores[~same_fold] != after.scores[~same_fold]).any(axis=1).all()


def test_a_fold_is_adjusted_by_the_fit_of_the_others() -> None:
    world = World.of(4)
    built = world.build(replace(SETTINGS, folds=3))
    assert built.reflected is not None
    assert built.scores is not None
    scores = built.reflected.to_csr().toarray()
    for fold in range(3):
        inside = np.arange(9) % 3 == fold
        others = [truth for truth, held in zip(world.truth, inside, strict=True) if not held]
        expected = Adjustment.fit(scores[~inside], others).apply(scores[inside])
        np.testing.assert_allclose(built.scores.scores[inside], expected, atol=1e-9)


def test_a_saved_adjustment_is_used_again(tmp_path: Path) -> None:
    world, other = World.of(5), World.of(6)
    catalog = Catalog([(f"Film {number}", 1990) for number in range(20)])
    learned = world.build().adjustment
    assert learned is not None
    learned.save(tmp_path / "adjustment.npz", catalog)
    loaded = Adjustment.load(tmp_path / "adjustment.npz", catalog)

    built = other.build(adjustment=loaded, truth=None)
    assert built.adjustment is loaded
    assert built.reflected is not None
    np.testing.assert_array_equal(built.final, top_items(learned.apply(built.reflected), K, other.seen))
    assert (built.final != other.build().final).any()


# Errors


@pytest.mark.parametrize("steps", [("adjust",), ("reflect", "remap"), ("remap", "remap"), ("remap", "judge"), ("",)])
def test_steps_in_another_order_or_of_other_names(steps: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"steps are \[.*expected 'remap', then any of 'reflect' and 'adjust'"):
        BuildSettings(steps=steps)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="give either folds or adjust_on"):
        BuildSettings(folds=2, adjust_on=10)
    with pytest.raises(ValueError, match="adjust_on is 0; expected at least 1"):
        BuildSettings(adjust_on=0)
    world = World.of(7)
    with pytest.raises(ValueError, match="folds fit new ones"):
        world.build(replace(SETTINGS, folds=2), adjustment=Adjustment(np.ones(20), np.zeros(20)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_ranks", 0), ("num_candidates", 19), ("num_rated", 0), ("folds", -1), ("regularization", 0.0)),
        *((name, value) for name in ("context_weight", "rating_weight") for value in (-0.1, np.nan, np.inf)),
        *(("regularization", np.nan), ("regularization", np.inf)),
    ],
)
def test_numbers_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; expected "):
        BuildSettings(**{name: value})  # type: ignore[arg-type]


def test_without_steps_only_the_lists_have_to_fit() -> None:
    settings = BuildSettings(steps=(), num_ranks=30, num_candidates=1)
    check_data(settings, num_items=20, num_titles=40, seen=[set(range(19))], truth=[{}])


def test_whoever_may_list_mentioned_items_has_all_of_them() -> None:
    settings = BuildSettings(steps=("remap",), num_ranks=20)
    check_data(settings, num_items=20, num_titles=40, seen=None, truth=None)
    with pytest.raises(ValueError, match="dialogue 1 mentions 1 of the catalogue's 20 items"):
        check_data(settings, num_items=20, num_titles=40, seen=[{-1}, {-1, 3}, {4}], truth=None)


def test_a_step_without_what_it_needs() -> None:
    world = World.of(7)
    with pytest.raises(ValueError, match=r"Reflect needs a judge; .*steps remap,adjust"):
        world.build(judge=None)
    with pytest.raises(ValueError, match=r"Adjust needs the truth.*steps remap,reflect"):
        world.build(truth=None)
    world.build(replace(SETTINGS, steps=("remap",)), judge=None, truth=None)


def test_too_few_dialogues_for_the_folds() -> None:
    with pytest.raises(ValueError, match="3 dialogues cannot be split into 4 folds; lower folds"):
        World.of(7).build(replace(SETTINGS, folds=4), groups=["a", "b", "c"] * 3)


def test_a_dialogue_that_has_seen_nearly_everything() -> None:
    world = World.of(8)
    world.seen[2] = set(range(17))
    with pytest.raises(ValueError, match="dialogue 2 has 3 items left to list, but num_ranks is 4"):
        world.build()


def test_only_empty_lists() -> None:
    world = World.of(9)
    world.raw = replace(world.raw, ranks=np.full((9, 5), -1))
    with pytest.raises(ValueError, match="all 9 raw lists are empty"):
        world.build()


def test_what_fewer_candidates_cost_is_measured_against_all_items() -> None:
    world = World.of(3)
    assert world.build().overlap is None, "all items were candidates"
    few = world.build(replace(SETTINGS, num_candidates=10))
    exact = remap_candidates(
        world.raw.ranks, world.titles, world.raw.same_item, world.items, world.talks, num_candidates=20, weight=0.7
    )
    exact = reflect_scores(exact, np.stack(world.judge(world.rated).values), 0.4, items=world.rated)
    assert few.adjustment is not None
    wanted = top_items(few.adjustment.apply(exact), K, world.seen)
    shared = [len(set(mine) & set(best)) for mine, best in zip(few.final.tolist(), wanted.tolist(), strict=True)]
    assert few.overlap == pytest.approx(sum(shared) / wanted.size)
    assert 0 < few.overlap < 1


def test_a_shard_rates_what_its_own_dialogues_have_not_seen() -> None:
    scores = Candidates(np.array([[0, 1, 2]]), np.array([[3.0, 2.0, 1.0]]), 3)
    assert rated_items(scores, 2, [[0], [1]], slice(1, 2)).tolist() == [[0, 2]]
