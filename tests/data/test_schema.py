from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from catalog import ItemReference
from rankrl.data import Dialogue, DialogueError, dialogue_from_row

ASK = [{"role": "user", "content": "A heist film?"}]


def test_items_may_be_given_in_every_form() -> None:
    truth = ["Up", ["Heat", "1995"], {"id": "tt1", "gain": 0.5}, ItemReference(title="Alien", year=1979)]
    dialogue = Dialogue("a:1:0", ASK, [("Fargo", 1996)], truth)
    assert dialogue.seen == [ItemReference(title="Fargo", year=1996)]
    assert dialogue.ground_truth == [
        ItemReference(title="Up"),
        ItemReference(title="Heat", year=1995),
        ItemReference(key="tt1", gain=0.5),
        ItemReference(title="Alien", year=1979),
    ]


def test_a_row_names_items_by_structs_with_four_fields() -> None:
    dialogue = Dialogue("a:1:0", ASK, [], [("Heat", 1995)], recommendations=["Up"], domain="movie")
    row = dialogue.to_row()
    assert row == {
        "id": "a:1:0",
        "domain": "movie",
        "messages": ASK,
        "seen": [],
        "ground_truth": [{"id": None, "title": "Heat", "year": 1995, "gain": 1.0}],
        "augmented": None,
        "recommendations": [{"id": None, "title": "Up", "year": None, "gain": 1.0}],
    }
    labelled = replace(dialogue, augmented=[{"id": "tt1", "gain": 0.5}])
    assert labelled.to_row() == row | {"augmented": [{"id": "tt1", "title": None, "year": None, "gain": 0.5}]}


@pytest.mark.parametrize("messages", [ASK, "A heist film?"])
def test_messages_may_be_one_text(messages: object) -> None:
    row = {"id": 7, "messages": messages, "ground_truth": [["Heat", 1995]]}
    assert dialogue_from_row(row, "x:1") == Dialogue("7", ASK, [], [("Heat", 1995)])


def test_every_problem_of_a_row_is_named() -> None:
    row = {
        "id": "a:1:0",
        "messages": [{"role": "seeker", "content": "hi"}, {"role": "user"}, "hello"],
        "seen": [["Heat", "soon"]],
        "ground_truth": [7],
        "augmented": [{"title": "Up", "gain": 1.5}],
        "domain": 3,
    }
    with pytest.raises(DialogueError) as caught:
        dialogue_from_row(row, "train.jsonl:12")
    assert [problem.field for problem in caught.value.problems] == [
        "domain",
        "messages[0].role",
        "messages[1]",
        "messages[2]",
        "seen[0]",
        "ground_truth[0]",
        "augmented[0]",
    ]
    assert 'train.jsonl:12: messages[0].role: got \'seeker\'; expected "user" or "assistant"' in str(caught.value)
    assert "'soon'" in str(caught.value)


@pytest.mark.parametrize("messages", [[], {}, 5, None])
def test_a_dialogue_needs_messages(messages: object) -> None:
    with pytest.raises(DialogueError, match="messages: got"):
        dialogue_from_row({"id": "a", "messages": messages, "ground_truth": ["Heat"]}, "x:1")


@pytest.mark.parametrize("truth", [[], None])
def test_an_empty_ground_truth_has_to_be_asked_for(truth: object) -> None:
    row = {"id": "a", "messages": ASK, "ground_truth": truth}
    with pytest.raises(DialogueError, match="x:1: ground_truth"):
        dialogue_from_row(row, "x:1")
    assert dialogue_from_row(row, "x:1", allow_empty_truth=True).ground_truth == []


def test_a_title_is_not_taken_for_a_list_of_items() -> None:
    with pytest.raises(DialogueError, match="expected a list of items"):
        Dialogue("a", ASK, [], "Heat")  # type: ignore[arg-type]


def test_the_message_of_many_problems_is_short_and_the_error_holds_all() -> None:
    with pytest.raises(DialogueError, match=r"(?s)30 problems.*and 10 more") as caught:
        Dialogue("a", ASK, [], [0] * 30)  # type: ignore[list-item]
    assert len(caught.value.problems) == 30


def test_messages_and_items_may_come_one_by_one() -> None:
    dialogue = Dialogue("a", (dict(turn) for turn in ASK), iter([]), iter(["Heat"]))  # type: ignore[arg-type]
    assert dialogue.messages == ASK
    assert dialogue.ground_truth == [ItemReference(title="Heat")]


def test_the_error_of_another_process_names_its_problems() -> None:
    with pytest.raises(DialogueError) as caught:
        Dialogue("a", [], [], [])
    received = pickle.loads(pickle.dumps(caught.value))
    assert str(received) == str(caught.value)
    assert received.problems == caught.value.problems
