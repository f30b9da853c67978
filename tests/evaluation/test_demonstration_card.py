"""The card of demonstrations: what is counted, by hand, and what stands in the two files."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog import Catalog
from rankrl.data import Dialogue
from rankrl.demonstrations import Adjustment, Candidates, Demonstrations, RawLists, read_lists
from rankrl.evaluation.demonstration_card import CHOSEN, card_columns, popularity_rows, write_demonstration_card
from rankrl.teachers import Ratings
from rankrl.teachers.rating_statistics import RatingStatistics

CATALOG = Catalog([(f"Film {letter}", 1990 + place) for place, letter in enumerate("ABCDEF")])
REPLIES = ["1. Film A\n2. Ghost Barn\n3. Film C", "1. Film B\n2. Film <b>X</b>", None]
STATISTICS = RatingStatistics(12, 6, -0.25, 0.125, 0.5, 0.0, 1 / 6, {"no rating": 3, "not in the window": 1})


# Popularity


def test_lists_without_an_item_are_left_out_of_the_means() -> None:
    lists = {"raw": np.array([[0, -1], [-1, -1]]), "remap": np.array([[0, 1], [0, 1]])}
    rows = popularity_rows(Demonstrations(lists), [{0: 1.0}, {}], ["s:1:0", "s:1:1"], 3)
    assert rows["teacher as is"]["popularity"].mean == pytest.approx(5 / 6)
    assert rows["remap"]["popularity"].mean == pytest.approx((5 / 6 + 2 / 6) / 2)
    assert rows[CHOSEN]["tail"].mean == 0.0


def test_intervals_are_over_dialogues_not_rows() -> None:
    """Two rows of one dialogue differ, but there is only one dialogue to draw."""
    lists = {"raw": np.array([[0], [1]])}
    together, apart = (
        popularity_rows(Demonstrations(lists), [{0: 1.0}, {0: 1.0}], ids, 2)["teacher as is"]["tail"]
        for ids in (["s:1:0", "s:1:1"], ["s:1:0", "s:2:0"])
    )
    assert together.low == together.high == 0.5
    assert (apart.low, apart.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("cuts", "columns"),
    [
        ((5, 10, 20), ["recall@10", "ndcg@10", "recall@20", "ndcg@20"]),
        ((5, 10), ["recall@10", "ndcg@10"]),
        ((5,), ["recall@5", "ndcg@5"]),
        ((3,), ["recall@3", "ndcg@3"]),
    ],
)
def test_every_length_of_list_has_columns(cuts: tuple[int, ...], columns: list[str]) -> None:
    metrics = {f"{name}@{cut}": 0.1 for name in ("hit", "ndcg", "recall", "strict_ndcg") for cut in cuts}
    assert card_columns({"remap": {**metrics, "in_catalog": 1.0}, CHOSEN: {"tail": 0.2}}) == [
        *("in_catalog", *columns, "tail")
    ]


# The files


@pytest.fixture
def parts() -> dict[str, Any]:
    """Three dialogues, four steps, a judge and an adjustment."""
    lists = {
        "remap": np.array([[0, 2, 3], [1, 4, 5], [0, 1, 2]]),
        "reflect": np.array([[2, 0, 3], [1, 5, 4], [0, 1, 2]]),
        "adjust": np.array([[3, 2, 0], [5, 1, 4], [4, 1, 2]]),
    }
    scores = Candidates(np.tile(np.arange(6), (3, 1)), np.tile(np.arange(6.0), (3, 1)), 6)
    raw = read_lists(REPLIES, CATALOG, 4)
    return {
        "demonstrations": Demonstrations(
            {"raw": raw.resolved(3), **lists},
            scores,
            Ratings([np.zeros(2)] * 3, [["", ""]] * 3, STATISTICS),
            Adjustment(np.ones(6), np.array([9.0, 0, 0, 0, 0, 0])),
            scores,
        ),
        "raw": raw,
        "dialogues": [
            Dialogue(f"s:{n}:0", [{"role": "user", "content": f"Talk <{n}>"}], ["Film E (1994)"] * (n == 1), [line])
            for n, line in enumerate(CATALOG.lines[:3])
        ],
        "truth": [{0: 1.0}, {1: 1.0}, {2: 1.0}],
        "seen": [set(), {4}, set()],
        "catalog": CATALOG,
        "facts": {"Teacher": {"name": "gpt-4 & friends", "calls": 7, "money": 0.25}, "Settings": {"steps": "all"}},
    }


def written(folder: Path, parts: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], str, str]:
    """Metrics, Markdown and HTML."""
    systems = write_demonstration_card(folder / "new", **{**parts, **changes})
    markdown, html = ((folder / "new" / name).read_text(encoding="utf-8") for name in ("card.md", "card.html"))
    return systems, markdown, html


def test_a_row_for_every_step_and_one_for_the_users(parts: dict[str, Any], tmp_path: Path) -> None:
    systems, markdown, html = written(tmp_path, parts)
    rows = ["teacher as is", "remap", "+ reflect", "+ adjust", "what users chose"]
    assert list(systems) == rows
    assert re.findall(r"^\| ([^|]+?) \| [\d ]", markdown, re.MULTILINE) == rows
    assert "| what users chose |  |" in markdown
    assert all(f">{row}" in html or f"</span>{row}" in html for row in rows)
    assert "In catalogue | Recall@3 | NDCG@3 | Tail share | Popularity percentile" in markdown
    assert systems["teacher as is"]["in_catalog"].mean == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert systems["remap"]["recall@3"].mean == 1.0
    assert systems["remap"]["ndcg@3"].mean == pytest.approx((1 + 1 + 1 / np.log2(4)) / 3)


def test_what_the_steps_say_of_themselves(parts: dict[str, Any], tmp_path: Path) -> None:
    _, markdown, html = written(tmp_path, parts)
    for fact in (
        *("- lists: 3", "- answers without a list: 1", "- different titles: 5", "- outside the catalogue: 2"),
        *("- for example: Ghost Barn; Film <b>X</b>", "- items rated: 12", "- correlation of rating and place: -0.250"),
        *("- flipped between orders: 12.5%", "- requests without an answer: 16.7%"),
        *(
            "- lines that counted for nothing: 3 no rating, 1 not in the window",
            "- name: gpt-4 & friends",
            "- calls: 7",
        ),
        *("## Adjust: rose most, by mean rank\n\n- Film A (1990): 6 → 1\n\n", "## Adjust: fell most, by mean rank"),
        *("- Film F (1995): 1 → 2", "- steps: all", "- money: 0.25"),
    ):
        assert fact in markdown, fact
    assert "gpt-4 &amp; friends" in html
    assert "<dt>Film A (1990)</dt><dd>6 → 1</dd>" in html


def test_facts_that_cannot_be_known_are_called_so(parts: dict[str, Any], tmp_path: Path) -> None:
    nothing = RatingStatistics(12, 6, np.nan, np.nan, np.nan, 0.0, 0.0, {})
    built = parts["demonstrations"]
    ratings = Ratings(built.ratings.values, built.ratings.reasons, nothing)
    changed = Demonstrations(built.lists, built.scores, ratings, built.adjustment, built.reflected)
    _, markdown, html = written(tmp_path, parts, demonstrations=changed)
    assert "- flipped between orders: unknown" in markdown
    assert "- lines that counted for nothing: none" in markdown
    assert "nan" not in markdown + re.sub(r"base64,[^\"]*", "", html)


def test_a_fit_on_the_same_dialogues_is_said_and_one_on_others_is_not(parts: dict[str, Any], tmp_path: Path) -> None:
    note = "Adjust was fitted on the truth of these very dialogues"
    assert all(note in text for text in written(tmp_path, parts)[1:])
    assert not any(note in text for text in written(tmp_path, parts, held_out=True)[1:])
    built = parts["demonstrations"]
    unadjusted = Demonstrations({step: lists for step, lists in built.lists.items() if step != "adjust"})
    _, markdown, html = written(tmp_path, parts, demonstrations=unadjusted)
    assert note not in markdown + html
    assert "Adjust" not in markdown
    assert "## The judge" not in markdown


class Page(HTMLParser):
    """The lists of the examples, the tags, and what a browser would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.lines: list[tuple[str, str]] = []
        self._status: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]
        self._status = dict(attrs).get("class") if tag == "li" else None

    def handle_data(self, data: str) -> None:
        if self._status and data.strip():
            self.lines.append((self._status, data.strip()))


def test_examples_show_what_the_teacher_wrote(parts: dict[str, Any], tmp_path: Path) -> None:
    _, _, html = written(tmp_path, parts)
    page = Page(html)
    assert page.lines[:3] == [("hit", "Film A (1990)"), ("unknown", "Ghost Barn"), ("miss", "Film C (1992)")]
    assert ("unknown", "Film <b>X</b>") in page.lines
    assert ("seen", "Film E (1994)") in page.lines
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "Talk &lt;1&gt;" in html
    assert {address.partition(",")[0] for address in page.loads} == {"data:image/png;base64"} or not page.loads


def test_the_page_does_not_speak_of_models_or_held_out_dialogues(parts: dict[str, Any], tmp_path: Path) -> None:
    _, _, html = written(tmp_path, parts)
    assert "The lists after every step" in html
    assert "held-out" not in html
    assert "trained systems" not in html
    assert not re.search(r'class="best">\s*0\.\d+[^<]*<small>[^<]*</small></td>\s*</tr>', html), (
        "neither a popular list nor an unpopular one is the best"
    )


def test_what_each_step_gained_is_the_paired_difference(parts: dict[str, Any], tmp_path: Path) -> None:
    systems, markdown, _ = written(tmp_path, parts)
    heading = markdown.index("## What each step gained (NDCG@")
    metric = re.match(r"## What each step gained \(NDCG@(\d+), paired\)", markdown[heading:])
    assert metric
    steps = list(systems)[:-1]
    for before, step in pairwise(steps):
        gained = systems[step][f"ndcg@{metric[1]}"].mean - systems[before][f"ndcg@{metric[1]}"].mean
        assert f"- {step}: {gained:.4f} [" in markdown


def test_without_any_truth_only_the_catalogue_share_is_known(parts: dict[str, Any], tmp_path: Path) -> None:
    systems, _, _ = written(tmp_path, parts, truth=[{}, {}, {}])
    assert {name for values in systems.values() for name in values} == {"in_catalog"}


def test_raw_lists_alone_have_a_card(parts: dict[str, Any], tmp_path: Path) -> None:
    raw = RawLists(["Film A (1990)", "Ghost Barn"], np.array([0, -1]), np.array([[0, 1], [1, -1], [-1, -1]]), 2)
    systems, markdown, _ = written(tmp_path, parts, raw=raw, demonstrations=Demonstrations({"raw": raw.resolved(3)}))
    assert list(systems) == ["teacher as is", "what users chose"]
    assert "- lines of prose: 2" in markdown
