"""The card of augmented labels: what is counted, by hand, and what stands in the two files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog import Catalog
from rankrl.data import Dialogue
from rankrl.evaluation.label_card import label_example, score_curves, source_metrics, write_label_card
from rankrl.labels import Scored, kept_labels, weigh_by_trust
from rankrl.teachers.rating_statistics import RatingStatistics

CATALOG = Catalog([(f"Film {letter}", 1990 + place) for place, letter in enumerate("ABCDEFGHIJ")])
STATISTICS = RatingStatistics(8, 6, -0.25, 0.125, 0.5, 0.0, 1 / 6, {"no rating": 3})
SCORED = Scored(
    np.array([[0, 1, 2, 3], [4, 5, 6, -1], [7, 8, -1, -1]]),
    np.array([[4, 3.5, 2, np.nan], [1, 0.5, 0, np.nan], [4, 3.0, np.nan, np.nan]]),
    "gpt-4 & friends",
    [["tense <b>heist</b>", "", "slow", ""], ["", "", "", ""], ["warm", "", "", ""]],
    STATISTICS,
)
LABELS = kept_labels(SCORED)  # {A, B}, none, {H}
TRUTH: list[dict[int, float]] = [{1: 1.0, 9: 1.0}, {4: 1.0}, {}]
DIALOGUES = [
    Dialogue(f"s:{n}:0", [{"role": "user", "content": f"Talk <{n}>"}], [], [CATALOG.lines[item] for item in truth])
    for n, truth in enumerate(TRUTH)
]


def written(folder: Path, **changes: Any) -> tuple[dict[str, Any], str, str]:
    """Metrics, Markdown and HTML."""
    truth = changes.get("truth", TRUTH)
    given = {
        "scored": SCORED,
        "augmented": weigh_by_trust(LABELS, truth, 10, trust=None if any(truth) else 0.25),
        "sources": {SCORED.source: LABELS, "TF-IDF alone": [{9: 1.0, 2: 1.0}, {}, {1: 1.0}]},
        "dialogues": DIALOGUES,
        "truth": truth,
        "catalog": CATALOG,
        "facts": {"Settings": {"min_label_score": 3.5}},
    }
    systems = write_label_card(folder / "new", **{**given, **changes})
    markdown, html = ((folder / "new" / name).read_text(encoding="utf-8") for name in ("card.md", "card.html"))
    return systems, markdown, html


# The sources


def test_a_source_is_measured_on_dialogues_whose_truth_is_known() -> None:
    """Of {B, J} one is found by two labels, of {E} nothing by none; the third dialogue is left out."""
    metrics = source_metrics(LABELS, TRUTH, [dialogue.id for dialogue in DIALOGUES], 10)
    means = {name: interval.mean for name, interval in metrics.items()}
    assert means == pytest.approx({"labels": 1.0, "recovered": 0.25, "by_chance": 0.1, "also_true": 0.5})
    assert source_metrics(LABELS, [{}, {}, {}], ["a", "b", "c"], 10) == {}


def test_without_labels_no_share_of_them_is_true() -> None:
    metrics = source_metrics([{}, {}, {}], TRUTH, ["a", "b", "c"], 10)
    assert metrics["recovered"].mean == 0
    assert "also_true" not in metrics


def test_intervals_are_over_dialogues_not_rows() -> None:
    one, two = (source_metrics([{1: 1.0}, {2: 1.0}], [{1: 1.0}, {1: 1.0}], ids, 10)["recovered"] for ids in (
        ["s:1:0", "s:1:1"], ["s:1:0", "s:2:0"],
    ))  # fmt: skip
    assert one.low == one.high == 0.5
    assert (two.low, two.high) == (0.0, 1.0)


# The files


def test_a_row_for_every_source(tmp_path: Path) -> None:
    systems, markdown, html = written(tmp_path)
    assert list(systems) == ["gpt-4 & friends", "TF-IDF alone"]
    header, _, row, _ = (line.strip("| ").split(" | ") for line in markdown.split("\n") if line.startswith("|"))
    assert header == [
        *("source", "Labels per dialogue", "True labels recovered", "Recovered by chance", "Labels that are true")
    ]
    assert [cell.partition(" [")[0] for cell in row] == ["gpt-4 & friends", "1.0000", "0.2500", "0.1000", "0.5000"]
    assert "<th>Source</th>" in html
    assert "gpt-4 &amp; friends" in html
    assert "TF-IDF alone" in html


def test_what_the_labels_say_of_themselves(tmp_path: Path) -> None:
    """Trust: the source recovers 1 of 3, by chance 2 of 10 labels would find 0.2 of two: 0.4 / 3."""
    _, markdown, html = written(tmp_path)
    for fact in (
        *("- scored by: gpt-4 & friends", "- items scored: 8", "- labels: 3", "- labels per dialogue: 1.0"),
        *("- dialogues without a label: 1", "- true labels recovered: 33.3% of 3"),
        *("- random labels would recover: 13.3%", f"- trust in the source: {(1 / 3 - 0.4 / 3) / (1 - 0.4 / 3):.3f}"),
        *("- items rated: 8", "- correlation of rating and place: -0.250", "- flipped between orders: 12.5%"),
        *("- lines that counted for nothing: 3 no rating", "- min_label_score: 3.5"),
    ):
        assert fact in markdown, fact
    for name, value in (("labels per dialogue", "1.0"), ("dialogues without a label", "1"), ("min_label_score", "3.5")):
        assert re.search(rf"<dt>{name}</dt><dd( class=\"long\")?>{value}</dd>", html), name


def test_calibration_is_on_both_cards(tmp_path: Path) -> None:
    """Of the items with known truth: 0 and 0.5 in the first bin, 1 (true) in the second, 2, 3.5 (true) and 4."""
    _, markdown, html = written(tmp_path)
    section = markdown.partition("## Calibration: true labels among the items scored\n\n")[2].partition("\n\n")[0]
    assert section.split("\n") == [
        *("- 0 to 1: 0.00% of 2", "- 1 to 2: 100.00% of 1", "- 2 to 3: 0.00% of 1", "- 3.5 to 4: 50.00% of 2"),
        "- in all: 2 of 6, or 66.7% of the true labels",
    ]
    assert "<dt>3.5 to 4</dt>" in html
    assert {'alt="Scores"', 'alt="Calibration"'} <= set(re.findall(r'alt="[^"]*"', html))


def test_the_histogram_and_the_calibration_curve() -> None:
    """Eight scores in bins of half a level; the last bin holds 3.5 and 4."""
    histogram, rates = score_curves(SCORED, TRUTH)
    ((middles, shares),) = histogram.lines.values()
    assert middles == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]
    assert shares == pytest.approx([1 / 8, 1 / 8, 1 / 8, 0, 1 / 8, 0, 1 / 8, 3 / 8])
    ((places, rate),) = rates.lines.values()
    assert (places, rate) == ([0.25, 0.75, 1.25, 2.25, 3.75], [0, 0, 1, 0, 0.5])


def test_examples_show_labels_and_what_was_left_out(tmp_path: Path) -> None:
    example = label_example(DIALOGUES[0], SCORED, 0, {0: 0.5, 1: 0.4}, {1: 1.0, 9: 1.0}, CATALOG)
    lines = {name: [(line.text, line.status) for line in kept] for name, kept in example.lists.items()}
    assert lines == {
        "augmented labels": [("Film A (1990): 4.0, tense <b>heist</b>", "miss"), ("Film B (1991): 3.5", "hit")],
        "left out": [("Film C (1992): 2.0, slow", "miss"), ("Film D (1993): not rated", "miss")],
    }
    assert example.truth == ["Film B (1991)", "Film J (1999)"]
    _, _, html = written(tmp_path)
    assert '<li class="hit">Film B (1991): 3.5</li>' in html
    assert "tense &lt;b&gt;heist&lt;/b&gt;" in html
    assert "Talk &lt;1&gt;" in html
    assert ": nan" not in html


def test_examples_hide_neither_random_labels_nor_scores_that_nobody_trusts() -> None:
    random = label_example(DIALOGUES[2], SCORED, 2, {7: 1.0, 5: 0.9}, {}, CATALOG).lists
    assert [line.text for line in random["augmented labels"]] == [
        *("Film H (1997): 4.0, warm", "Film F (1995): put in at random")
    ]
    untrusted = label_example(DIALOGUES[2], SCORED, 2, {}, {}, CATALOG).lists
    assert [line.text for line in untrusted["left out"]] == ["Film H (1997): 4.0, warm", "Film I (1998): 3.0"]
    assert untrusted["augmented labels"] == []


def test_where_no_truth_is_known(tmp_path: Path) -> None:
    systems, markdown, html = written(tmp_path, truth=[{}, {}, {}])
    assert systems == {}
    assert "- given: 0.25" in markdown
    assert "- gains: 0.24 (0.22 to 0.25)" in markdown
    for text in (markdown, html):
        assert "Calibration" not in text
        assert "recovered" not in text.lower(), "no table, nor words about one"
        assert "nan" not in re.sub(r"base64,[^\"]*", "", text)
    assert markdown.startswith("# Augmented labels\n\n## Labels\n"), "no table"
    assert "wanted:" not in html
    assert 'alt="Scores"' in html


def test_nothing_scored_and_no_label(tmp_path: Path) -> None:
    nothing = Scored(SCORED.items, np.full(SCORED.items.shape, np.nan), "nobody")
    none: list[dict[int, float]] = [{}, {}, {}]
    empty = {"scored": nothing, "augmented": weigh_by_trust(none, TRUTH, 10), "sources": {"nobody": none}}
    systems, markdown, html = written(tmp_path, **empty)
    assert systems["nobody"]["labels"].mean == 0
    assert "- gains: none" in markdown
    assert "## The judge" not in markdown
    assert "nan" not in markdown + re.sub(r"base64,[^\"]*", "", html)


def test_without_reasons_there_is_the_score(tmp_path: Path) -> None:
    _, _, html = written(tmp_path, scored=replace(SCORED, reasons=[]))
    assert ">Film A (1990): 4.0</li>" in html
