"""The card of demonstrations: what each step did to the lists, and how far teacher and judge can be trusted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rankrl.demonstrations import Demonstrations, RawLists
from rankrl.evaluation.evaluator import Scores, evaluate_ranked
from rankrl.evaluation.examples import Example
from rankrl.evaluation.report import write_report
from rankrl.evaluation.significance import Interval, bootstrap_means, dialogue_of

if TYPE_CHECKING:
    from catalog import Catalog
    from rankrl.data import Dialogue

HEAD_SHARE = 0.8  # the head: the fewest items that make up this share of what is wanted; the rest is the tail
_LABELS = {"raw": "teacher as is", "remap": "remap", "reflect": "+ reflect", "adjust": "+ adjust"}
CHOSEN = "what users chose"
_NUM_MOVED = 8


@dataclass(frozen=True)
class Popularity:
    """How popular listed items are.

    Attributes:
        tail: `(N,)` bool, items outside the head (`HEAD_SHARE`).
        percentile: `(N,)` float64, share of the items that are wanted less often, 0 to 1; ties in the middle.
    """

    tail: NDArray[np.bool_]
    percentile: NDArray[np.float64]

    @classmethod
    def of(cls, truth: Sequence[Mapping[int, float]], num_items: int) -> Popularity:
        """Count what is wanted.

        Args:
            truth: per dialogue the wanted items.
            num_items: N.
        """
        counts = np.bincount([item for row in truth for item in row], minlength=num_items)
        order = np.argsort(-counts, kind="stable")
        before = np.cumsum(counts[order]) - counts[order]
        tail = np.ones(num_items, dtype=bool)
        tail[order[before < HEAD_SHARE * counts.sum()]] = False
        ascending = np.sort(counts)
        below, upto = (np.searchsorted(ascending, counts, side) for side in ("left", "right"))
        return cls(tail, (below + upto) / (2 * num_items))

    def rows(self, ranked: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Per list the tail share and the mean percentile of its items, 0 for a list without any."""
        there = ranked >= 0
        counts = np.maximum(there.sum(axis=1), 1)
        return {
            "tail": (self.tail[ranked] & there).sum(axis=1) / counts,
            "popularity": (self.percentile[ranked] * there).sum(axis=1) / counts,
        }


def score_steps(
    demonstrations: Demonstrations,
    raw: RawLists,
    dialogues: Sequence[Dialogue],
    truth: Sequence[Mapping[int, float]],
    seen: Sequence[Collection[int]],
    num_items: int,
) -> dict[str, Scores]:
    """Scores of the lists after every step, on the rows whose truth is known.

    Raises:
        ValueError: if no row's truth is known.
    """
    lines = np.minimum(raw.lengths, demonstrations.lists["raw"].shape[1])
    return {
        _LABELS[step]: evaluate_ranked(
            ranked,
            truth,
            ids=[dialogue.id for dialogue in dialogues],
            num_items=num_items,
            seen=[set(row) for row in seen],
            num_lines=lines if step == "raw" else None,
        )
        for step, ranked in demonstrations.lists.items()
    }


def popularity_rows(
    demonstrations: Demonstrations, truth: Sequence[Mapping[int, float]], ids: Sequence[str], num_items: int
) -> dict[str, dict[str, Interval]]:
    """Per step, and for the truth itself, tail share and mean popularity percentile with their intervals."""
    popularity = Popularity.of(truth, num_items)
    dialogues = [dialogue_of(row_id) for row_id in ids]
    rows = {
        _LABELS[step]: bootstrap_means(popularity.rows(ranked), dialogues)
        for step, ranked in demonstrations.lists.items()
    }
    known = [(list(wanted), dialogue) for wanted, dialogue in zip(truth, dialogues, strict=True) if wanted]
    width = max(len(wanted) for wanted, _ in known)
    chosen = np.array([wanted + [-1] * (width - len(wanted)) for wanted, _ in known], dtype=np.int64)
    return rows | {CHOSEN: bootstrap_means(popularity.rows(chosen), [dialogue for _, dialogue in known])}


def write_card(
    folder: str | Path,
    *,
    demonstrations: Demonstrations,
    raw: RawLists,
    dialogues: Sequence[Dialogue],
    truth: Sequence[Mapping[int, float]],
    seen: Sequence[Collection[int]],
    catalog: Catalog,
    facts: Mapping[str, Mapping[str, Any]],
    held_out: bool = False,
) -> dict[str, dict[str, Any]]:
    """Write `card.md` and `card.html`.

    Args:
        folder: where to.
        demonstrations: what was built.
        raw: from what.
        dialogues, truth, seen: D rows of each.
        catalog: names the items.
        facts: more to tell, by heading: settings, cost, versions.
        held_out: was Adjust fitted on other rows than those it is scored on?

    Returns:
        Per step its metrics with intervals, as in the card.
    """
    systems = measured_steps(demonstrations, raw, dialogues, truth, seen, len(catalog))
    sections = {**statistics(demonstrations, raw, catalog), **facts}
    notes = (
        []
        if held_out or "adjust" not in demonstrations.lists
        else [
            "Adjust was fitted on the truth of these very dialogues: its row says what the model will imitate, not "
            "how good such lists are for others."
        ]
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.md").write_text(_markdown(systems, sections, notes), encoding="utf-8")
    steps = {_LABELS[step]: ranked for step, ranked in demonstrations.lists.items()}
    texts = {name: _texts(ranked[:5], catalog) for name, ranked in steps.items()}
    write_report(
        folder / "card.html",
        title="Demonstrations: from the teacher's lists to the catalogue's",
        summary=" ".join([f"{len(dialogues):,} dialogues, catalogue of {len(catalog):,} items.", *notes]),
        systems=systems,
        metrics=[name for name in _COLUMNS if any(name in values for values in systems.values())],
        examples=[
            Example.of(
                dialogue,
                {name: rows[row] for name, rows in texts.items()},
                catalog,
                num_ranks=demonstrations.final.shape[1],
            )
            for row, dialogue in enumerate(dialogues[:5])
        ],
        facts=sections,
    )
    return systems


def measured_steps(
    demonstrations: Demonstrations,
    raw: RawLists,
    dialogues: Sequence[Dialogue],
    truth: Sequence[Mapping[int, float]],
    seen: Sequence[Collection[int]],
    num_items: int,
) -> dict[str, dict[str, Any]]:
    """Per step every metric with its 95 % interval over dialogues."""
    ids = [dialogue.id for dialogue in dialogues]
    systems: dict[str, dict[str, Any]] = {
        name: dict(scores.intervals())
        for name, scores in score_steps(demonstrations, raw, dialogues, truth, seen, num_items).items()
    }
    for name, values in popularity_rows(demonstrations, truth, ids, num_items).items():
        systems.setdefault(name, {}).update(values)
    return systems


def statistics(demonstrations: Demonstrations, raw: RawLists, catalog: Catalog) -> dict[str, dict[str, Any]]:
    """What the steps say of themselves, by heading."""
    outside = int((raw.same_item < 0).sum())
    sections: dict[str, dict[str, Any]] = {
        "The teacher's lists": {
            "lists": len(raw.ranks),
            "answers without a list": int((raw.lengths == 0).sum()),
            "titles per list": f"{raw.lengths.mean():.1f}",
            "different titles": len(raw.titles),
            "outside the catalogue": outside,
            "for example": "; ".join(t for t, item in zip(raw.titles, raw.same_item, strict=True) if item < 0)[:200],
            "lines of prose": raw.prose,
        }
    }
    if (ratings := demonstrations.ratings) is not None:
        judge = ratings.statistics
        sections["The judge"] = {
            "requests": judge.requests,
            "items rated": judge.items,
            "correlation of rating and place": f"{judge.position_correlation:+.3f}",
            "flipped between orders": f"{judge.flipped:.1%}",
            "another level in another order": f"{judge.changed:.1%}",
            "never rated": f"{judge.unrated:.1%}",
            "requests without an answer": f"{judge.silent:.1%}",
            "lines that counted for nothing": ", ".join(f"{n} {why}" for why, n in judge.ignored.items()) or "none",
        }
    if (adjustment := demonstrations.adjustment) is not None and demonstrations.reflected is not None:
        rose, fell = adjustment.moved(demonstrations.reflected[:500], _NUM_MOVED)
        sections["Adjust"] = {
            name: "; ".join(
                f"{catalog.lines[item]} ({before:.0f} → {after:.0f})"
                for item, before, after in zip(moved.items, moved.rank_before, moved.rank_after, strict=True)
            )
            for name, moved in (("rose most (mean rank)", rose), ("fell most", fell))
        }
        if (fit := adjustment.report) is not None:
            sections["Adjust"]["learned from"] = f"{fit.num_wanted:,} wanted items, {fit.num_missing:,} no candidates"
            sections["Adjust"]["gradient"] = f"{fit.gradient_start:.3g} → {fit.gradient_end:.3g}"
    return sections


_COLUMNS = {
    "in_catalog": "In catalogue",
    "recall@10": "Recall@10",
    "ndcg@10": "NDCG@10",
    "recall@20": "Recall@20",
    "ndcg@20": "NDCG@20",
    "tail": "Tail share",
    "popularity": "Popularity percentile",
}


def _markdown(
    systems: Mapping[str, Mapping[str, Any]], sections: Mapping[str, Mapping[str, Any]], notes: list[str]
) -> str:
    columns = {name: label for name, label in _COLUMNS.items() if any(name in values for values in systems.values())}
    rows = [
        "| step | " + " | ".join(columns.values()) + " |",
        "| --- |" + " ---: |" * len(columns),
        *(
            f"| {system} | " + " | ".join(_cell(values.get(name)) for name in columns) + " |"
            for system, values in systems.items()
        ),
    ]
    text = ["# Demonstrations", "", "Means with 95 % intervals over dialogues.", *notes, "", *rows, ""]
    for heading, values in sections.items():
        text += [f"## {heading}", "", *(f"- {name}: {value}" for name, value in values.items()), ""]
    return "\n".join(text)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    interval = Interval.parse(value)
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _texts(ranked: NDArray[np.int64], catalog: Catalog) -> list[str]:
    return ["\n".join(catalog.lines[item] if item >= 0 else "(not in the catalogue)" for item in row) for row in ranked]
