"""The card of demonstrations: what each step did to the lists, and how far teacher and judge can be trusted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rankrl.data.splitting import dialogue_of
from rankrl.demonstrations import Demonstrations, RawLists
from rankrl.evaluation.card import judge_facts, markdown_card
from rankrl.evaluation.evaluator import Scores, evaluate_ranked
from rankrl.evaluation.examples import Example
from rankrl.evaluation.pictures import CHOSEN, metric_label
from rankrl.evaluation.report import write_report
from rankrl.evaluation.significance import Interval, bootstrap_means
from rankrl.metrics import Popularity, in_catalog_share, popularity_at_k, tail_share_at_k

if TYPE_CHECKING:
    from catalog import Catalog
    from rankrl.data import Dialogue

FITTED_HERE = (
    "Adjust was fitted on the truth of these very dialogues: its row says what the model will imitate, not how good "
    "such lists are for others."
)
_LABELS = {"raw": "teacher as is", "remap": "remap", "reflect": "+ reflect", "adjust": "+ adjust"}
_NUM_MOVED = _NUM_OUTSIDE = 8
_NUM_EXAMPLES = 5


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
    return {
        _LABELS[step]: evaluate_ranked(
            ranked,
            truth,
            ids=[dialogue.id for dialogue in dialogues],
            num_items=num_items,
            seen=[set(row) for row in seen],
            num_lines=_num_lines(step, ranked, raw),
        )
        for step, ranked in demonstrations.lists.items()
    }


def _num_lines(step: str, ranked: NDArray[np.int64], raw: RawLists) -> NDArray[np.int64]:
    """`(D,)`: how many lines each list of a step has."""
    return np.minimum(raw.lengths, ranked.shape[1]) if step == "raw" else (ranked >= 0).sum(axis=1)


def popularity_rows(
    demonstrations: Demonstrations, truth: Sequence[Mapping[int, float]], ids: Sequence[str], num_items: int
) -> dict[str, dict[str, Interval]]:
    """Per step, and for the truth itself, tail share and mean popularity percentile with their intervals.

    Lists without an item of the catalogue are neither popular nor unpopular: they are left out.
    """
    popularity = Popularity.of(truth, num_items)
    dialogues = [dialogue_of(row_id) for row_id in ids]
    width = max(map(len, truth))
    lists = {_LABELS[step]: ranked for step, ranked in demonstrations.lists.items()}
    lists[CHOSEN] = np.array([[*row, *[-1] * (width - len(row))] for row in truth], dtype=np.int64)
    rows = {}
    for name, ranked in lists.items():
        values = {
            "tail": tail_share_at_k(ranked, popularity.tail),
            "popularity": popularity_at_k(ranked, popularity.percentile),
        }
        rows[name] = bootstrap_means(values, dialogues, partial=values)
    return rows


def write_demonstration_card(
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
    scores = score_steps(demonstrations, raw, dialogues, truth, seen, len(catalog)) if any(truth) else {}
    systems = measured_steps(demonstrations, raw, scores, [dialogue.id for dialogue in dialogues], truth, len(catalog))
    sections = {**gains(scores), **statistics(demonstrations, raw, catalog), **facts}
    fitted_here = "adjust" in demonstrations.lists and not held_out
    notes = [FITTED_HERE] if fitted_here else []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.md").write_text(
        markdown_card("Demonstrations", systems, card_columns(systems), sections, notes), encoding="utf-8"
    )
    num_ranks = demonstrations.final.shape[1]
    texts = _example_texts(demonstrations, raw, catalog, dialogues[:_NUM_EXAMPLES])
    write_report(
        folder / "card.html",
        title="Demonstrations: from the teacher's lists to the catalogue's",
        summary=" ".join([f"{len(dialogues):,} dialogues, catalogue of {len(catalog):,} items.", *notes]),
        scores="The lists after every step",
        systems=systems,
        metrics=card_columns(systems),
        examples=[
            Example.of(dialogue, lists, catalog, num_ranks=num_ranks)
            for dialogue, lists in zip(dialogues, texts, strict=False)
        ],
        facts=sections,
    )
    return systems


def gains(scores: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """What each step added to the one before it, paired, at the largest cut of NDCG up to 10."""
    if len(scores) < 2:
        return {}
    steps = list(scores)
    known = [name for name in scores[steps[0]].rows if name.startswith("ndcg@")]  # cuts above K are left out
    metric = "ndcg@10" if "ndcg@10" in known else known[-1]
    return {
        f"What each step gained ({metric_label(metric)}, paired)": {
            step: str(scores[step].differences(scores[before])[metric]) for before, step in pairwise(steps)
        }
    }


def measured_steps(
    demonstrations: Demonstrations,
    raw: RawLists,
    scores: Mapping[str, Scores],
    ids: Sequence[str],
    truth: Sequence[Mapping[int, float]],
    num_items: int,
) -> dict[str, dict[str, Any]]:
    """Per step every metric with its 95 % interval over dialogues; where no truth is known, the in-catalogue share."""
    if not scores:
        names = [dialogue_of(row_id) for row_id in ids]
        shares = {
            step: in_catalog_share(ranked, _num_lines(step, ranked, raw))
            for step, ranked in demonstrations.lists.items()
        }
        return {_LABELS[step]: dict(bootstrap_means({"in_catalog": share}, names)) for step, share in shares.items()}
    systems: dict[str, dict[str, Any]] = {name: dict(step.intervals()) for name, step in scores.items()}
    for name, values in popularity_rows(demonstrations, truth, ids, num_items).items():
        systems.setdefault(name, {}).update(values)
    return systems


def statistics(demonstrations: Demonstrations, raw: RawLists, catalog: Catalog) -> dict[str, dict[str, Any]]:
    """What the steps say of themselves, by heading."""
    titles_outside = [title for title, item in zip(raw.titles, raw.same_item, strict=True) if item < 0]
    sections: dict[str, dict[str, Any]] = {
        "The teacher's lists": {
            "lists": len(raw.ranks),
            "answers without a list": int((raw.lengths == 0).sum()),
            "titles per list": f"{raw.lengths.mean():.1f}",
            "different titles": len(raw.titles),
            "outside the catalogue": len(titles_outside),
            "for example": "; ".join(titles_outside[:_NUM_OUTSIDE]),
            "lines of prose": raw.prose,
        }
    }
    if demonstrations.overlap is not None:
        share = f"{demonstrations.overlap:.1%} of the lists' items would be there with all items as candidates, too"
        sections["Candidates"] = {"first dialogues, all items scored": share}
    if (ratings := demonstrations.ratings) is not None:
        sections["The judge"] = judge_facts(ratings.statistics)
    if (adjustment := demonstrations.adjustment) is not None and demonstrations.reflected is not None:
        if (fit := adjustment.report) is not None:
            sections["Adjust"] = {
                "learned from": f"{fit.num_wanted:,} wanted items",
                "wanted, but no candidates": f"{fit.num_missing:,}",
                "gradient norm, start → end": f"{fit.gradient_start:.3g} → {fit.gradient_end:.3g}",
            }
        for name, moved in zip(
            ("rose", "fell"), adjustment.moved(demonstrations.reflected[:500], _NUM_MOVED), strict=True
        ):
            sections[f"Adjust: {name} most, by mean rank"] = {
                catalog.lines[item]: f"{before:.0f} → {after:.0f}"
                for item, before, after in zip(moved.items, moved.rank_before, moved.rank_after, strict=True)
            }
    return sections


def card_columns(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics of a card: quality at 10 and 20, or at whatever shorter lists have, and what is listed."""
    there = {name for values in systems.values() for name in values}
    cuts = sorted(int(name.removeprefix("ndcg@")) for name in there if name.startswith("ndcg@"))
    cuts = [cut for cut in cuts if cut >= 10] or cuts[-1:]
    quality = [f"{metric}@{cut}" for cut in cuts for metric in ("recall", "ndcg")]
    return [name for name in ("in_catalog", *quality, "tail", "popularity") if name in there]


def _example_texts(
    demonstrations: Demonstrations, raw: RawLists, catalog: Catalog, dialogues: Sequence[Dialogue]
) -> list[dict[str, str]]:
    """Per dialogue the list after every step as text; the raw one as the teacher named it."""
    texts = []
    for row in range(len(dialogues)):
        lists = {
            _LABELS[step]: [catalog.lines[i] for i in ranked[row] if i >= 0]
            for step, ranked in demonstrations.lists.items()
        }
        lists[_LABELS["raw"]] = [raw.titles[title] for title in raw.ranks[row] if title >= 0]
        texts.append({name: "\n".join(lines) for name, lines in lists.items()})
    return texts
