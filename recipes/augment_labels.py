"""Augmented labels: which items would suit the user of each dialogue, beside those that the log names.

    python recipes/augment_labels.py --config recipes/configs/augment_labels.yaml --catalog CATALOG \\
        --dialogues TRAIN.jsonl --dry_run true      # what will be asked, and what it costs
    python recipes/augment_labels.py ...            # the same without --dry_run
    accelerate launch recipes/rank_grpo.py --dialogues runs/labels/labels.jsonl --augmented_weight 0.1 ...

Every answer of a teacher is kept (`teacher_cache`), and so are a local scorer's scores: a run that was stopped goes on
where it was, at no further cost. On several machines: `--shard i/n` in a job array, or `--ray_shards n`; see
docs/demonstrations.md.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from catalog import Catalog, ItemReference
from rankrl.data import Dialogue, save_dialogues
from rankrl.evaluation import comparison_table
from rankrl.evaluation.label_card import COLUMNS, write_label_card
from rankrl.evaluation.significance import plain_metrics
from rankrl.labels import (
    AugmentedLabels,
    Retrieved,
    Scored,
    ScoredDialogue,
    ScoredItem,
    encoder_scores,
    kept_labels,
    replace_at_random,
    save_scores,
    weigh_by_trust,
)
from rankrl.run.arguments import LabelArguments
from rankrl.run.console import show_log
from rankrl.run.errors import explain_errors
from rankrl.run.label_work import LabelWork, run_shard
from rankrl.run.manifest import file_hash, versions, write_manifest
from rankrl.run.parser import RecipeParser
from rankrl.run.shards import run_shards
from rankrl.run.teacher import stopped_in_words, teacher_facts
from rankrl.teachers import Messages, TeacherConfig

logger = logging.getLogger("rankrl.augment_labels")
console = Console()


def main(args: LabelArguments, teacher_args: TeacherConfig) -> AugmentedLabels | None:
    """Write the dialogues with `augmented`, and a card, to `args.output_dir`."""
    # Whatever can be wrong with the settings is found before the first call is paid for.
    if not run_shards(run_shard, args, teacher_args):
        return None
    work = LabelWork.load(args, teacher_args)
    catalog, dialogues, truth, teacher = work.catalog, work.dialogues, work.truth, work.teacher
    if args.dry_run and not plan_descriptions(work):
        return None
    retrieved = work.retrieved()
    if args.dry_run:
        show_plan("scores", teacher, work.requests(retrieved.items))
        return None

    scored = work.score(retrieved)
    labels = kept_labels(scored, args.min_label_score)
    if args.corrupt:
        logger.warning("%.0f %% of the labels are replaced by random items (corrupt)", 100 * args.corrupt)
        labels = replace_at_random(labels, len(catalog), args.corrupt, seed=args.seed)
    augmented = weigh_by_trust(labels, truth, len(catalog), prior=args.prior, trust=args.trust)
    measured = augmented.reliability

    output = Path(args.output_dir)
    hashes = {path: file_hash(path) for path in (args.metadata_template, args.judge_template) if path}
    write_manifest(output, catalog, None, args, teacher_args, inputs=hashes, teacher=teacher_facts(teacher))
    save_scores(output / "scores.jsonl", scored_rows(dialogues, retrieved, scored, catalog))
    save_dialogues(output / "labels.jsonl", with_labels(dialogues, augmented, catalog))
    sources = {scored.source: labels}
    if args.scorer != "encoder":
        alone = f"{work.encoder_name} alone"
        sources[alone] = kept_labels(encoder_scores(retrieved, alone), args.min_label_score)
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
    trust = args.trust if measured is None else measured.source_trust
    text = json.dumps({"sources": plain_metrics(systems), "trust": trust}, indent=1) + "\n"
    (output / "metrics.json").write_text(text, encoding="utf-8")
    work.finish()
    if systems:
        title = f"{len(dialogues):,} dialogues, 95 % intervals"
        console.print(comparison_table(systems, COLUMNS, title=title, rows="Source"))
    console.print(f"Dialogues with augmented labels, and their card: [bold]{output}[/bold]")
    return augmented


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


def plan_descriptions(work: LabelWork) -> bool:
    """Print what has to be asked before items can be retrieved.

    Returns:
        Whether scores are still to be planned: all descriptions are in the cache, so what is retrieved is known.
    """
    args, teacher = work.args, work.teacher
    if not hasattr(teacher, "estimate"):
        console.print("No teacher that costs anything: nothing to plan.")
        return False
    requests = work.texts.requests(work.undescribed)
    missing = show_plan("descriptions", teacher, requests) if requests else 0
    if args.scorer != "teacher":
        console.print(f"{args.scorer} scores: the teacher is asked nothing else.")
        return False
    if missing:
        number = min(args.num_candidates, len(work.catalog))
        any_items = np.tile(np.arange(number), (len(work.dialogues), 1))
        show_plan("scores, of any items", teacher, work.requests(any_items))
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
    names = ["scorer", "encoder", "describe", "num_candidates", "min_label_score", "num_orders", "window", "trust"]
    names += ["prior", "corrupt"] if args.corrupt else ["prior"]
    settings = {name: getattr(args, name) for name in names}
    return settings | {"trust": "measured" if args.trust is None else args.trust}


def cli() -> None:
    """Parse YAML and flags, and augment."""
    explain_errors()
    show_log()
    with stopped_in_words():
        main(*RecipeParser((LabelArguments, TeacherConfig), __doc__).parse_args_and_config())


if __name__ == "__main__":
    cli()
