"""The card of augmented labels: how many there are, how good their scores are, how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rankrl.data.splitting import dialogue_of
from rankrl.evaluation.card import judge_facts, markdown_card
from rankrl.evaluation.examples import Example, ListLine
from rankrl.evaluation.pictures import Curve
from rankrl.evaluation.report import write_report
from rankrl.evaluation.significance import bootstrap_means
from rankrl.labels import AugmentedLabels, Scored, calibration, reliability
from rankrl.labels.scores_file import HIGHEST

if TYPE_CHECKING:
    from catalog import Catalog
    from rankrl.data import Dialogue

BIN = 0.5  # width of the histogram's bins, in levels
_NUM_EXAMPLES = 5
_NUM_LEFT_OUT = 10  # per example
_RECOVERED = (
    "Recovered: share of the true labels, which nobody who scored has seen, that are among the augmented ones; by "
    "chance: what as many random items would recover. A log names few of the fitting items, so that most augmented "
    "labels cannot be true ones."
)
COLUMNS = ("labels", "recovered", "by_chance", "also_true")


def write_label_card(
    folder: str | Path,
    *,
    scored: Scored,
    augmented: AugmentedLabels,
    sources: Mapping[str, Sequence[Mapping[int, float]]],
    dialogues: Sequence[Dialogue],
    truth: Sequence[Mapping[int, float]],
    catalog: Catalog,
    facts: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Write `card.md` and `card.html`.

    Args:
        folder: where to.
        scored: D dialogues with their scored items.
        augmented: what became of them.
        sources: name -> labels of each dialogue, the ones written first: sources to compare by what they recover.
        dialogues, truth: D rows of each.
        catalog: names the items.
        facts: more to tell, by heading.

    Returns:
        Per source its metrics with intervals, as in the card; empty where no truth is known.
    """
    ids = [dialogue.id for dialogue in dialogues]
    systems = {name: source_metrics(labels, truth, ids, len(catalog)) for name, labels in sources.items()}
    systems = {name: metrics for name, metrics in systems.items() if metrics}
    sections = {**label_facts(scored, augmented), **calibration_facts(scored, truth), **facts}
    notes = [_RECOVERED] if systems else []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    columns = [name for name in COLUMNS if any(name in metrics for metrics in systems.values())]
    text = markdown_card("Augmented labels", systems, columns, sections, notes, rows="source")
    (folder / "card.md").write_text(text, encoding="utf-8")
    write_report(
        folder / "card.html",
        title="Augmented labels: what would suit the user",
        summary=" ".join([f"{len(dialogues):,} dialogues, catalogue of {len(catalog):,} items.", *notes]),
        scores="Sources of labels",
        rows="Source",
        systems=systems,
        metrics=columns,
        bars=("recovered", "also_true"),
        curves=score_curves(scored, truth),
        examples=[
            label_example(dialogues[row], scored, row, augmented.labels[row], truth[row], catalog)
            for row in range(min(len(dialogues), _NUM_EXAMPLES))
        ],
        facts=sections,
    )
    return systems


def source_metrics(
    labels: Sequence[Mapping[int, float]], truth: Sequence[Mapping[int, float]], ids: Sequence[str], num_items: int
) -> dict[str, Any]:
    """Per dialogue with a known truth: number of labels, share of the truth they recover, share by chance, share of the
    labels that are true; means with intervals over dialogues. Empty where no truth is known."""
    known = [row for row, wanted in enumerate(truth) if wanted]
    if not known:
        return {}
    labels, truth = [labels[row] for row in known], [truth[row] for row in known]
    measured = reliability(labels, truth, num_items)
    counts = np.array([len(row) for row in labels])
    rows = {
        "labels": counts.astype(np.float64),
        "recovered": measured.found / measured.wanted,
        "by_chance": measured.chance,
        "also_true": np.where(counts > 0, measured.found / np.maximum(counts, 1), np.nan),
    }
    return dict(bootstrap_means(rows, [dialogue_of(ids[row]) for row in known], partial=("also_true",)))


def label_facts(scored: Scored, augmented: AugmentedLabels) -> dict[str, dict[str, Any]]:
    """Labels, trust and the judge, by heading."""
    counts = np.array([len(row) for row in augmented.labels])
    gains = np.array([gain for row in augmented.labels for gain in row.values()])
    sections: dict[str, dict[str, Any]] = {
        "Labels": {
            "scored by": scored.source,
            "items scored": f"{int((~np.isnan(scored.scores)).sum()):,}",
            "labels": f"{counts.sum():,}",
            "labels per dialogue": f"{counts.mean():.1f}",
            "dialogues without a label": int((counts == 0).sum()),
            "gains": f"{gains.mean():.2f} ({gains.min():.2f} to {gains.max():.2f})" if gains.size else "none",
        }
    }
    if (measured := augmented.reliability) is not None:
        sections["Trust"] = {
            "true labels recovered": f"{measured.recovered:.1%} of {measured.wanted.sum():,}",
            "random labels would recover": f"{measured.expected:.1%}",
            "trust in the source": f"{measured.source_trust:.3f}",
            "trust in a dialogue, 10th to 90th percentile": " to ".join(
                f"{value:.3f}" for value in np.percentile(augmented.trust, [10, 90])
            ),
        }
    else:
        sections["Trust"] = {"given": f"{augmented.trust[0]:g}" if len(augmented.trust) else "none"}
    if scored.statistics is not None:
        sections["The judge"] = judge_facts(scored.statistics)
    return sections


def calibration_facts(scored: Scored, truth: Sequence[Mapping[int, float]]) -> dict[str, dict[str, Any]]:
    """The rate of true labels among items of each score."""
    if not any(truth):
        return {}
    bins = calibration(scored, truth)
    found, items = sum(part.wanted for part in bins), sum(part.items for part in bins)
    return {
        "Calibration: true labels among the items scored": {
            **{f"{part.low:g} to {part.high:g}": f"{part.rate:.2%} of {part.items:,}" for part in bins if part.items},
            "in all": f"{found:,} of {items:,}, or {found / sum(map(len, truth)):.1%} of the true labels",
        }
    }


def score_curves(scored: Scored, truth: Sequence[Mapping[int, float]]) -> list[Curve]:
    """The histogram of the scores, and how often items scored so are true labels."""
    edges: NDArray[np.float64] = np.arange(0, HIGHEST + BIN, BIN)
    given = scored.scores[~np.isnan(scored.scores)]
    counts, _ = np.histogram(given, edges)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    shares = (counts / max(counts.sum(), 1)).tolist()
    curves = [Curve("Scores", "score", "share of the items", {"items": (middles, shares)})]
    if any(truth):
        bins = [part for part in calibration(scored, truth, edges.tolist()) if part.items]
        points = ([(part.low + part.high) / 2 for part in bins], [part.rate for part in bins])
        curves.append(Curve("Calibration", "score", "share that are true labels", {"true labels": points}))
    return curves


def label_example(
    dialogue: Dialogue,
    scored: Scored,
    row: int,
    labels: Mapping[int, float],
    truth: Mapping[int, float],
    catalog: Catalog,
) -> Example:
    """A dialogue with its augmented labels, and with what was scored but is no label, best first."""
    items = scored.items[row]
    order = [at for at in np.argsort(-np.nan_to_num(scored.scores[row], nan=-1.0), kind="stable") if items[at] >= 0]

    def line(at: int) -> ListLine:
        reason = scored.reasons[row][at] if scored.reasons else ""
        score = scored.scores[row, at]
        rated = "not rated" if np.isnan(score) else f"{score:.1f}"
        text = f"{catalog.lines[items[at]]}: {rated}" + (f", {reason}" if reason else "")
        return ListLine(text, "hit" if int(items[at]) in truth else "miss")

    kept = [line(at) for at in order if int(items[at]) in labels]
    kept += [ListLine(f"{catalog.lines[item]}: put in at random", "miss") for item in labels if item not in items]
    left = [line(at) for at in order if int(items[at]) not in labels]
    return Example(
        id=dialogue.id,
        messages=list(dialogue.messages),
        truth=[catalog.lines[item] for item in sorted(truth)],
        lists={"augmented labels": kept, "left out": left[:_NUM_LEFT_OUT]},
    )
