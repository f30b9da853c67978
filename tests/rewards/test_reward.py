"""`RankReward` from text to rewards: hand-worked lists, bad columns, and what it says aloud."""

from __future__ import annotations

import logging
import math
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from catalog import Catalog, Item
from rankrl.data import load_dialogues
from rankrl.rewards import LabelSchedule, LabelWeights, RankReward

TRUTH = [[{"id": None, "title": "Up", "year": 2009, "gain": 1.0}, {"title": "Ran", "year": 1985, "gain": 0.5}]]
AUGMENTED = [[{"title": "Heat", "year": 1995, "gain": 0.8}, {"title": "Ran", "year": 1985, "gain": 1.0}]]
LIST = "Heat (1995)\nUp (2009)\nNo such film (1990)\nUp (2009)\nRan (1985)"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog([("Heat", 1995), ("Up", 2009), ("Ran", 1985), ("The Godfather", 1972), ("Spirited Away", 2001)])


def test_hand_worked(catalog: Catalog) -> None:
    assert RankReward(catalog, 6)(completions=[LIST], ground_truth=TRUTH) == [[0, 1, 0, 0, 0.5, 0]]
    assert RankReward(catalog, 4)(completions=[LIST], ground_truth=TRUTH) == [[0, 1, 0, 0]]
    assert RankReward(catalog, 5, gamma=2.0)(completions=[LIST], ground_truth=TRUTH) == [
        [0.53125, 1.0625, 0.125, 0.25, 0.5]
    ]
    whole = {"completions": [LIST], "ground_truth": TRUTH}
    assert (
        RankReward(catalog, 5, per_rank=False)(**whole)
        == RankReward(catalog, 5, gamma=2.0, per_rank=False)(**whole)
        == [1.5]
    )
    (dcg,) = RankReward(catalog, 5, kind="log", per_rank=False)(**whole)
    assert dcg == pytest.approx(1 / math.log2(3) + 0.5 / math.log2(6))


def test_a_line_that_names_nothing_keeps_its_rank(catalog: Catalog) -> None:
    """Dropping unparsable lines is how the official code shifts every later reward a rank up."""
    reward = RankReward(catalog, 3)
    with_preamble = reward(completions=["Here is my list:\n\nUp (2009)"], ground_truth=TRUTH)
    assert with_preamble == [[0, 1, 0]]


def test_conversations_and_texts_earn_the_same(catalog: Catalog) -> None:
    reward = RankReward(catalog, 5)
    conversation = [[{"role": "assistant", "content": LIST}]]
    assert reward(completions=conversation, ground_truth=TRUTH) == reward(completions=[LIST], ground_truth=TRUTH)


def test_seen_items_earn_nothing(catalog: Catalog) -> None:
    reward = RankReward(catalog, 5)
    assert reward(completions=[LIST], ground_truth=TRUTH, seen=[["Up (2009)", ["Marvel", None]]]) == [[0, 0, 0, 0, 0.5]]
    assert reward(completions=[LIST], ground_truth=TRUTH, seen=[None]) == [[0, 1, 0, 0, 0.5]]


def test_scores_hold_what_the_rewards_come_from(catalog: Catalog) -> None:
    reward = RankReward(catalog, 5, kind="log")
    assert reward.last_scores is None
    scores = reward.score([LIST], TRUTH)
    assert scores.ranked.tolist() == [[0, 1, -1, 1, 2]]
    assert scores.relevance.tolist() == [[0, 1, 0, 0, 0.5]]
    assert scores.returns.tolist() == reward(completions=[LIST], ground_truth=TRUTH)
    assert not scores.fuzzy.any()
    assert reward.last_scores is not None


def test_fuzzy_matches_pay_only_when_asked_and_the_log_says_how_much(catalog: Catalog) -> None:
    text, truth = "Spirited Awey (2001)\nThe Godfather (1972)", [["Spirited Away (2001)", "The Godfather (1972)"]]
    logged: dict[str, float] = {}
    exact, fuzzy = RankReward(catalog, 2), RankReward(catalog, 2, min_score=85.0)

    assert exact(completions=[text], ground_truth=truth, log_metric=logged.__setitem__) == [[0, 1]]
    assert logged == {}
    assert fuzzy(completions=[text], ground_truth=truth, log_metric=logged.__setitem__) == [[1, 1]]
    assert logged == {"rank_reward/fuzzy_share": 0.5}
    assert fuzzy.score([text], truth).fuzzy.tolist() == [[True, False]]
    unequal = fuzzy.score([text], [[{"title": "Spirited Away", "year": 2001, "gain": 0.25}, ["The Godfather", 1972]]])
    assert unequal.fuzzy_share == 0.2, "0.25 of 1.25: a share of what was earned, not of the ranks"
    fuzzy(completions=["nothing"], ground_truth=truth, log_metric=logged.__setitem__)
    assert logged == {"rank_reward/fuzzy_share": 0.0}


def test_further_columns_are_taken_and_the_reward_has_a_name(catalog: Catalog) -> None:
    reward = RankReward(catalog, 5)
    columns = {"prompts": ["?"], "completion_ids": [[1]], "trainer_state": None, "domain": ["movie"]}
    assert reward(completions=[LIST], ground_truth=TRUTH, **columns) == [[0, 1, 0, 0, 0.5]]
    assert reward.__name__ == "rank_reward"
    assert pickle.loads(pickle.dumps(reward))(completions=[LIST], ground_truth=TRUTH) == [[0, 1, 0, 0, 0.5]]


def test_a_missing_ground_truth_names_the_columns_there_are(catalog: Catalog) -> None:
    with pytest.raises(TypeError, match=r"`ground_truth`.*\['prompts', 'solution'\].*rename_column"):
        RankReward(catalog)(completions=[LIST], prompts=["?"], solution=["Up"])


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"completions": [LIST, LIST], "ground_truth": TRUTH}, ValueError, "ground_truth has 1 rows for 2 completions"),
        ({"completions": [LIST], "ground_truth": TRUTH, "seen": []}, ValueError, "seen has 0 rows for 1"),
        ({"completions": [LIST], "ground_truth": [[]]}, ValueError, "ground_truth of row 0 is empty"),
        (
            {"completions": [LIST] * 32, "ground_truth": [[["Nowhere", year]] for year in range(32)]},
            *(ValueError, "32 of 32 .*Every reward would be zero"),
        ),
        ({"completions": [3], "ground_truth": TRUTH}, TypeError, "a completion is 3; expected a text"),
        ({"completions": [[{"role": "assistant"}]], "ground_truth": TRUTH}, TypeError, "expected a text"),
    ],
)
def test_bad_columns(catalog: Catalog, columns: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RankReward(catalog)(**columns)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_ranks": 0}, "num_ranks is 0"),
        ({"kind": "linear"}, "'linear'"),
        ({"gamma": 1.0}, "above 1"),
        ({"unknown_limit": 2.0}, "unknown_limit is 2.0"),
    ],
)
def test_bad_settings(catalog: Catalog, setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankReward(catalog, **setting)


def test_a_reward_that_stays_zero_is_said_aloud_once(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    reward = RankReward(catalog, 2)
    for _ in range(120):
        reward(completions=["I like films."], ground_truth=TRUTH)
    (message,) = caplog.messages
    assert "No list has earned anything in the last 50 batches" in message
    assert "begins 'I like films.'" in message


def test_one_reward_in_between_breaks_the_silence(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    reward = RankReward(catalog, 2)
    for text in [*["I like films."] * 49, "Up (2009)"] * 3:
        reward(completions=[text], ground_truth=TRUTH)
    assert not caplog.messages, "never 50 batches in a row"


def test_truth_that_was_all_seen_is_said_aloud_once(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    reward = RankReward(catalog, 2)
    for _ in range(3):
        reward(completions=[LIST, LIST], ground_truth=TRUTH * 2, seen=[["Up (2009)", "Ran (1985)"], []])
    (message,) = caplog.messages
    assert "1 of 2 rows want only items that are in their `seen`" in message


def test_two_keys_for_one_title_are_paid_by_key() -> None:
    catalog = Catalog([Item("Heat", 1995, "a"), Item("Heat", 1986, "b")])
    reward = RankReward(catalog, 2)
    assert reward(completions=["Heat (1986)\nHeat (1995)"], ground_truth=[[{"id": "a"}]]) == [[0, 1]]


# ---- Augmented labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "relevance", "augmented"),
    [
        ((1.0, 0.0), [0, 1, 0, 0, 0.5], [0, 0, 0, 0, 0]),
        ((1.0, 0.5), [0.4, 1, 0, 0, 0.5], [0.4, 0, 0, 0, 0]),  # Ran: a true label pays as much
        ((1.0, 1.0), [0.8, 1, 0, 0, 1.0], [0.8, 0, 0, 0, 1.0]),
        ((0.0, 0.5), [0.4, 0, 0, 0, 0.5], [0.4, 0, 0, 0, 0.5]),
    ],
)
def test_augmented_labels_by_hand(catalog: Catalog, weights: tuple, relevance: list, augmented: list) -> None:
    scores = RankReward(catalog, 5).score([LIST], TRUTH, augmented=AUGMENTED, weights=LabelWeights(*weights))
    assert scores.relevance.tolist() == scores.returns.tolist() == [relevance]
    assert scores.augmented.tolist() == [augmented]
    assert scores.hits.tolist() == [[False, True, False, False, True]], "hits are what the user wanted, whatever counts"


def test_the_return_is_that_of_the_blended_relevance(catalog: Catalog) -> None:
    reward = RankReward(catalog, 2, gamma=2.0, labels=LabelSchedule(0.5))
    assert reward(completions=[LIST], ground_truth=TRUTH, augmented=AUGMENTED) == [[0.4 + 1 / 2, 1.0]]
    summed = RankReward(catalog, 5, per_rank=False, labels=LabelSchedule(0.5))
    assert summed(completions=[LIST], ground_truth=TRUTH, augmented=AUGMENTED) == [pytest.approx(0.4 + 1 + 0.5)]


def test_augmented_labels_do_not_count_unless_asked(catalog: Catalog) -> None:
    reward = RankReward(catalog, 5)
    assert reward(completions=[LIST], ground_truth=TRUTH, augmented=AUGMENTED) == [[0, 1, 0, 0, 0.5]]
    assert reward(completions=[LIST], ground_truth=TRUTH, augmented=[[["Nowhere", 1999]]]) == [[0, 1, 0, 0, 0.5]]


def test_rows_without_augmented_labels_earn_by_their_truth(catalog: Catalog) -> None:
    reward = RankReward(catalog, 5, labels=LabelSchedule(0.5))
    rewards = reward(completions=[LIST] * 3, ground_truth=TRUTH * 3, augmented=[None, [], *AUGMENTED])
    assert rewards == [[0, 1, 0, 0, 0.5], [0, 1, 0, 0, 0.5], [0.4, 1, 0, 0, 0.5]]
    nobody = RankReward(catalog, 5).score([LIST], TRUTH, weights=LabelWeights(0.0, 1.0))
    assert not nobody.relevance.any()
    assert not nobody.augmented.any()


def test_augmented_items_that_were_seen_or_repeated_earn_nothing(catalog: Catalog) -> None:
    reward = RankReward(catalog, 5, labels=LabelSchedule(1.0))
    text = "Heat (1995)\nHeat (1995)\nRan (1985)"
    assert reward(completions=[text], ground_truth=TRUTH, augmented=AUGMENTED) == [[0.8, 0, 1, 0, 0]]
    assert reward(completions=[text], ground_truth=TRUTH, augmented=AUGMENTED, seen=[["Heat (1995)"]]) == [
        [0, 0, 1, 0, 0]
    ]
    assert reward.last_scores is not None
    assert reward.last_scores.augmented.tolist() == [[0, 0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (LabelSchedule(1.0, "linear"), 0, [0.8, 1, 0, 0, 1.0]),
        (LabelSchedule(1.0, "linear"), 5, [0.4, 1, 0, 0, 0.5]),
        (LabelSchedule(1.0, "linear"), 10, [0, 1, 0, 0, 0.5]),
        (LabelSchedule(1.0, "linear"), 11, [0, 1, 0, 0, 0.5]),  # past the end is the end
        (LabelSchedule(1.0, "two_stage", 0.3), 2, [0.8, 0, 0, 0, 1.0]),
        (LabelSchedule(1.0, "two_stage", 0.3), 3, [0, 1, 0, 0, 0.5]),
        (LabelSchedule(1.0, "augmented_only"), None, [0.8, 0, 0, 0, 1.0]),
    ],
)
def test_labels_change_with_the_state_of_the_training(
    catalog: Catalog, schedule: LabelSchedule, step: int | None, expected: list[float]
) -> None:
    state = None if step is None else SimpleNamespace(global_step=step, max_steps=10)
    reward = RankReward(catalog, 5, labels=schedule)
    assert reward(completions=[LIST], ground_truth=TRUTH, augmented=AUGMENTED, trainer_state=state) == [expected]


@pytest.mark.parametrize("state", [None, SimpleNamespace(global_step=0, max_steps=0), SimpleNamespace(global_step=0)])
def test_labels_that_change_need_the_state_of_the_training(catalog: Catalog, state: object) -> None:
    reward = RankReward(catalog, 5, labels=LabelSchedule(0.5, "linear"))
    with pytest.raises(TypeError, match=r"call it with trainer_state.*global_step and max_steps"):
        reward(completions=[LIST], ground_truth=TRUTH, augmented=AUGMENTED, trainer_state=state)


def test_a_missing_augmented_column_is_an_error_only_where_it_counts(catalog: Catalog) -> None:
    with pytest.raises(TypeError, match=r"weight 0\.5.*no column `augmented`; the others are \['prompts'\]"):
        RankReward(catalog, 5, labels=LabelSchedule(0.5))(completions=[LIST], ground_truth=TRUTH, prompts=["?"])
    with pytest.raises(ValueError, match="augmented has 2 rows for 1 completions"):
        RankReward(catalog, 5)(completions=[LIST], ground_truth=TRUTH, augmented=AUGMENTED * 2)


def test_unknown_augmented_items_are_reported_under_their_own_name(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    reward = RankReward(catalog, 5, labels=LabelSchedule(0.5))
    with caplog.at_level(logging.WARNING):
        reward(completions=[LIST], ground_truth=TRUTH, augmented=[[*AUGMENTED[0], ["Nowhere", 1999]]])
    (message,) = caplog.messages
    assert "1 of 3 distinct augmented items" in message
    assert "'Nowhere (1999)'" in message


def test_the_labels_of_a_data_set_are_checked_before_training(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    counting = RankReward(catalog, 5, labels=LabelSchedule(0.5), unknown_limit=0.4)
    for augmented in (None, [], [None, []]):
        with pytest.raises(ValueError, match="none of the 2 rows has any"):
            counting.check_truth(TRUTH * 2, augmented)
    with pytest.raises(ValueError, match="1 of 2 distinct augmented items"):
        RankReward(catalog, 5, labels=LabelSchedule(0.5), unknown_limit=0.4).check_truth(
            TRUTH, [["Heat (1995)", ["Nowhere", 1999]]]
        )
    counting.check_truth(TRUTH * 2, [None, *AUGMENTED])
    RankReward(catalog, 5).check_truth(TRUTH, None)
    RankReward(catalog, 5).check_truth(TRUTH, [[["Nowhere", 1999]]])  # it does not count
    assert not caplog.messages


# ---- Weights of items ------------------------------------------------------------------------------------------------


def test_item_weights_scale_what_a_hit_is_worth(catalog: Catalog) -> None:
    worth = [0.5, 0.25, 1.0, 1.0, 1.0]  # Heat, Up, Ran, ...
    reward = RankReward(catalog, 5, gamma=2.0, item_weights=worth)
    scores = reward.score([LIST], TRUTH, augmented=AUGMENTED, weights=LabelWeights(1.0, 0.5))
    assert scores.relevance.tolist() == [[0.2, 0.25, 0, 0, 0.5]]
    assert scores.augmented.tolist() == [[0.2, 0, 0, 0, 0]]
    assert scores.hits.tolist() == [[False, True, False, False, True]]
    assert scores.returns.tolist() == [pytest.approx([0.35625, 0.3125, 0.125, 0.25, 0.5])]
    last_item_weighs = RankReward(catalog, 1, item_weights=[1, 1, 1, 1, 0.5])
    assert last_item_weighs(completions=["No such film (1990)"], ground_truth=TRUTH) == [[0.0]]  # id -1


@pytest.mark.parametrize("weights", [[1.0] * 4, [0.0] + [1.0] * 4, [1.5] + [1.0] * 4, [math.nan] + [1.0] * 4, 1.0])
def test_bad_item_weights(catalog: Catalog, weights: object) -> None:
    with pytest.raises(ValueError, match=r"one weight in \(0, 1\] for each of the 5 items"):
        RankReward(catalog, 5, item_weights=weights)  # type: ignore[arg-type]


def test_equal_item_weights_change_nothing(catalog: Catalog) -> None:
    plain, weighted = RankReward(catalog, 5), RankReward(catalog, 5, item_weights=np.ones(5))
    assert plain(completions=[LIST], ground_truth=TRUTH) == weighted(completions=[LIST], ground_truth=TRUTH)


@pytest.mark.real_data
def test_real_dialogues_can_all_be_earned(real_data: Path) -> None:
    """A list of what the user wanted earns everything there is, on every row."""
    catalog = Catalog.load(real_data / "inspired" / "catalog.jsonl")
    dialogues = load_dialogues(real_data / "inspired" / "test.jsonl")
    structs = [[item.to_struct() for item in dialogue.ground_truth] for dialogue in dialogues]
    lists = ["\n".join(catalog[catalog.resolve(item)].title for item in row) for row in structs]
    with_years = ["\n".join(catalog.lines[catalog.resolve(item)] for item in row) for row in structs]

    reward = RankReward(catalog, 20, per_rank=False)

    assert reward(completions=with_years, ground_truth=structs) == [float(len(row)) for row in structs]
    assert sum(reward(completions=lists, ground_truth=structs)) > 0.9 * sum(map(len, structs))
