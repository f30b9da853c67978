"""The table, the pictures and the HTML file: what is in them, and that the file needs nothing else."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rankrl.evaluation import Curve, Example, Interval, ListLine, comparison_table, write_pictures, write_report
from rankrl.evaluation.pictures import (
    DARK,
    LIGHT,
    bar_picture,
    colours_of,
    curve_picture,
    metric_label,
    png_bytes,
    rank_picture,
    system_label,
)

SYSTEMS = {
    "popularity": {"ndcg@10": 0.15, "recall@10": 0.2, "repeats": 0.0},
    "sft": {"ndcg@10": {"mean": 0.1, "low": 0.08, "high": 0.12}, "recall@10": 0.15, "repeats": 0.04},
    "rank_grpo": {"ndcg@10": Interval(0.33, 0.31, 0.35), "strict_ndcg@10": 0.3, "repeats": 0.02},
}
CURVES = [
    Curve(
        "NDCG by step", "step", "NDCG@10", {"rank_grpo": ([0, 1, 2], [0.1, np.nan, 0.3]), "sft": ([0, 2], [0.1, 0.1])}
    )
]
EXAMPLE = Example(
    "s:1:0",
    [{"role": "user", "content": "<script>alert('&')</script>"}],
    ["B (2000)"],
    {"sft": [ListLine("A <b>(2000)</b>", "unknown"), ListLine("B (2000)", "hit")]},
)


def test_a_path_is_named_as_it_is() -> None:
    assert system_label("/runs/my_scorer") == "/runs/my_scorer"


def test_brackets_in_a_name_are_shown() -> None:
    assert "sft [seed 1]" in rendered(comparison_table({"sft [seed 1]": {"ndcg@10": 0.1}}), 80)


def rendered(table: object, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_the_table_shows_every_system_and_no_strict_metric() -> None:
    text = rendered(comparison_table(SYSTEMS), 100)
    for piece in ("Popularity", "SFT", "Rank-GRPO", "NDCG@10", "0.3300", ".310–.350", "Repeats"):
        assert piece in text
    assert "strict" not in text
    assert "NDCG@10, strict" in rendered(comparison_table(SYSTEMS, ["strict_ndcg@10"]), 100)


def test_what_is_shown_by_default_fits_eighty_columns() -> None:
    names = ("ndcg@5", "ndcg@10", "ndcg@20", "recall@10", "in_catalog", "repeats", "lines", "coverage@10")
    text = rendered(comparison_table({"best_possible": {name: Interval(0.1234, 0.1, 0.2) for name in names}}), 80)
    assert text.count(".100–.200") == 5
    assert "NDCG@20" not in text


def test_the_best_is_bold_and_never_a_reference() -> None:
    bold = re.compile(r"\[bold\]([\d.]+)")
    cells = [bold.findall(cell) for column in comparison_table(SYSTEMS).columns for cell in column._cells]  # type: ignore[arg-type]
    assert [value for found in cells for value in found] == ["0.3300", "0.0200"]  # few repeats are better


def test_popularity_is_named_readably_and_more_of_it_is_not_better() -> None:
    systems = {
        "sft": {"tail@10": 0.25, "popularity@10": 0.5, "tail_recall@10": 0.125},
        "rank_grpo": {"tail@10": 0.75, "popularity@10": 0.875, "tail_recall@10": 0.0625},
    }
    table = comparison_table(systems)
    assert [column.header for column in table.columns] == [
        *("System", "Tail share@10", "Popularity percentile@10", "Tail recall@10")
    ]
    cells = [cell for column in table.columns for cell in column._cells]
    assert [cell for cell in cells if "bold" in str(cell)] == ["[bold]0.1250[/bold]"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("ndcg@10", "NDCG@10"), ("strict_ndcg@10", "NDCG@10, strict"), ("mrr", "MRR"), ("strict_mrr", "MRR, strict")),
        *(("recall@5", "Recall@5"), ("hit@5", "Hit@5"), ("in_catalog", "In catalogue"), ("repeats", "Repeats")),
        *(("coverage@20", "Coverage@20"), ("lines", "Lines"), ("tail", "Tail share"), ("tail@5", "Tail share@5")),
        *(("popularity", "Popularity percentile"), ("tail_recall@5", "Tail recall@5")),
    ],
)
def test_metrics_are_named_for_people(name: str, label: str) -> None:
    assert metric_label(name) == label


class Page(HTMLParser):
    """Collects the tags, the text, and every address that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = write_report(
        tmp_path_factory.mktemp("report") / "new" / "report.html",
        title="Films & more",
        systems=json.loads(json.dumps(SYSTEMS, default=Interval.to_json)),
        curves=CURVES,
        hit_rates={"sft": [0.1, 0.05], "rank_grpo": [0.3, 0.2]},
        examples=[EXAMPLE],
        facts={"Run": {"seed": 7}, "Versions": {"torch": "2.13"}},
        summary="What <was> learned.",
    )
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_the_report_loads_nothing_from_elsewhere(page: Page) -> None:
    assert len(page.loads) == 6  # three pictures, light and dark
    for address in page.loads:
        head, _, data = address.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_the_report_holds_what_it_was_given(page: Page) -> None:
    for piece in ("Films & more", "What <was> learned.", "0.3300", "0.3100–0.3500", "wanted: B (2000)", "seed", "2.13"):
        assert piece in page.text


def test_text_from_models_and_users_is_text(page: Page) -> None:
    assert "script" not in page.tags
    assert "<script>alert('&')</script>" in page.text
    assert "A <b>(2000)</b>" in page.text


def test_a_report_of_scores_alone(tmp_path: Path) -> None:
    html = write_report(tmp_path / "r.html", title="Scores", systems={"sft": {"recall@20": 0.1}}).read_text("utf-8")
    assert "Example dialogues" not in html
    assert "data:image" not in html  # none of the bar picture's metrics is there


def test_pictures_are_written_and_repeatable(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", systems=SYSTEMS, curves=CURVES, hit_rates={"sft": [0.1, 0.2]})
    assert [path.name for path in paths] == ["final_scores.png", "ndcg_by_step.png", "hit_rate_by_rank.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert png_bytes(curve_picture(CURVES[0])) == png_bytes(curve_picture(CURVES[0]))


def test_a_system_keeps_its_colour_whatever_is_drawn_with_it() -> None:
    for theme in (LIGHT, DARK):
        alone, together = colours_of(["rank_grpo"], theme), colours_of(["mine", "sft", "yours", "rank_grpo"], theme)
        assert alone["rank_grpo"] == together["rank_grpo"]
        assert len(set(together.values())) == 4
        assert list(together) == ["mine", "sft", "yours", "rank_grpo"]


def test_running_mean_and_raw_values() -> None:
    noisy = Curve("Return", "step", "return", {"ranks 1-5": (range(6), [0, 2, np.nan, 4, 6, 8])}, window=2)
    raw, smooth = curve_picture(noisy).axes[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), [0, 2, np.nan, 4, 6, 8])
    np.testing.assert_array_equal(smooth.get_ydata(), [0, 1, 2, 4, 5, 7])


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    figure = rank_picture({name: [0.2, 0.1 + 0.0001 * place] for place, name in enumerate(("a", "b", "c", "d"))})
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_a_system_without_a_metric_has_no_bar_there() -> None:
    _, recall = bar_picture(SYSTEMS, ["ndcg@10", "recall@10"]).axes
    assert [text.get_text() for text in recall.texts] == ["0.200", "0.150"]
    assert len(recall.patches) == 2


def test_bars_stand_in_the_rows_of_their_systems() -> None:
    systems = {"a": {"m": 0.1}, "b": {"m": 0.2, "n": 0.7}, "c": {"m": 0.3, "n": 0.9}}
    _, second = bar_picture(systems, ["m", "n"]).axes
    bars = {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in second.patches}
    assert bars == {1: 0.7, 2: 0.9}
