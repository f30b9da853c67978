"""Augmented labels: which items would suit the user of each dialogue, beside those that the log names.

    python recipes/augment_labels.py --config recipes/configs/augment_labels.yaml --catalog CATALOG \\
        --dialogues TRAIN.jsonl --dry_run true      # what will be asked, and what it costs
    python recipes/augment_labels.py ...            # the same without --dry_run
    accelerate launch recipes/rank_grpo.py --dialogues runs/labels/labels.jsonl --augmented_weight 0.1 ...

Every answer of a teacher is kept (`teacher_cache`), and so are a local scorer's scores: a run that was stopped goes on
where it was, at no further cost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from catalog import Catalog, ItemReference
from rankrl.data import Dialogue, save_dialogues
from rankrl.demonstrations.texts import dialogue_text
from rankrl.evaluation import comparison_table
from rankrl.evaluation.label_card import COLUMNS, write_label_card
from rankrl.evaluation.significance import plain_metrics
from rankrl.labels import (
    AugmentedLabels,
    LocalScorer,
    Retrieved,
    Scored,
    ScoredDialogue,
    ScoredItem,
    encoder_scores,
    kept_labels,
    local_scores,
    replace_at_random,
    retrieve,
    save_scores,
    teacher_scores,
    weigh_by_trust,
)
from rankrl.labels.score import candidate_lines
from rankrl.labels.scores_file import HIGHEST
from rankrl.run.arguments import LabelArguments
from rankrl.run.parser import RecipeParser
from rankrl.run.start import file_hash, read_data, resolve_dialogues, versions, write_manifest
from rankrl.run.teacher import stopped_in_words, teacher_facts
from rankrl.run.texts import ItemTexts, make_encoder, own_texts
from rankrl.teachers import (
    JudgeTemplate,
    Messages,
    Teacher,
    TeacherConfig,
    judge_requests,
    load_teacher,
    plan_showings,
)
from rankrl.teachers.rating import LABEL_SCALE

logger = logging.getLogger("rankrl.augment_labels")
console = Console()


@dataclass(frozen=True)
class Scorer:
    """Who says how well items suit a dialogue: a teacher, a local scorer, or the encoder that retrieved them."""

    args: LabelArguments
    catalog: Catalog
    dialogues: Sequence[Dialogue]
    teacher: Teacher | None
    judging: JudgeTemplate
    local: LocalScorer | None

    @property
    def unfinished(self) -> Path:
        """Where a local scorer's scores are kept until all are there."""
        return Path(self.args.output_dir) / "scores.part"

    def score(self, retrieved: Retrieved) -> Scored:
        """The retrieved items of every dialogue with their scores."""
        if self.args.scorer == "encoder":
            return encoder_scores(retrieved, encoder_name(self.args))
        messages = [dialogue.messages for dialogue in self.dialogues]
        if self.local is not None:
            return local_scores(self.local, messages, retrieved.items, own_texts(self.catalog), keep=self.unfinished)
        assert self.teacher is not None  # main
        return teacher_scores(
            self.teacher,
            messages,
            retrieved.items,
            self.catalog.lines,
            template=self.judging,
            num_orders=self.args.num_orders,
            window=self.args.window,
            seed=self.args.seed,
            reasons=self.args.reasons,
        )

    def requests(self, items: NDArray[np.int64]) -> list[Messages]:
        """What the teacher would be asked of `(D, M)` items."""
        candidates = candidate_lines(items, self.catalog.lines)
        showings = plan_showings(
            candidates, num_orders=self.args.num_orders, window=self.args.window, seed=self.args.seed
        )
        messages = [dialogue.messages for dialogue in self.dialogues]
        return judge_requests(
            messages, candidates, showings, template=self.judging, scale=LABEL_SCALE, reasons=self.args.reasons
        )


def main(args: LabelArguments, teacher_args: TeacherConfig) -> AugmentedLabels | None:
    """Write the dialogues with `augmented`, and a card, to `args.output_dir`."""
    # Whatever can be wrong with the settings is found before the first call is paid for.
    catalog, dialogues = read_data(args, allow_empty_truth=args.allow_empty_truth)
    truth, seen = resolve_dialogues(catalog, dialogues, unknown_limit=args.unknown_limit)
    check_settings(args, any(truth))
    teacher = load_teacher(teacher_args) if teacher_args.teacher_model or ":" in teacher_args.teacher else None
    if teacher is None and args.scorer == "teacher":
        raise ValueError("nobody scores: name a teacher (teacher_model), or set scorer to encoder")
    texts = ItemTexts(args, catalog)
    judging = JudgeTemplate.load(args.judge_template or args.teacher_domain)
    local = None if args.scorer in ("teacher", "encoder") else LocalScorer.load(args.scorer)
    scorer = Scorer(args, catalog, dialogues, teacher, judging, local)

    undescribed = texts.undescribed() if teacher is not None else []
    if args.dry_run and not plan_descriptions(scorer, texts.requests(undescribed)):
        return None
    item_texts = texts.of_items(texts.describe(teacher, undescribed))
    encoder = make_encoder(args, item_texts)
    requests = encoder.encode([dialogue_text(dialogue.messages) for dialogue in dialogues])
    retrieved = retrieve(requests, encoder.encode(item_texts), args.num_candidates, exclude=seen)
    if args.dry_run:
        show_plan("scores", teacher, scorer.requests(retrieved.items))
        return None

    scored = scorer.score(retrieved)
    labels = kept_labels(scored, args.min_score)
    if args.corrupt:
        logger.warning("%.0f %% of the labels are replaced by random items (corrupt)", 100 * args.corrupt)
        labels = replace_at_random(labels, len(catalog), args.corrupt, seed=args.seed)
    augmented = weigh_by_trust(labels, truth, len(catalog), prior=args.prior, trust=args.trust)
    measured = augmented.reliability

    output = Path(args.output_dir)
    hashes = {path: file_hash(path) for path in (args.metadata_template, args.judge_template) if path}
    write_manifest(output, catalog, None, args, teacher_args, inputs=hashes, teacher=teacher_facts(teacher))
    save_scores(output / "scores.jsonl", scored_rows(dialogues, retrieved, scored, catalog))
    scorer.unfinished.unlink(missing_ok=True)
    save_dialogues(output / "labels.jsonl", with_labels(dialogues, augmented, catalog))
    sources = {scored.source: labels}
    if args.scorer != "encoder":
        alone = f"{encoder_name(args)} alone"
        sources[alone] = kept_labels(encoder_scores(retrieved, alone), args.min_score)
    systems = write_label_card(
        output,
        scored=scored,
        augmented=augmented,
        sources=sources,
        dialogues=dialogues,
        truth=truth,
        catalog=catalog,
        facts={"Teacher": teacher_facts(teacher), "Settings": settings_of(args), "Versions": versions()},
    )
    trust = args.trust if measured is None else measured.source
    text = json.dumps({"sources": plain_metrics(systems), "trust": trust}, indent=1) + "\n"
    (output / "metrics.json").write_text(text, encoding="utf-8")
    if systems:
        title = f"{len(dialogues):,} dialogues, 95 % intervals"
        console.print(comparison_table(systems, COLUMNS, title=title, rows="Source"))
    console.print(f"Dialogues with augmented labels, and their card: [bold]{output}[/bold]")
    return augmented


def check_settings(args: LabelArguments, truth_is_known: bool) -> None:
    """Refuse what cannot work.

    Raises:
        ValueError: if trust has to be measured and no truth is known, or a number is out of range.
    """
    if args.trust is None and not truth_is_known:
        raise ValueError(
            "trust is measured by how often labels find true ones, and no dialogue has any: say how much the labels "
            "may count, such as --trust 0.3"
        )
    if args.scorer not in ("teacher", "encoder") and not Path(args.scorer).is_dir():
        raise ValueError(
            f"scorer is {args.scorer!r}; expected teacher, encoder, or the directory of a local scorer, which "
            "recipes/tune_scorer.py makes"
        )
    ranges = {
        "min_score": (0 < args.min_score <= HIGHEST, f"a score above 0, at most {HIGHEST:g}"),
        "trust": (args.trust is None or 0 <= args.trust <= 1, "0 (labels count nothing) to 1 (as much as true ones)"),
        "prior": (args.prior >= 0, "0 (each dialogue by itself) or more"),
        "corrupt": (0 <= args.corrupt <= 1, "a share of the labels, 0 to 1"),
        **{name: (getattr(args, name) >= 1, "at least 1") for name in ("num_candidates", "num_orders", "window")},
    }
    for name, (fits, expected) in ranges.items():
        if not fits:
            raise ValueError(f"{name} is {getattr(args, name)}; expected {expected}")


def with_labels(dialogues: Sequence[Dialogue], augmented: AugmentedLabels, catalog: Catalog) -> list[Dialogue]:
    """The dialogues with what was found for them."""
    rows = []
    for dialogue, labels in zip(dialogues, augmented.labels, strict=True):
        items = [(catalog[item], gain) for item, gain in labels.items()]
        found = [ItemReference(item.key, item.title, item.year, float(f"{gain:.6g}")) for item, gain in items]
        rows.append(replace(dialogue, augmented=found))
    return rows


def scored_rows(
    dialogues: Sequence[Dialogue], retrieved: Retrieved, scored: Scored, catalog: Catalog
) -> Iterator[ScoredDialogue]:
    """What was retrieved and how it was scored, by dialogue: what a local scorer can be tuned on."""
    for row, dialogue in enumerate(dialogues):
        items = []
        for at, item in enumerate(scored.items[row].tolist()):
            if item < 0:
                continue
            known = catalog[item]
            score, similarity = float(scored.scores[row, at]), float(retrieved.similarities[row, at])
            reason = scored.reasons[row][at] if scored.reasons else ""
            name = ItemReference(known.key, known.title, known.year)
            items.append(ScoredItem(name, None if isnan(score) else score, round(similarity, 6), reason or None))
        yield ScoredDialogue(dialogue.id, scored.source, tuple(items))


def encoder_name(args: LabelArguments) -> str:
    """What cards call the encoder."""
    return "TF-IDF" if args.encoder == "tfidf" else Path(args.encoder).name


def plan_descriptions(scorer: Scorer, requests: list[Messages]) -> bool:
    """Print what has to be asked before items can be retrieved.

    Returns:
        Whether scores are still to be planned: all descriptions are in the cache, so what is retrieved is known.
    """
    args, teacher = scorer.args, scorer.teacher
    if not hasattr(teacher, "estimate"):
        console.print("No teacher that costs anything: nothing to plan.")
        return False
    missing = show_plan("descriptions", teacher, requests) if requests else 0
    if args.scorer != "teacher":
        console.print(f"{args.scorer} scores: the teacher is asked nothing else.")
        return False
    if missing:
        number = min(args.num_candidates, len(scorer.catalog))
        any_items = np.tile(np.arange(number), (len(scorer.dialogues), 1))
        show_plan("scores, of any items", teacher, scorer.requests(any_items))
        console.print("\nWhich items are scored depends on the descriptions, which are not known yet.")
    return not missing


def show_plan(heading: str, teacher: Any, requests: list[Messages]) -> int:
    """Print what the teacher would be asked, and return the number of calls that are not answered yet."""
    plan = teacher.estimate(requests)
    console.rule(heading)
    console.print(str(plan), highlight=False, markup=False, soft_wrap=True)  # requests to the letter
    return plan.calls


def settings_of(args: LabelArguments) -> dict[str, Any]:
    """The settings that decide a label, for the card."""
    names = ("scorer", "encoder", "describe", "num_candidates", "min_score", "num_orders", "window", "trust", "prior")
    settings = {name: getattr(args, name) for name in (*names, *(("corrupt",) if args.corrupt else ()))}
    return settings | {"trust": "measured" if args.trust is None else args.trust}


def cli() -> None:
    """Parse YAML and flags, and augment."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    with stopped_in_words():
        main(*RecipeParser((LabelArguments, TeacherConfig)).parse_args_and_config())


if __name__ == "__main__":
    cli()
