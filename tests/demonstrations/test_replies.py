"""What a teacher wrote, read as lists: every form that real teachers have answered in, and whatever else may come."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Catalog
from rankrl.demonstrations import RawLists, read_lists
from rankrl.teachers import load_recorded_texts

CATALOG = Catalog(
    [
        *(("Heat", 1995), ("Up", 2009), ("Mad Max: Fury Road", 2015), ("(500) Days of Summer", 2009), ("300", 2006)),
        *(("The Good, the Bad and the Ugly", 1966), ("Scarface", 1932), ("Scarface", 1983), ("12 Angry Men", 1957)),
        *(("300: Rise of an Empire", 2014), ("Monsters, Inc.", 2001)),
    ]
)
HEAT, UP, FURY_ROAD, SUMMER, GOOD = 0, 1, 2, 3, 5
SCARFACE_1983, ANGRY, EMPIRE, MONSTERS = 7, 8, 9, 10


def names(reply: str | None, **settings: Any) -> list[str]:
    """The titles of one reply, in order."""
    lists = read_lists([reply], CATALOG, 20, **settings)
    return [lists.titles[title] for title in lists.ranks[0] if title >= 0]


LISTS = {
    "numbered": "1. Heat\n2. Up\n3. Nobody Made This",
    "numbered without a space": "1.Heat\n2.Up\n3.Nobody Made This",
    "in brackets": "(1) Heat\n(2) Up\n(3) Nobody Made This",
    "with brackets": "1) Heat\n2) Up\n3) Nobody Made This",
    "bulleted": "- Heat\n* Up\n• Nobody Made This",
    "bold": "1. **Heat**\n2. **Up**\n3. **Nobody Made This**",
    "plain": "Heat\nUp\nNobody Made This",
    "years": "Heat (1995)\nUp (2009)\nNobody Made This",
    "with empty lines": "\n\n1. Heat\n\n2. Up\n   \n3. Nobody Made This\n",
    "with empty numbers": "1. Heat\n2. Up\n3. Nobody Made This\n4.\n5.",
    "windows": "1. Heat\r\n2. Up\r\n3. Nobody Made This\r\n",
    "prose around": "Sure! Here are some films you may like:\n1. Heat\n2. Up\n3. Nobody Made This\nEnjoy the evening!",
    "prose around a plain list": "Here is what I would watch:\n\nHeat\nUp\nNobody Made This\n\nDo you want more?",
    "remarks": "1. Heat (1995) - a duel.\n2. Up (2009): balloons.\n3. Nobody Made This",
    "one sentence": "Heat, Up, and Nobody Made This.",
    "one sentence with an introduction": "Sure, here are some you might enjoy: Heat, Up, and Nobody Made This.",
    "introduction and sentence": "I can help with that.\nYou might like: Heat, Up, or Nobody Made This",
    "a turn of its own": "System: Heat\nUp\nNobody Made This",
}


@pytest.mark.parametrize("reply", LISTS.values(), ids=LISTS.keys())
def test_a_list_in_any_form(reply: str) -> None:
    assert names(reply) == ["Heat (1995)", "Up (2009)", "Nobody Made This"]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        "",
        "  \n \t\n",
        "I'm sorry, but as a language model, I cannot recommend films.",
        "I cannot help with that.",
        "Could you tell me more about the films you like?",
        "Sorry, I can't, because you have not told me what you like",
        "Hello there, friend!\nWhat kind of film do you want tonight?",
        "1.\n2.\n3.",
        "---\n***\n[",
    ],
)
def test_what_is_no_list_names_no_title(reply: str | None) -> None:
    assert names(reply) == []


def test_the_colons_and_commas_of_titles_are_their_own() -> None:
    reply = (
        "Here are some you might enjoy: Star Wars: A New Hope, Mad Max: Fury Road, The Good, the Bad and the Ugly, Up"
    )
    assert names(reply) == [
        *("Star Wars: A New Hope", "Mad Max: Fury Road (2015)", "The Good, the Bad and the Ugly (1966)", "Up (2009)")
    ]
    assert names("Mad Max: Fury Road, Heat, Up") == ["Mad Max: Fury Road (2015)", "Heat (1995)", "Up (2009)"]
    assert names("The Good, the Bad and the Ugly (1966)\nUp") == ["The Good, the Bad and the Ugly (1966)", "Up (2009)"]
    assert names("Monsters, Inc.") == ["Monsters, Inc. (2001)"]


def test_titles_that_open_with_a_number_are_no_numbered_lines() -> None:
    reply = "(500) Days of Summer (2009)\n300: Rise of an Empire (2014)\n12 Angry Men (1957)\nHeat (1995)"
    assert names(reply) == [*("(500) Days of Summer (2009)", "300: Rise of an Empire (2014)"), *names(reply)[2:]]
    assert names(reply)[2:] == ["12 Angry Men (1957)", "Heat (1995)"]


def test_a_title_may_open_with_a_number_and_a_colon() -> None:
    yuma = ["3:10 to Yuma (2007)", "3:10 to Yuma (1957)"]
    assert names("\n".join(["Unforgiven", *yuma, "True Grit"])) == ["Unforgiven", *yuma, "True Grit"]
    assert names("1.Heat\n2.12 Angry Men\n3.Up") == ["Heat (1995)", "2.12 Angry Men", "Up (2009)"], "none is lost"
    assert names("1. Heat\n2. 300\n3. Up\nEnjoy") == ["Heat (1995)", "300 (2006)", "Up (2009)"]


@pytest.mark.parametrize(
    "reply",
    [
        "Heat\nUp\nNobody Made This\nAll of these share themes: crime, heists, and betrayal.",
        "Heat\nUp\nNobody Made This\nAll of these share themes: Crime, Heists, and Betrayal.",
        "Based on your favourites: action, sci-fi, and thrillers, here are some:\nHeat\nUp\nNobody Made This",
        "Based on your favourites: Action, Drama, and Comedy, here are some:\nHeat\nUp\nNobody Made This",
        "Heat (1995) - a classic: tense, gritty, and long\nUp\nNobody Made This",
        "Heat (1995) - stars: Pacino, De Niro, Kilmer\nUp (2009) - stars: Asner, Plummer, Ratzenberger\n"
        "Nobody Made This",
    ],
)
def test_a_remark_with_a_colon_and_commas_is_not_the_list(reply: str) -> None:
    assert names(reply) == ["Heat (1995)", "Up (2009)", "Nobody Made This"]


def test_a_single_title_may_have_a_remark_with_a_colon_and_commas() -> None:
    assert names("Heat (1995) - stars: Pacino, De Niro, Kilmer") == ["Heat (1995)"]
    assert names("Heat (1995) - a classic: tense, gritty, and long") == ["Heat (1995)"]
    assert names("The Good, the Bad, and the Ugly (1966)") == ["The Good, the Bad and the Ugly (1966)"]
    assert names("You might like: Heat (1995), Up (2009), and Cars (2006).") == [
        *("Heat (1995)", "Up (2009)", "Cars (2006)")
    ]


def test_a_sentence_of_titles_may_stand_between_greetings() -> None:
    reply = "Sure!\nI recommend the following: Heat, Up and Nobody Made This, Cars.\nEnjoy the evening!"
    assert names(reply) == ["Heat (1995)", "Up and Nobody Made This", "Cars"]


def test_an_invented_continuation_of_the_dialogue_is_left_out() -> None:
    reply = (
        "Heat (1995)\nUp (2009)\n[|Human|] Thank you! And for my son?\n[|AI|] Sure:\n1. Cars\n2. Bolt\n"
        "User: And books?\nSystem: 1. Emma\n2. Dune"
    )
    assert names(reply) == ["Heat (1995)", "Up (2009)"]
    late = "Yes, I have seen it. A classic!\nUser: And what else?\nSystem: Here are some films: Heat, Up, Cars, Bolt"
    assert names(late) == ["Heat (1995)", "Up (2009)", "Cars", "Bolt"]


def test_a_repeated_title_stands_twice_in_the_list_and_once_among_the_titles() -> None:
    lists = read_lists(["1. Heat\n2. Nobody Made This\n3. Heat (1995)\n4. NOBODY Made this!"], CATALOG, 5)
    assert lists.titles == ["Heat (1995)", "Nobody Made This"]
    assert lists.ranks.tolist() == [[0, 1, 0, 1, -1]]
    assert lists.items.tolist() == [[HEAT, -1, HEAT, -1, -1]]
    assert lists.lengths.tolist() == [4]


def test_an_unknown_title_with_another_year_is_another_title() -> None:
    assert names("Ghost Barn (1990)\nGhost Barn (2020)\nGhost Barn") == [
        *("Ghost Barn (1990)", "Ghost Barn (2020)", "Ghost Barn")
    ]


def test_what_only_a_year_could_tell_apart_stays_outside_the_catalogue() -> None:
    lists = read_lists(["1. Scarface\n2. Scarface (1983)"], CATALOG, 2)
    assert lists.items.tolist() == [[-1, SCARFACE_1983]]


def test_what_comes_after_the_list_costs_nothing() -> None:
    """A title that is used nowhere would still be described by the teacher, for money."""
    lists = read_lists(["\n".join(f"{n}. Film Number {n}" for n in range(1, 31)), "Heat"], CATALOG, 20)
    assert lists.ranks.shape == (2, 20)
    assert lists.lengths.tolist() == [20, 1]
    assert len(lists.titles) == 21


def test_misspelt_titles_are_items_only_where_that_is_wanted() -> None:
    reply = "1. 12 Angy Men (1957)\n2. Mad Mox: Fury Road (2015)"
    assert names(reply) == ["12 Angy Men (1957)", "Mad Mox: Fury Road (2015)"]
    assert names(reply, resolve=partial(CATALOG.match, min_score=80.0)) == [
        "12 Angry Men (1957)",
        "Mad Max: Fury Road (2015)",
    ]


def test_titles_may_end_like_sentences() -> None:
    reply = (
        "1. O Brother, Where Art Thou?\n2. Crazy, Stupid, Love.\n3. How can I help you today?\n4. Who is there: a ghost"
    )
    assert names(reply) == ["O Brother, Where Art Thou?", "Crazy, Stupid, Love.", "Who is there: a ghost"]


def test_titles_beyond_the_last_rank_are_not_those_of_the_next_dialogue() -> None:
    lists = read_lists(["1. Up\n2. Heat\n3. Nobody Made This\n4. Up", "1. Heat\n2. Nowhere"], CATALOG, num_ranks=1)
    assert lists.items.tolist() == [[UP], [HEAT]]
    assert lists.titles == ["Up (2009)", "Heat (1995)"]


def test_prose_is_counted_where_titles_were_expected() -> None:
    assert read_lists(["Here is my list:\nHeat\nUp\nI hope you will enjoy these!"], CATALOG).prose == 2
    assert read_lists(["1. Heat\n2. Up"], CATALOG).prose == 0
    for words, prose in ((15, 0), (16, 1)):  # an unknown line of more than 15 words is a sentence, however written
        assert read_lists([f"Heat\n{' '.join(['Nowhere'] * words)}"], CATALOG).prose == prose


def test_no_answer_at_all() -> None:
    lists = read_lists([None, ""], CATALOG, 3)
    assert (lists.titles, lists.prose) == ([], 0)
    assert lists.items.tolist() == lists.ranks.tolist() == [[-1] * 3] * 2
    assert lists.same_item.dtype == np.int64
    assert read_lists([], CATALOG, 3).ranks.shape == (0, 3)


def test_lists_are_cut_or_padded_to_a_width() -> None:
    lists = read_lists(["1. Heat\n2. Nobody Made This\n3. Up"], CATALOG, 3)
    assert lists.resolved(2).tolist() == [[HEAT, -1]]
    assert lists.resolved(3).tolist() == [[HEAT, -1, UP]]
    assert lists.resolved(5).tolist() == [[HEAT, -1, UP, -1, -1]]


PIECES = st.sampled_from(
    [
        *CATALOG.lines,
        *LISTS.values(),
        "1.",
        "- ",
        "\n",
        "\r",
        ", ",
        ": ",
        "User:",
        "[|Human|]",
        "**",
        "#",
        "\u2028",
        "\0",
    ]
)


@given(st.lists(st.one_of(st.none(), st.text(), st.lists(PIECES | st.text(max_size=5)).map("".join)), max_size=4))
def test_any_text_is_read_without_an_error(replies: list[str | None]) -> None:
    lists = read_lists(replies, CATALOG, 4)
    assert lists.ranks.shape == (len(replies), 4)
    assert lists.same_item.shape == (len(lists.titles),)
    assert (lists.ranks < len(lists.titles)).all()
    assert set(lists.ranks[lists.ranks >= 0].tolist()) == set(range(len(lists.titles))), "every title is in a list"
    filled = lists.ranks >= 0
    assert (filled == (np.arange(4) < lists.lengths[:, None])).all(), "no gaps"
    for title, item in zip(lists.titles, lists.same_item, strict=True):
        assert title.strip()
        assert item < 0 or title == CATALOG.lines[item]


# Real teachers

TEACHERS = {"gpt-4": 0.54, "gpt-3.5-turbo": 0.52, "vicuna-13b": 0.45, "baize-v2-13b": 0.52}


def recorded(real_data: Path, teacher: str) -> RawLists:
    catalog = Catalog.load(real_data / "inspired" / "catalog.jsonl")
    path = real_data / "teacher" / f"inspired_{teacher}.jsonl"
    return read_lists(list(load_recorded_texts(path, where={"prompt": "general"}).values()), catalog, 20)


@pytest.mark.real_data
@pytest.mark.parametrize("teacher", TEACHERS)
def test_lists_of_real_teachers(teacher: str, real_data: Path) -> None:
    lists = recorded(real_data, teacher)

    assert len(lists.ranks) == 172
    assert lists.lengths.mean() > 19
    assert (lists.lengths == 20).mean() > 0.93
    found = (lists.items >= 0).sum() / lists.lengths.sum()
    assert found == pytest.approx(TEACHERS[teacher], abs=0.01)
    talk = re.compile(r"\b(?:you|recommend|movies|sorry)\b.*[.!?:]$|\|(?:human|ai)\||^(?:user|system):")
    assert [title for title in lists.titles if talk.search(title)] == []


@pytest.mark.real_data
def test_every_list_of_gpt_4_is_read_in_full(real_data: Path) -> None:
    lists = recorded(real_data, "gpt-4")
    assert lists.lengths.tolist() == [20] * 172
    assert lists.prose == 0
