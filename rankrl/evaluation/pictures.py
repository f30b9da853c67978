"""Pictures of a run: learning curves, hit rate by rank, and final bars with intervals. PNG, light or dark.

A system has the same colour in every picture, and lines carry their names at their ends instead of in a legend.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from rankrl.evaluation.significance import Interval

_LABELS = {
    "sft": "SFT",
    "rank_grpo": "Rank-GRPO",
    "rank_grpo, requests shuffled": "Rank-GRPO, requests shuffled",
    "rank_grpo_official": "Rank-GRPO, released form",
    "grpo": "GRPO",
    "grpo_dcg": "GRPO, rewarded by DCG",
    "gspo": "GSPO",
    "dr_grpo": "Dr. GRPO",
    "dapo": "DAPO",
    "start": "Start",
    "popularity": "Popularity",
    "best_possible": "Best possible",
}
_HUE = {"sft": 1, "rank_grpo": 0}  # their places in a theme's hues, whatever else is drawn
CHOSEN = "what users chose"
REFERENCES = ("start", "random", "popularity", "best_possible", CHOSEN)
"""Systems that are no competitors but marks to measure by; drawn in grey."""


@dataclass(frozen=True)
class Theme:
    """The colours of a picture, as hex."""

    background: str
    text: str
    muted: str
    grid: str
    hues: tuple[str, ...]


LIGHT = Theme(
    "#ffffff",
    "#1c2330",
    "#6b7484",
    "#e6e9ee",
    ("#2563c9", "#dd7a1d", "#27936a", "#8a56c2", "#c8405a", "#15879b", "#7d5a3c"),
)
DARK = Theme(
    "#161b24",
    "#e4e8ef",
    "#98a2b3",
    "#2b3341",
    ("#6ea3f7", "#f0a04b", "#57c79a", "#b98fe8", "#f0788e", "#4fc3d6", "#c9a27c"),
)


@dataclass(frozen=True)
class Curve:
    """What one learning-curve picture shows.

    Attributes:
        title: what is plotted, in a few words.
        x_label: for example `"step"`.
        y_label: for example `"loss"`.
        lines: per line its name and its `(x values, y values)`. Values that are NaN leave a gap.
        window: points of the running mean; with more than 1 the raw values stay visible as a faint line behind it.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    window: int = 1


def curve_picture(curve: Curve, theme: Theme = LIGHT) -> Figure:
    """Draw a learning curve, each line named at its right end."""
    figure, axes = _canvas(curve.title, theme)
    colours = colours_of(list(curve.lines), theme)
    ends: dict[str, tuple[float, float]] = {}
    for name, line in curve.lines.items():
        x, y = (np.asarray(values, dtype=float) for values in line)
        if curve.window > 1:
            axes.plot(x, y, color=colours[name], linewidth=0.8, alpha=0.25)
            y = _running_mean(y, curve.window)
        axes.plot(x, y, color=colours[name], **_stroke(name))
        if np.isfinite(y).any():
            last = np.flatnonzero(np.isfinite(y))[-1]
            ends[name] = (x[last], y[last])
    axes.set_xlabel(curve.x_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # steps, lists, seconds, ranks
    axes.set_ylabel(curve.y_label)
    axes.margins(x=0.02)
    if len(curve.lines) > 1:
        _name_ends(axes, ends, colours)
    return figure


def rank_picture(hit_rates: Mapping[str, ArrayLike], theme: Theme = LIGHT) -> Figure:
    """Draw each system's share of rows with a hit at each rank.

    Args:
        hit_rates: per system `(K,)` shares in [0, 1], as `Scores.hit_rate_by_rank`.
        theme: the colours.
    """
    figure, axes = _canvas("Hit rate at each rank", theme)
    colours = colours_of(list(hit_rates), theme)
    ends = {}
    for name, rates in hit_rates.items():
        rates = 100 * np.asarray(rates, dtype=float)
        ranks = np.arange(1, len(rates) + 1)
        axes.plot(ranks, rates, color=colours[name], marker="o", markersize=3.5, **_stroke(name))
        ends[name] = (ranks[-1], rates[-1])
    axes.set_xlabel("rank in the list")
    axes.set_ylabel("rows with a hit there, %")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 5, 10]))
    _name_ends(axes, ends, colours)
    return figure


def bar_picture(systems: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], theme: Theme = LIGHT) -> Figure:
    """Draw one panel per metric, one bar per system with its 95 % interval and its value.

    Args:
        systems: per system its metrics: numbers, `Interval`s or `{"mean", "low", "high"}`.
        metrics: names of the metrics to draw; a system that lacks one has no bar there.
        theme: the colours.
    """
    names = list(systems)
    colours = colours_of(names, theme)
    figure = Figure(figsize=(7.2, 0.9 + 0.42 * len(names)), dpi=160, layout="constrained", facecolor=theme.background)
    for panel, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), panel + 1)
        style_axes(axes, theme)
        axes.set_title(metric_label(metric), loc="left", color=theme.text, fontsize=11, fontweight="bold", pad=8)
        _draw_bars(axes, [systems[name].get(metric) for name in names], names, colours, theme)
        axes.set_yticks(range(len(names)), [system_label(name) for name in names] if panel == 0 else [])
        axes.set_ylim(len(names) - 0.4, -0.6)
    return figure


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write a picture to a file and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(figure))
    return path


def png_bytes(figure: Figure) -> bytes:
    """Return a picture as the bytes of a PNG file; the same picture gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def colours_of(names: Sequence[str], theme: Theme = LIGHT) -> dict[str, str]:
    """Return a colour per name: fixed for the systems every run has, the theme's other hues in order for the rest."""
    fixed = {name: theme.hues[hue] for name, hue in _HUE.items() if name in names}
    fixed |= {name: theme.muted for name in REFERENCES}
    free = cycle(hue for hue in theme.hues if hue not in fixed.values())
    return {name: fixed[name] if name in fixed else next(free) for name in names}


_MEASURES = {
    "in_catalog": "In catalogue",
    "mrr": "MRR",
    "ndcg": "NDCG",
    "tail": "Tail share",
    "popularity": "Popularity percentile",
    "tail_recall": "Tail recall",
    "labels": "Labels per dialogue",
    "recovered": "True labels recovered",
    "also_true": "Labels that are true",
    "by_chance": "Recovered by chance",
}


def system_label(name: str) -> str:
    """Return how a system's name is written for people: `rank_grpo` -> `Rank-GRPO`."""
    return _LABELS.get(name, name if "/" in name else name.replace("_", " "))  # a path stays one


def metric_label(name: str) -> str:
    """Return how a metric's name is written for people: `strict_ndcg@10` -> `NDCG@10, strict`."""
    plain = name.removeprefix("strict_")
    measure, _, k = plain.partition("@")
    label = _MEASURES.get(measure, measure.capitalize()) + (k and f"@{k}")
    return f"{label}, strict" if plain != name else label


def _canvas(title: str, theme: Theme) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 3.6), dpi=160, layout="constrained", facecolor=theme.background)
    axes = figure.add_subplot()
    style_axes(axes, theme)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_title(title, loc="left", color=theme.text, fontsize=12, fontweight="bold", pad=10)
    return figure, axes


def style_axes(axes: Axes, theme: Theme) -> None:
    """Give axes the theme's colours, and no frame but the line below."""
    axes.set_facecolor(theme.background)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=9, length=0)
    axes.xaxis.label.set(color=theme.muted, fontsize=9)
    axes.yaxis.label.set(color=theme.muted, fontsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)


def _stroke(name: str) -> dict[str, Any]:
    if name in REFERENCES:
        return {"linewidth": 1.3, "linestyle": "--" if name == "best_possible" else ":"}
    return {"linewidth": 2, "solid_capstyle": "round"}


def _draw_bars(
    axes: Axes, values: Sequence[Any], names: Sequence[str], colours: Mapping[str, str], theme: Theme
) -> None:
    bars = [(place, Interval.parse(value)) for place, value in enumerate(values) if value is not None]
    longest = max((interval.high for _, interval in bars), default=0.0) or 1.0
    for place, interval in bars:
        name = names[place]
        alpha = 0.45 if name in REFERENCES else 0.9
        axes.barh(place, interval.mean, height=0.62, color=colours[name], alpha=alpha)
        if interval.high > interval.low:
            axes.plot([interval.low, interval.high], [place, place], color=theme.text, linewidth=1.4, alpha=0.75)
        axes.text(
            interval.high + 0.03 * longest, place, f"{interval.mean:.3f}", va="center", color=theme.text, fontsize=9
        )
    axes.set_xlim(0, 1.25 * longest)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.axvline(0, color=theme.muted, linewidth=0.8)


def _name_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, str]) -> None:
    """Write each line's name at its right end, moved apart where ends are close."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = _spread(np.array([ends[name][1] for name in names]), gap=0.07 * (high - low), low=low, high=high)
    right = max((x for x, _ in ends.values()), default=0.0)
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            system_label(name),
            (right, height),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=colours[name],
            fontsize=9.5,
            fontweight="bold",
            annotation_clip=False,
        )


def _spread(heights: NDArray[np.float64], *, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move ascending heights apart by at least `gap`, keeping their order, and within bounds if they fit."""
    placed = heights.copy()
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + gap)
    if len(placed) and placed[-1] > high:
        placed[-1] = max(high, low)
        for index in range(len(placed) - 2, -1, -1):
            placed[index] = min(placed[index], placed[index + 1] - gap)
    return placed


def _running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Average each value with the up to `window - 1` before it; NaN is left out."""
    known = np.isfinite(values)
    totals = np.cumsum(np.where(known, values, 0.0))
    counts = np.cumsum(known)
    totals[window:], counts[window:] = totals[window:] - totals[:-window], counts[window:] - counts[:-window]
    with np.errstate(invalid="ignore"):
        return totals / counts
