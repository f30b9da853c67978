"""Scores of a judge and of an encoder, worked by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from rankrl.labels import Retrieved, Scored, encoder_scores, teacher_scores
from rankrl.labels.score import padded
from rankrl.teachers import Answer, JudgeTemplate, Messages

LINES = [f"Film {letter} ({1990 + number})" for number, letter in enumerate("ABCDEF")]
TEMPLATE = JudgeTemplate.load("movie")
TALKS = [[{"role": "user", "content": text}] for text in ("A heist?", "Anything.", "Something slow.")]
ITEMS = np.array([[4, 0, 2], [-1, -1, -1], [1, -1, 5]])


class Judge:
    """A teacher that rates by a rule: (line, its place in the request) -> what stands after the hashes, or None."""

    name = "judge"

    def __init__(self, rule: Callable[[str, int], str | None]) -> None:
        self.rule = rule
        self.asked: list[str] = []

    def ask(self, requests: Sequence[Messages]) -> list[Answer]:
        return [self._answer(messages[-1]["content"]) for messages in requests]

    def _answer(self, prompt: str) -> Answer:
        self.asked.append(prompt)
        shown = re.search(r"<candidates>\n(.*?)\n</candidates>", prompt, re.DOTALL)
        assert shown
        rated = [(line, self.rule(line, place)) for place, line in enumerate(shown[1].split("\n"))]
        return Answer.of("\n".join(f"{line}####{text}" for line, text in rated if text is not None))


def level(line: str) -> int:
    """A: 0, B: 1, ... E and F: 4."""
    return min("ABCDEF".index(line[5]), 4)


# A teacher


def test_scores_stand_beside_their_items_and_padding_has_none() -> None:
    judge = Judge(lambda line, place: f"{level(line)} | like {line[5]}")
    scored = teacher_scores(judge, TALKS, ITEMS, LINES, template=TEMPLATE)
    np.testing.assert_array_equal(scored.scores, [[4, 0, 2], [np.nan] * 3, [1, np.nan, 4]])
    assert scored.reasons == [["like E", "like A", "like C"], ["", "", ""], ["like B", "", "like F"]]
    assert scored.source == "judge"
    assert scored.statistics is not None
    assert (scored.statistics.requests, scored.statistics.items) == (4, 5), "two orders; nothing to ask of the second"


def test_a_score_is_the_mean_over_orders() -> None:
    """The judge gives 4 to whatever stands first of three: one of the two orders for what is at either end."""
    scored = teacher_scores(
        Judge(lambda line, place: "4" if place == 0 else "1"), TALKS[:1], ITEMS[:1], LINES, template=TEMPLATE
    )
    assert sorted(scored.scores[0]) == [1, 2.5, 2.5]


def test_the_judge_is_told_the_scale_and_asked_for_reasons_only_if_wanted() -> None:
    for reasons in (True, False):
        judge = Judge(lambda line, place: str(level(line)))
        scored = teacher_scores(judge, TALKS, ITEMS, LINES, template=TEMPLATE, reasons=reasons, num_orders=1)
        assert all("4 = exactly right\n" in prompt and "0 = unsuitable\n" in prompt for prompt in judge.asked)
        assert all(("the reason" in prompt) == reasons for prompt in judge.asked)
        assert len(judge.asked) == 2
        assert not any(text for row in scored.reasons for text in row)


def test_windows_split_what_is_asked_at_once() -> None:
    judge = Judge(lambda line, place: str(level(line)))
    scored = teacher_scores(judge, TALKS, ITEMS, LINES, template=TEMPLATE, window=2, num_orders=1)
    assert len(judge.asked) == 3, "two windows for the first dialogue, one for the third"
    assert scored.scores[0].tolist() == [4, 0, 2]


def test_what_is_not_rated_has_no_score() -> None:
    judge = Judge(lambda line, place: None if "Film E" in line else "7" if "Film A" in line else "3")
    scored = teacher_scores(judge, TALKS, ITEMS, LINES, template=TEMPLATE)
    np.testing.assert_array_equal(scored.scores[0], [np.nan, np.nan, 3], "nothing said, and off the scale")
    assert scored.statistics is not None
    assert scored.statistics.unrated == pytest.approx(2 / 5)


def test_every_dialogue_needs_a_row() -> None:
    with pytest.raises(ValueError, match="2 dialogues but 3 lists of candidates"):
        teacher_scores(Judge(lambda line, place: "1"), TALKS[:2], ITEMS, LINES, template=TEMPLATE)


@pytest.mark.parametrize("values", [[[1.0]], [[1.0, 2.0], [], [1.0, 2.0]], [[1.0] * 3, [0.0], [1.0, 2.0]]])
def test_every_item_needs_a_score(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="for 3 dialogues; give one score for every item"):
        padded(ITEMS, [np.array(row) for row in values])


# An encoder


def retrieved(items: list[list[int]], similarities: list[list[float]], ordinary: list[float]) -> Retrieved:
    return Retrieved(np.array(items), np.array(similarities, np.float32), np.array(ordinary, np.float32))


def test_an_encoder_scores_between_the_ordinary_and_the_best() -> None:
    """0.75 is the best, 0.25 the ordinary: 0.5 lies half-way, 0.375 a quarter of the way, 0.125 below the ordinary."""
    found = retrieved([[7, 3, 5, 2, -1]], [[0.75, 0.5, 0.375, 0.125, 0.0]], [0.25])
    scored = encoder_scores(found, "TF-IDF")
    np.testing.assert_array_equal(scored.scores, [[4, 2, 1, 0, np.nan]])
    assert (scored.source, scored.statistics, scored.reasons) == ("TF-IDF", None, [])
    assert scored.items is found.items


def test_the_most_similar_item_has_the_highest_score_exactly() -> None:
    """Whatever rounding does: a threshold of 4 keeps it."""
    similarities = np.random.default_rng(0).random((200, 1), np.float32) + np.float32(0.1)
    found = Retrieved(np.zeros((200, 1), np.int64), similarities, similarities[:, 0] / 7)
    assert (encoder_scores(found, "e").scores == 4).all()


def test_nothing_above_the_ordinary_is_worth_nothing() -> None:
    scored = encoder_scores(retrieved([[0, 1], [-1, -1]], [[0.25, 0.2], [0.0, 0.0]], [0.25, 0.0]), "e")
    np.testing.assert_array_equal(scored.scores, [[0, 0], [np.nan, np.nan]])


# What is no score


@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        ([[0, 1]], [[1.0]], r"items \(1, 2\) and scores \(1, 1\) must have one shape"),
        ([0, 1], [1.0, 2.0], r"must have one shape, \(D, M\)"),
        ([[0, 1]], [[1.0, 4.5]], "scores run from 1 to 4.5; expected 0"),
        ([[0, 1]], [[-1.0, np.nan]], "scores run from -1 to -1"),
        ([[0, 1]], [[np.inf, 1.0]], "scores run from 1 to inf"),
        ([[0, -1]], [[1.0, 0.0]], r"belongs to no item \(-1\)"),
    ],
)
def test_wrong_scores(items: list, scores: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scored(np.array(items), np.array(scores), "s")


def test_nothing_scored_at_all_is_allowed() -> None:
    assert np.isnan(Scored(np.full((2, 3), -1), np.full((2, 3), np.nan), "s").scores).all()
