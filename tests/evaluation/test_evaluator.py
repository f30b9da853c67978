"""Scores of a few hand-worked lists, and that both roads (texts, ids) lead to the same numbers."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from catalog import Catalog
from rankrl.data import Dialogue, load_dialogues
from rankrl.evaluation import Example, Scores, evaluate, evaluate_ranked, mark_list
from rankrl.metrics import Popularity

DISCOUNT = 1 / np.log2(np.arange(2, 12))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog([(title, 2000) for title in "ABCDEFGH"])


def dialogue(row_id: str, truth: list[str], seen: tuple[str, ...] = ()) -> Dialogue:
    return Dialogue(
        row_id,
        [{"role": "user", "content": "A film?"}],
        [(title, 2000) for title in seen],
        [(title, 2000) for title in truth],
    )


def text(*titles: str) -> str:
    return "\n".join(f"{title} (2000)" for title in titles)


def test_hand_worked(catalog: Catalog) -> None:
    dialogues = [dialogue("s:1:0", ["B", "C"], seen=("A",)), dialogue("s:1:2", ["D"]), dialogue("s:2:0", ["H"])]
    texts = [text("A", "X", "B", "B", "E"), text("D", "E"), ""]

    scores = evaluate(texts, dialogues, catalog, num_ranks=5, ks=(1, 2, 5, 20))

    ideal = DISCOUNT[:2].sum()
    np.testing.assert_allclose(scores.rows["ndcg@5"], [DISCOUNT[0] / ideal, 1, 0])  # served: B is shown first
    np.testing.assert_allclose(scores.rows["strict_ndcg@5"], [DISCOUNT[2] / ideal, 1, 0])  # strict: it is third
    np.testing.assert_allclose(scores.rows["recall@1"], [0.5, 1, 0])
    np.testing.assert_allclose(scores.rows["strict_recall@2"], [0, 1, 0])
    np.testing.assert_allclose(scores.rows["mrr"], [1, 1, 0])
    np.testing.assert_allclose(scores.rows["in_catalog"], [4 / 5, 1, 0])
    np.testing.assert_allclose(scores.rows["repeats"], [1 / 4, 0, 0])
    np.testing.assert_allclose(scores.rows["lines"], [5, 2, 0])
    assert scores.totals == {"coverage@1": 2 / 8, "coverage@2": 3 / 8, "coverage@5": 3 / 8}
    assert "ndcg@20" not in scores.rows  # above K
    np.testing.assert_allclose(scores.hit_rate_by_rank, [1 / 3, 0, 1 / 3, 0, 0])
    assert scores.dialogues == ["s:1", "s:1", "s:2"]
    assert scores.summary()["recall@5"] == pytest.approx(0.5)


def test_ids_and_texts_give_the_same_scores(catalog: Catalog) -> None:
    dialogues = [dialogue(f"s:{row}:0", ["C"], seen=("B",)) for row in range(3)]
    texts = [text("B", "C", "D"), text("C", "C", "A"), text("H", "G", "F")]
    by_text = evaluate(texts, dialogues, catalog, num_ranks=3)
    by_id = evaluate_ranked(
        [[1, 2, 3], [2, 2, 0], [7, 6, 5]],
        [{2: 1.0}] * 3,
        ids=[row.id for row in dialogues],
        num_items=8,
        seen=[[1]] * 3,
    )
    assert by_text.summary() == by_id.summary()
    assert list(by_text.rows) == list(by_id.rows)
    assert "ndcg@3" in by_id.rows  # no cut of the default ones fits three ranks, so K itself


def test_intervals_and_differences(catalog: Catalog) -> None:
    dialogues = [dialogue(f"s:{row}:0", ["C"]) for row in range(40)]
    good = evaluate([text("C")] * 30 + [text("A")] * 10, dialogues, catalog, num_ranks=5)
    bad = evaluate([text("C")] * 10 + [text("A")] * 30, dialogues, catalog, num_ranks=5)
    interval = good.intervals()["ndcg@5"]
    assert interval.low < interval.mean == 0.75 < interval.high
    assert good.intervals(seed=1) == good.intervals(seed=1)
    difference = good.differences(bad)["ndcg@5"]
    assert 0 < difference.low < difference.mean == 0.5
    for scored, further in ((good.intervals, []), (good.differences, [bad])):
        wide, narrow = (scored(*further, level=level)["ndcg@5"] for level in (0.95, 0.5))
        assert wide.low < narrow.low < narrow.high < wide.high
    with pytest.raises(ValueError, match="different rows"):
        good.differences(Scores(("x",), bad.rows, bad.totals, bad.hit_rate_by_rank))


def test_turns_of_one_dialogue_make_a_mean_no_surer(catalog: Catalog) -> None:
    """Ten turns each of four dialogues, alike within a dialogue, are as sure as one turn of each."""
    several, single = (
        evaluate(
            [text("C" if number % 2 else "A") for number in range(4) for _ in range(turns)],
            [dialogue(f"s:{number}:{turn}", ["C"]) for number in range(4) for turn in range(turns)],
            catalog,
            num_ranks=5,
        )
        for turns in (10, 1)
    )
    assert several.intervals()["ndcg@5"] == single.intervals()["ndcg@5"]
    nothing = Scores(several.ids, {"ndcg@5": np.zeros(40)}, {}, np.zeros(5))
    assert several.differences(nothing)["ndcg@5"] == single.intervals()["ndcg@5"]


# ---- Popularity ------------------------------------------------------------------------------------------------------

# A is the head, B to H the tail; percentiles by counts 8, 1, 1, 0, 0, 0, 0, 0.
POPULARITY = Popularity.of([{0: 1.0}] * 8 + [{1: 1.0}, {2: 1.0}], 8)


def test_popularity_by_hand(catalog: Catalog) -> None:
    dialogues = [dialogue("s:1:0", ["A", "B"]), dialogue("s:1:2", ["A"]), dialogue("s:2:0", ["C", "H"], seen=("A",))]
    texts = [text("A", "B"), "", text("A", "C", "C", "D")]

    scores = evaluate(texts, dialogues, catalog, num_ranks=4, ks=(1, 2), popularity=POPULARITY)

    nan = np.nan
    np.testing.assert_allclose(scores.rows["tail@1"], [0, nan, 1])  # served: the third row is shown C and D
    np.testing.assert_allclose(scores.rows["tail@2"], [0.5, nan, 1])
    np.testing.assert_allclose(scores.rows["popularity@2"], [(7.5 + 6) / 16, nan, (6 + 2.5) / 16])
    np.testing.assert_allclose(scores.rows["tail_recall@1"], [0, nan, 0.5])
    np.testing.assert_allclose(scores.rows["tail_recall@2"], [1, nan, 0.5])
    summary, intervals = scores.summary(), scores.intervals()
    assert summary["tail@2"] == intervals["tail@2"].mean == pytest.approx(0.75)
    assert summary["tail_recall@2"] == intervals["tail_recall@2"].mean == pytest.approx(0.75)
    assert intervals["tail_recall@2"].low == 0.5
    assert intervals["tail_recall@2"].high == 1.0
    assert np.isfinite([*summary.values()]).all()
    without = evaluate(texts, dialogues, catalog, num_ranks=4, ks=(1, 2))
    assert set(scores.rows) - set(without.rows) == {
        f"{m}@{k}" for m in ("tail", "popularity", "tail_recall") for k in (1, 2)
    }
    for metric, values in without.rows.items():
        np.testing.assert_array_equal(scores.rows[metric], values)


def test_differences_are_over_rows_that_have_a_value_in_both_systems(catalog: Catalog) -> None:
    dialogues = [dialogue(f"s:{row}:0", ["A"]) for row in range(4)]
    one, other = (
        evaluate(texts, dialogues, catalog, num_ranks=2, ks=(2,), popularity=POPULARITY)
        for texts in (
            [text("B"), text("B"), text("A", "B"), ""],
            [text("A"), "", text("A"), text("H")],
        )
    )
    differences = one.differences(other)
    assert differences["tail@2"].mean == pytest.approx((1 + 0.5) / 2)  # rows 0 and 2
    assert differences["tail@2"].low == 0.5
    assert differences["ndcg@2"].mean == -1 / 4
    assert "tail_recall@2" not in differences  # nobody wants anything of the tail
    assert "tail_recall@2" not in one.summary()
    assert "tail_recall@2" not in one.intervals()
    plain = evaluate([text("A")] * 4, dialogues, catalog, num_ranks=2, ks=(2,))
    assert "tail@2" not in one.differences(plain)


def test_a_hole_in_another_metric_is_an_error() -> None:
    scores = Scores(("a", "b"), {"ndcg@10": np.array([np.nan, 1.0])}, {}, np.zeros(1))
    with pytest.raises(ValueError, match="not finite"):
        scores.intervals()


def test_popularity_of_another_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="popularity is known of 8 items, but the catalogue has 3"):
        evaluate_ranked([[0]], [{0: 1.0}], ids=["a"], num_items=3, popularity=POPULARITY)


def test_rows_without_a_known_truth_are_left_out_aloud(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    dialogues = [dialogue("s:1:0", ["A"]), dialogue("s:2:0", ["Nowhere"])]
    with caplog.at_level(logging.WARNING):
        scores = evaluate([text("A")] * 2, dialogues, catalog, num_ranks=5)
    assert scores.ids == ("s:1:0",)
    assert "1 of 2 rows want nothing that is in the catalogue" in caplog.text
    assert "s:2:0" in caplog.text
    with pytest.raises(ValueError, match="nothing to score"):
        evaluate_ranked([[0]], [{}], ids=["s:1:0"], num_items=8)


def test_what_was_seen_stays_with_its_row_where_another_is_left_out() -> None:
    scores = evaluate_ranked(
        [[0, -1], [0, 1], [1, 2]], [{}, {1: 1.0}, {1: 1.0}], ids=["a", "b", "c"], num_items=3, seen=[[1], [0], []]
    )
    assert scores.ids == ("b", "c")
    assert scores.rows["mrr"].tolist() == [1.0, 1.0], "item 0 was seen by the user of b, item 1 by nobody who counts"
    assert scores.rows["lines"].tolist() == [2.0, 2.0]


def test_lines_beyond_the_last_rank_are_not_looked_at(catalog: Catalog) -> None:
    scores = evaluate([text("B", "Nowhere", "A", "B")], [dialogue("s:1:0", ["A"])], catalog, num_ranks=2)
    assert [scores.rows[name].tolist() for name in ("lines", "in_catalog", "repeats", "mrr")] == [[2], [0.5], [0], [0]]


def test_the_truth_may_miss_the_year_and_be_unknown_as_far_as_is_allowed(catalog: Catalog) -> None:
    rows = [Dialogue(f"s:{year}:0", [{"role": "user", "content": "?"}], [], [("A", year)]) for year in (2000, 2001)]
    texts = [text("A")] * 2
    assert evaluate(texts, rows, catalog, num_ranks=2).ids == ("s:2000:0",)
    assert evaluate(texts, rows, catalog, num_ranks=2, year_tolerance=1).ids == ("s:2000:0", "s:2001:0")
    with pytest.raises(ValueError, match=r"more than unknown_limit=0.4 allows"):
        evaluate(texts, rows, catalog, num_ranks=2, unknown_limit=0.4)


def test_wanted_items_that_were_seen_are_said_aloud(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    evaluate([text("A")], [dialogue("s:1:0", ["A", "B"], seen=("A",))], catalog, num_ranks=5)
    assert "1 of 2 wanted items are in their row's `seen`" in caplog.text


def test_one_text_per_row(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="2 texts for 1 dialogues"):
        evaluate(["", ""], [dialogue("s:1:0", ["A"])], catalog)
    with pytest.raises(ValueError, match="1 rows of truth for 2 ids"):
        evaluate_ranked([[0], [1]], [{0: 1.0}], ids=["a", "b"], num_items=8)


def test_fuzzy_matches_count_only_when_asked() -> None:
    catalog = Catalog([("Spirited Away", 2001), ("The Godfather", 1972)])
    row = Dialogue("s:1:0", [{"role": "user", "content": "?"}], [], [("Spirited Away", 2001)])
    assert evaluate(["Spirited Awey (2001)"], [row], catalog, num_ranks=1).summary()["ndcg@1"] == 0
    assert evaluate(["Spirited Awey (2001)"], [row], catalog, num_ranks=1, min_score=85).summary()["ndcg@1"] == 1


def test_a_marked_list_says_what_became_of_each_line(catalog: Catalog) -> None:
    lines = mark_list("Sure:\n\n" + text("A", "B", "A", "X", "C", "D"), catalog, truth={1}, seen={2}, num_ranks=6)
    assert [line.status for line in lines] == ["unknown", "miss", "hit", "repeat", "unknown", "seen"]
    assert [line.text for line in lines][:3] == ["Sure:", "A (2000)", "B (2000)"]


def test_an_example_holds_each_systems_list(catalog: Catalog) -> None:
    example = Example.of(dialogue("s:1:0", ["B"]), {"sft": text("A"), "rank_grpo": text("B")}, catalog)
    assert example.truth == ["B (2000)"]
    assert {name: [line.status for line in lines] for name, lines in example.lists.items()} == {
        "sft": ["miss"],
        "rank_grpo": ["hit"],
    }


@pytest.mark.real_data
def test_the_truth_itself_is_the_best_list_on_real_rows(real_data: Path) -> None:
    catalog = Catalog.load(real_data / "redial" / "catalog.jsonl")
    dialogues = load_dialogues(real_data / "redial" / "test.jsonl")[:400]
    texts = ["\n".join(catalog.lines[catalog.resolve(item)] for item in row.ground_truth) for row in dialogues]
    unseen = [Dialogue(row.id, row.messages, [], row.ground_truth) for row in dialogues]
    best = evaluate(texts, unseen, catalog).summary()
    assert best["ndcg@10"] == best["strict_ndcg@10"] == best["recall@20"] == best["in_catalog"] == 1
    assert evaluate(texts, dialogues, catalog).summary()["ndcg@10"] < 1  # a tenth was mentioned before
