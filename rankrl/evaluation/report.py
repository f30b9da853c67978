"""What a person looks at after a run: a table in the terminal, pictures, and one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from rankrl.evaluation.examples import Example
from rankrl.evaluation.pictures import (
    DARK,
    LIGHT,
    REFERENCES,
    Curve,
    Theme,
    bar_picture,
    colours_of,
    curve_picture,
    metric_label,
    png_bytes,
    rank_picture,
    save_png,
    system_label,
)
from rankrl.evaluation.significance import Interval

Systems = Mapping[str, Mapping[str, Any]]
"""Per system its metrics: numbers, `Interval`s or `{"mean", "low", "high"}`, so that JSON can be passed as read."""

_BARS = ("ndcg@10", "recall@10")
_FITS_80_COLUMNS = ("ndcg@5", "ndcg@10", "recall@10", "in_catalog", "repeats")
_LOWER_IS_BETTER = ("repeats",)
_NEITHER = ("lines", "tail", "popularity", "labels", "by_chance")


def comparison_table(
    systems: Systems, metrics: Sequence[str] | None = None, *, title: str | None = None, rows: str = "System"
) -> Table:
    """Return a table for the terminal: one row per system, one column per metric, the best of the systems in bold.

    Args:
        systems: per system its metrics. References (popularity, best possible) are shown, but never the best.
        metrics: columns; by default those of NDCG@5, NDCG@10, Recall@10, in-catalogue share and repeats that are
            there, or all metrics of the `served` protocol if none of them is.
        title: stands above the table.
        rows: what a row of the table is.

    Returns:
        A rich `Table`; show it with `rich.print(table)`.
    """
    there = _served_metrics(systems)
    columns = metrics or [metric for metric in _FITS_80_COLUMNS if metric in there] or there
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(rows, no_wrap=True)
    for metric in columns:
        table.add_column(metric_label(metric), justify="right")
    best = {metric: _best(systems, metric) for metric in columns}
    for name, values in systems.items():
        cells = [_cell(values.get(metric), bold=best[metric] == name) for metric in columns]
        table.add_row(escape(system_label(name)), *cells, style="dim" if name in REFERENCES else None)
    return table


def write_report(
    path: str | Path,
    *,
    title: str,
    systems: Systems,
    curves: Sequence[Curve] = (),
    hit_rates: Mapping[str, ArrayLike] | None = None,
    examples: Sequence[Example] = (),
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Sequence[str] | None = None,
    bars: Sequence[str] = _BARS,
    summary: str = "",
    scores: str = "Scores on held-out dialogues",
    rows: str = "System",
) -> Path:
    """Write a report as one HTML file: no scripts, nothing loaded from elsewhere, light or dark as the reader's screen.

    Args:
        path: the file to write.
        title: the heading.
        systems: per system its metrics, in the order to show them.
        curves: learning curves, each a picture.
        hit_rates: per system `(K,)` hit rates by rank, for one more picture.
        examples: dialogues with each system's list.
        facts: per group (for example `"Seeds"`, `"Versions"`) names and values of the run.
        metrics: columns of the table; by default all metrics of the `served` protocol.
        bars: metrics of the bar picture; those that no system has are left out.
        summary: a sentence or two under the heading.
        scores: the heading of the table, which is left out where nothing is measured.
        rows: what a row of the table is.

    Returns:
        The path.
    """
    columns = list(metrics) if metrics is not None else _served_metrics(systems)
    pictures = {
        theme_name: _draw(systems, curves, hit_rates or {}, bars, theme)
        for theme_name, theme in (("light", LIGHT), ("dark", DARK))
    }
    template = _environment().get_template("report.html.j2")
    html = template.render(
        title=title,
        summary=summary,
        scores=scores,
        rows=rows,
        metrics=columns,
        systems={name: {m: Interval.parse(v) for m, v in values.items()} for name, values in systems.items()},
        best={metric: _best(systems, metric) for metric in columns},
        references=REFERENCES,
        colours={"light": colours_of(list(systems), LIGHT), "dark": colours_of(list(systems), DARK)},
        pictures=[
            {"name": name, "light": _inline(pictures["light"][name]), "dark": _inline(pictures["dark"][name])}
            for name in pictures["light"]
        ],
        examples=examples,
        facts=facts or {},
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
    return path


def write_pictures(
    directory: str | Path,
    *,
    systems: Systems,
    curves: Sequence[Curve] = (),
    hit_rates: Mapping[str, ArrayLike] | None = None,
    bars: Sequence[str] = _BARS,
) -> list[Path]:
    """Write the report's pictures as PNG files, named after what they show; arguments as for `write_report`."""
    pictures = _draw(systems, curves, hit_rates or {}, bars, LIGHT)
    return [save_png(figure, Path(directory) / f"{_slug(name)}.png") for name, figure in pictures.items()]


def _draw(
    systems: Systems, curves: Sequence[Curve], hit_rates: Mapping[str, ArrayLike], bars: Sequence[str], theme: Theme
) -> dict[str, Figure]:
    pictures = {}
    drawn = [metric for metric in bars if any(metric in values for values in systems.values())]
    if drawn:
        measured = {name: values for name, values in systems.items() if any(metric in values for metric in drawn)}
        pictures["Final scores"] = bar_picture(measured, drawn, theme)
    pictures |= {curve.title: curve_picture(curve, theme) for curve in curves}
    if hit_rates:
        pictures["Hit rate by rank"] = rank_picture(hit_rates, theme)
    return pictures


def _served_metrics(systems: Systems) -> list[str]:
    names = dict.fromkeys(metric for values in systems.values() for metric in values)
    return [name for name in names if not name.startswith("strict_")]


def _best(systems: Systems, metric: str) -> str | None:
    """Return the best of the systems that are no references; None if fewer than two can be compared."""
    means = {
        name: Interval.parse(values[metric]).mean
        for name, values in systems.items()
        if metric in values and name not in REFERENCES
    }
    if len(means) < 2 or metric.partition("@")[0] in _NEITHER:
        return None
    return (min if metric in _LOWER_IS_BETTER else max)(means, key=lambda name: means[name])


def _cell(value: Any, *, bold: bool) -> str:
    if value is None:
        return ""
    interval = Interval.parse(value)
    mean = f"[bold]{interval.mean:.4f}[/bold]" if bold else f"{interval.mean:.4f}"
    if interval.low == interval.high:
        return mean
    low, high = (f"{bound:.3f}".removeprefix("0") for bound in (interval.low, interval.high))
    return f"{mean}\n[dim]{low}–{high}[/dim]"


def _slug(name: str) -> str:
    return "_".join("".join(char if char.isalnum() else " " for char in name.lower()).split())


def _inline(figure: Figure) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(figure)).decode("ascii")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["system"] = system_label
    environment.filters["metric"] = metric_label
    return environment
