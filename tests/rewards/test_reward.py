"""`RankReward` from text to rewards: hand-worked lists, bad columns, and what it says aloud."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from catalog import Catalog, Item
from rankrl.data import load_dialogues
from rankrl.rewards import RankReward

TRUTH = [[{"id": None, "title": "Up", "year": 2009, "gain": 1.0}, {"title": "Ran", "year": 1985, "gain": 0.5}]]
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
    assert RankReward(catalog, 5, per_rank=False)(completions=[LIST], ground_truth=TRUTH) == [1.5]


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
        ({"completions": [LIST], "ground_truth": [[["Nowhere", 1]]]}, ValueError, "Every reward would be zero"),
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
