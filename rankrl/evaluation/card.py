"""What the cards of demonstrations and of augmented labels share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankrl.evaluation.pictures import metric_label
from rankrl.evaluation.significance import Interval
from rankrl.teachers.rating_statistics import RatingStatistics


def judge_facts(judge: RatingStatistics) -> dict[str, Any]:
    """How far a judge can be trusted, in words."""
    return {
        "requests": judge.requests,
        "items rated": judge.items,
        "correlation of rating and place": _known(judge.position_correlation, "+.3f"),
        "flipped between orders": _known(judge.flipped, ".1%"),
        "another level in another order": _known(judge.changed, ".1%"),
        "never rated": _known(judge.unrated, ".1%"),
        "requests without an answer": _known(judge.silent, ".1%"),
        "lines that counted for nothing": ", ".join(f"{n} {why}" for why, n in judge.ignored.items()) or "none",
    }


def markdown_card(
    title: str,
    systems: Mapping[str, Mapping[str, Any]],
    columns: Sequence[str],
    sections: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    *,
    rows: str = "step",
) -> str:
    """A card as Markdown: notes, a table of means with intervals, a list for each section.

    Args:
        title: the heading.
        systems: per row of the table its metrics.
        columns: the metrics shown; without any there is no table.
        sections: names and values by heading.
        notes: sentences above the table.
        rows: what a row of the table is.
    """
    table = [
        f"| {rows} | " + " | ".join(metric_label(name) for name in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
        *(
            f"| {system} | " + " | ".join(_cell(values.get(name)) for name in columns) + " |"
            for system, values in systems.items()
        ),
    ]
    above = [*(["Means with 95 % intervals over dialogues."] if columns else []), *notes]
    text = [f"# {title}", ""]
    text += [*above, ""] if above else []
    text += [*table, ""] if columns else []
    for heading, values in sections.items():
        text += [f"## {heading}", "", *(f"- {name}: {value}" for name, value in values.items()), ""]
    return "\n".join(text)


def _cell(value: Any) -> str:
    return "" if value is None else str(Interval.parse(value))


def _known(value: float, form: str) -> str:
    return "unknown" if np.isnan(value) else format(value, form)
