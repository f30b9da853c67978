"""The eight numbers of a Rank-GRPO run that matter, in one picture; several runs are drawn over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rankrl.evaluation.pictures import LIGHT, Theme, colours_of, style_axes, system_label

Log = Sequence[Mapping[str, Any]]
"""The log that transformers keeps: one mapping a line, `log_history` of `trainer_state.json`."""


@dataclass(frozen=True)
class Panel:
    """One number of the log.

    Attributes:
        title: what it is.
        keys: its names in the log; the first that a run has is drawn. A key that ends in `@` stands for any cut.
    """

    title: str
    keys: tuple[str, ...]

    def series(self, log: Log) -> tuple[list[int], list[float]]:
        """Steps and values; empty where the run has none."""
        for key in self.keys:
            rows = [(entry["step"], entry[name]) for entry in log for name in entry if _is(name, key)]
            if rows:
                steps, values = zip(*rows, strict=True)
                return list(steps), list(values)
        return [], []


PANELS = (
    Panel("Validation NDCG", ("valid/ndcg@",)),
    Panel("Hits of sampled lists", ("hit/all",)),
    Panel("Informative cells", ("informative/all",)),
    Panel("Lines in the catalogue", ("in_catalog/all",)),
    Panel("Repeated items", ("repeat/all",)),
    Panel("Lines of a list", ("list_length",)),
    Panel("Entropy", ("entropy/all", "entropy")),
    Panel("KL to the start", ("kl/all", "kl")),
)


def run_picture(runs: Mapping[str, Log], theme: Theme = LIGHT) -> Figure:
    """Draw the eight numbers over the steps, a line for each run.

    Args:
        runs: per run its log.
        theme: the colours.

    Returns:
        A figure of two rows of four panels; one says so where no run has its number.
    """
    colours = colours_of(list(runs), theme)
    figure = Figure(figsize=(11, 5), dpi=160, layout="constrained", facecolor=theme.background)
    for place, panel in enumerate(PANELS, start=1):
        axes = figure.add_subplot(2, 4, place)
        style_axes(axes, theme)
        axes.grid(axis="y", color=theme.grid, linewidth=0.8)
        axes.set_title(panel.title, loc="left", color=theme.text, fontsize=11, fontweight="bold", pad=8)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if place > 4:
            axes.set_xlabel("step")
        for name, log in runs.items():
            _draw(axes, panel.series(log), colours[name])
        if not axes.lines:  # an empty frame from 0 to 1 would read as a number
            axes.set_axis_off()
            axes.text(0.0, 0.5, "not in the log", color=theme.muted, fontsize=9, transform=axes.transAxes)
    if len(runs) > 1:
        lines = [Line2D([], [], color=colours[name], linewidth=2, label=system_label(name)) for name in runs]
        figure.legend(handles=lines, loc="outside lower center", ncols=6, frameon=False, labelcolor=theme.text)
    return figure


def _draw(axes: Axes, series: tuple[list[int], list[float]], colour: str) -> None:
    """The values, and behind their noise a running mean once there are enough of them."""
    steps, values = series
    if not values:
        return
    if len(values) < 12:
        axes.plot(steps, values, color=colour, linewidth=2, marker="o", markersize=3)
        return
    axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
    window = max(3, len(values) // 10)
    means = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    axes.plot(steps, means, color=colour, linewidth=2, solid_capstyle="round")


def _is(name: str, key: str) -> bool:
    """`valid/ndcg@10` is `valid/ndcg@`; its standard error is not."""
    return name.removeprefix(key).isdecimal() if key.endswith("@") else name == key
