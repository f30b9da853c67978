"""The demo's teacher: it reads the simulated users, and has the faults that the steps are there to mend."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import parse_list
from rankrl.data import Dialogue
from rankrl.data.simulation import Simulation, Taste, simulate
from rankrl.data.simulation.requests import KINDS, read_taste, write_request
from rankrl.demonstrations.simulated import SimulatedTeacher, make
from rankrl.labels import Scored, kept_labels, teacher_scores
from rankrl.teachers import (
    LABEL_SCALE,
    REFLECT_SCALE,
    JudgeTemplate,
    MetadataTemplate,
    RecommendTemplate,
    load_teacher,
    parse_metadata,
    rate,
)
from rankrl.teachers.config import TeacherConfig
from rankrl.teachers.ratings_text import parse_ratings

RECOMMEND, DESCRIBE, JUDGE = (t.load("movie") for t in (RecommendTemplate, MetadataTemplate, JudgeTemplate))
WORLD = Simulation(seed=0)


@pytest.fixture(scope="module")
def teacher() -> SimulatedTeacher:
    return SimulatedTeacher()


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    return simulate(0, 0, 200).test


@pytest.fixture(scope="module")
def lists(teacher: SimulatedTeacher, dialogues: list[Dialogue]) -> list[list[str]]:
    answers = teacher.ask([RECOMMEND.messages(dialogue.messages, 10) for dialogue in dialogues])
    return [str(answer.text).split("\n") for answer in answers]


# What users say


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_a_taste_can_be_read_back_from_the_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    taste = WORLD.taste(rng)
    films = [WORLD.catalog.lines[item] for item in rng.integers(len(WORLD.catalog), size=rng.integers(3))]
    messages = write_request(taste, films, rng)
    for layout in ("{content}", "{role}: {content}"):
        assert read_taste("\n".join(layout.format(**message) for message in messages)) == taste


@pytest.mark.parametrize("liked", [(one, other) for one in KINDS for other in KINDS if one != other])
def test_every_pair_of_genres_can_be_told(liked: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        taste = Taste(liked, disliked=next(genre for genre in KINDS if genre not in liked), era="old")
        assert read_taste(write_request(taste, [], rng)[-1]["content"]) in (taste, None)  # None: told a turn before
        assert read_taste("\n".join(message["content"] for message in write_request(taste, [], rng))) == taste


def test_no_taste_in_other_words() -> None:
    assert read_taste("Hello. What should I watch next?") is None
    assert read_taste("I am looking for my keys.") is None
    assert read_taste("") is None


# Lists


def test_lists_are_as_long_as_asked_for_and_numbered(lists: list[list[str]], teacher: SimulatedTeacher) -> None:
    assert {len(lines) for lines in lists} == {10}
    assert all(line.startswith(f"{rank}. ") for lines in lists for rank, line in enumerate(lines, start=1))
    (longer,) = teacher.ask([RECOMMEND.messages([{"role": "user", "content": "I adore westerns."}], 25)])
    assert str(longer.text).count("\n") == 24


def test_lists_have_what_the_steps_are_there_to_mend(lists: list[list[str]]) -> None:
    lines = [line for text in lists for line in parse_list("\n".join(text))]
    assert len(lines) == 2000, "nothing below is a share of a few"
    titles = {film.title for film in WORLD.catalog}
    exact = [line.title in titles for line in lines]
    matched = WORLD.catalog.match([line.title for line in lines], min_score=75.0)
    close = [not known and item >= 0 for known, item in zip(exact, matched, strict=True)]
    outside = [not known and item < 0 for known, item in zip(exact, matched, strict=True)]
    assert 0.10 < np.mean(outside) < 0.20
    assert 0.04 < np.mean(close) < 0.14, "misspelt"
    assert 0.20 < np.mean([line.year is None for line in lines]) < 0.40


def test_lists_keep_to_the_taste(lists: list[list[str]], dialogues: list[Dialogue]) -> None:
    suits, others = [], []
    for place, (dialogue, lines) in enumerate(zip(dialogues, lists, strict=True)):
        items = WORLD.catalog.ranked(["\n".join(lines)], 10)[0]
        for talk, matches in ((dialogue, suits), (dialogues[place - 1], others)):
            taste = read_taste("\n".join(message["content"] for message in talk.messages))
            assert taste is not None
            matches.append(WORLD.match(taste)[items[items >= 0]].mean())
    assert np.mean(suits) > 0.8 > 0.5 > np.mean(others)


def test_mentioned_films_are_not_listed(lists: list[list[str]], dialogues: list[Dialogue]) -> None:
    for dialogue, lines in zip(dialogues, lists, strict=True):
        listed = set(WORLD.catalog.ranked(["\n".join(lines)], 10)[0].tolist())
        assert not listed & {WORLD.catalog.resolve(item) for item in dialogue.seen}


def test_the_same_request_gets_the_same_answer(teacher: SimulatedTeacher, dialogues: list[Dialogue]) -> None:
    requests = [RECOMMEND.messages(dialogue.messages, 10) for dialogue in dialogues[:20]]
    again = SimulatedTeacher().ask(requests[::-1])[::-1]
    assert teacher.ask(requests) == again
    assert SimulatedTeacher(seed=1).ask(requests) != again
    assert make(SimpleNamespace(teacher_seed=1)).ask(requests) == SimulatedTeacher(seed=1).ask(requests)


def test_it_says_that_it_is_simulated_and_can_be_named_in_a_config() -> None:
    teacher = load_teacher(TeacherConfig(teacher="rankrl.demonstrations.simulated:make"))
    assert isinstance(teacher, SimulatedTeacher)
    assert "simulated" in teacher.name


# Descriptions


def test_descriptions_tell_the_genre(teacher: SimulatedTeacher) -> None:
    titles = ["Heat (1995)", "Graveyard in Lisbon (1980)", "Casablnca (1942)", "Xqzw (1900)"]
    answers = [str(answer.text) for answer in teacher.ask([DESCRIBE.messages(title) for title in titles])]
    for answer, genre in zip(answers, ("Crime", "Horror", "Romance"), strict=False):
        metadata = parse_metadata(answer)
        assert metadata is not None
        assert genre in metadata.keywords
    assert parse_metadata(answers[3]) is None


# Ratings


def test_its_judge_favours_early_places_which_two_orders_cancel(
    teacher: SimulatedTeacher, dialogues: list[Dialogue]
) -> None:
    rng = np.random.default_rng(0)
    few = dialogues[:60]
    rated = [rng.permutation(len(WORLD.catalog))[:30] for _ in few]
    lines = [[WORLD.catalog.lines[item] for item in row] for row in rated]
    talks = [dialogue.messages for dialogue in few]
    one, two = (rate(teacher, talks, lines, template=JUDGE, num_orders=orders) for orders in (1, 2))

    assert one.statistics.position_correlation < -0.1
    assert two.statistics.changed > 0.2
    assert not two.statistics.ignored
    assert two.statistics.unrated == 0

    tastes = [read_taste("\n".join(message["content"] for message in talk)) for talk in talks]
    suits = np.concatenate([WORLD.match(taste)[row] for taste, row in zip(tastes, rated, strict=True)])  # type: ignore[arg-type]
    before, after = (np.corrcoef(suits, np.concatenate(ratings.values))[0, 1] for ratings in (one, two))
    assert 0.5 < before < after


# Ratings on the scale of labels


@pytest.fixture(scope="module")
def scored(teacher: SimulatedTeacher, dialogues: list[Dialogue]) -> Scored:
    """Fifty films drawn at random for each dialogue, a seventh of them fitting."""
    rng = np.random.default_rng(0)
    few = dialogues[:60]
    items = np.array([rng.permutation(len(WORLD.catalog))[:50] for _ in few])
    return teacher_scores(teacher, [talk.messages for talk in few], items, WORLD.catalog.lines, template=JUDGE)


@pytest.fixture(scope="module")
def tastes(dialogues: list[Dialogue]) -> list[Taste]:
    read = [read_taste("\n".join(message["content"] for message in talk.messages)) for talk in dialogues[:60]]
    assert None not in read
    return read  # type: ignore[return-value]


def test_scores_use_the_whole_scale_and_nothing_else(scored: Scored) -> None:
    """Means of two orders, each a whole number of 0 to 4."""
    assert set(np.unique(scored.scores)) == set(np.arange(9) / 2)


def test_scores_rise_with_the_hidden_match(scored: Scored, tastes: list[Taste]) -> None:
    match = np.array([WORLD.match(taste)[row] for taste, row in zip(tastes, scored.items, strict=True)])
    steps = [
        scored.scores[(match >= low) & (match < high)].mean() for low, high in pairwise([-1, 0, 0.2, 0.6, 0.95, 2])
    ]
    assert steps == sorted(steps)
    assert steps[0] < 0.5 < 3.5 < steps[-1]
    assert np.corrcoef(match.ravel(), scored.scores.ravel())[0, 1] > 0.8


def test_labels_that_are_kept_fit(scored: Scored, tastes: list[Taste]) -> None:
    """Precise, and most of what fits is found; noise alone would not do that."""
    fits = [WORLD.fits(taste) for taste in tastes]
    kept = kept_labels(scored)
    right = [bool(own[item]) for own, row in zip(fits, kept, strict=True) for item in row]
    to_find = sum(int(own[row].sum()) for own, row in zip(fits, scored.items, strict=True))
    assert len(right) > 150
    assert np.mean(right) > 0.9
    assert sum(right) / to_find > 0.7


def test_a_reason_is_given_where_one_is_asked_for(teacher: SimulatedTeacher, scored: Scored) -> None:
    for item, reason in zip(scored.items[0], scored.reasons[0], strict=True):
        assert reason == WORLD.catalog[int(item)].metadata["genres"].split("|")[0]
    talk = [{"role": "user", "content": "I adore westerns. What is your reason for living?"}]
    lines = ["Heat (1995)", "Casablanca (1942)"]
    for scale in (LABEL_SCALE, REFLECT_SCALE):
        for reasons in (True, False):
            (answer,) = teacher.ask([JUDGE.messages(talk, lines, scale, reasons=reasons)])
            parsed = parse_ratings(str(answer.text), lines, scale)
            assert parsed.ignored == {}
            assert None not in parsed.levels
            assert parsed.reasons == (["Crime", "Romance"] if reasons else ["", ""])


# What it does not understand


def test_unknown_requests_are_refused(teacher: SimulatedTeacher) -> None:
    with pytest.raises(ValueError, match="only understands requests made with the bundled movie templates"):
        teacher.ask([[{"role": "user", "content": "Recommend a film."}]])
    talk = [{"role": "user", "content": "I adore westerns."}]
    scale = {1: "good", 0: "bad"}
    with pytest.raises(ValueError, match=r"rates only the bundled films.*'Nobody Made This \(1990\)'"):
        teacher.ask([JUDGE.messages(talk, ["Heat (1995)", "Nobody Made This (1990)"], scale)])


def test_a_dialogue_without_a_taste_gets_a_question_back(teacher: SimulatedTeacher) -> None:
    talk = [{"role": "user", "content": "Hello."}]
    asked = teacher.ask([RECOMMEND.messages(talk, 10), JUDGE.messages(talk, ["Heat (1995)"], {1: "good"})])
    assert [answer.text for answer in asked] == ["Could you tell me more about the films you like?"] * 2
