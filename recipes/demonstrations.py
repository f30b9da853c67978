"""Stage 1, before SFT: a teacher's raw lists become lists of the catalogue, by Remap, Reflect and Adjust.

    python recipes/demonstrations.py --config recipes/configs/demonstrations.yaml --catalog CATALOG \\
        --dialogues TRAIN.jsonl --dry_run true      # what will be asked, and what it costs
    python recipes/demonstrations.py ...            # the same without --dry_run
    accelerate launch recipes/sft.py --dialogues runs/demonstrations/demonstrations.jsonl ...

Every answer is kept (`teacher_cache`), so a run that was stopped goes on where it was, at no further cost. On several
machines: `--shard i/n` in a job array, or `--ray_shards n`; see docs/demonstrations.md.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from rich.console import Console

from rankrl.data import PromptTemplate
from rankrl.demonstrations import Demonstrations, build_demonstrations
from rankrl.demonstrations.rows import named_lists, write_rows
from rankrl.evaluation import comparison_table
from rankrl.evaluation.demonstration_card import card_columns, write_demonstration_card
from rankrl.evaluation.significance import plain_metrics
from rankrl.run.arguments import DemonstrationArguments
from rankrl.run.console import show_log
from rankrl.run.demonstration_work import DemonstrationWork, run_shard
from rankrl.run.errors import explain_errors
from rankrl.run.manifest import file_hash, versions, write_manifest
from rankrl.run.parser import RecipeParser
from rankrl.run.shards import run_shards
from rankrl.run.teacher import TeacherWork, stopped_in_words
from rankrl.teachers import TeacherConfig

logger = logging.getLogger("rankrl.demonstrations")
console = Console()


def main(args: DemonstrationArguments, teacher_args: TeacherConfig) -> Demonstrations | None:
    """Build demonstrations and write them, their card and the adjustment to `args.output_dir`."""
    # What can be wrong with the settings is found here and by `DemonstrationWork.load`, before a call is paid for.
    prompt = PromptTemplate.load(args.prompt_template)
    if not run_shards(run_shard, args, teacher_args):
        return None
    work = DemonstrationWork.load(args, teacher_args)
    settings, catalog, dialogues = work.settings, work.catalog, work.dialogues
    if args.dry_run:
        show_plan(work.teacher_work)
        return None

    raw = work.teacher_work.raw_lists()
    if settings.steps:
        encoded = work.encode(raw)
        demonstrations = build_demonstrations(
            raw,
            encoded.titles,
            encoded.items,
            encoded.dialogues,
            settings,
            seen=work.excluded,
            judge=work.teacher_work.judge(),
            truth=work.truth,
            groups=work.groups,
            adjustment=work.adjustment,
            remapped=work.remapped(raw, encoded),
        )
    else:
        demonstrations = Demonstrations({"raw": raw.resolved(args.num_ranks)})

    output = Path(args.output_dir)
    inputs = (args.raw_lists, args.adjustment, args.recommend_template, args.metadata_template, args.judge_template)
    hashes = {path: file_hash(path) for path in inputs if path}
    write_manifest(output, catalog, None, args, teacher_args, inputs=hashes, teacher=work.teacher_work.facts())
    if demonstrations.adjustment is not None and args.folds < 2:
        demonstrations.adjustment.save(output / "adjustment.npz", catalog)
    lists = named_lists(demonstrations, raw, catalog, args.num_ranks)
    write_rows(output / "demonstrations.jsonl", lists, dialogues, catalog, prompt, args.num_ranks)
    systems = write_demonstration_card(
        output,
        demonstrations=demonstrations,
        raw=raw,
        dialogues=dialogues,
        truth=work.truth,
        seen=work.seen,
        catalog=catalog,
        facts={
            "Teacher": work.teacher_work.facts(),
            "Settings": settings_of(args),
            "Versions": versions(),
        },
        held_out=args.folds > 1 or work.adjustment is not None,
    )
    text = json.dumps(plain_metrics(systems), indent=1) + "\n"
    (output / "metrics.json").write_text(text, encoding="utf-8")
    work.finish()
    columns = [name for name in card_columns(systems) if not name.endswith("@20") and name != "popularity"]
    console.print(comparison_table(systems, columns, title=f"{len(dialogues):,} dialogues, 95 % intervals"))
    console.print(f"Demonstrations, card and adjustment: [bold]{output}[/bold]")
    return demonstrations


def show_plan(work: TeacherWork) -> None:
    """Print what the teacher would be asked, and how much that is."""
    plans = work.plan()
    if plans is None:
        console.print("No teacher that costs anything: nothing to plan.")
        return
    for heading, plan in plans.items():
        console.rule(heading)
        console.print(str(plan), highlight=False, markup=False, soft_wrap=True)  # requests to the letter
    console.rule("in all")
    tokens = sum(plan.prompt_tokens + plan.completion_tokens for plan in plans.values())
    console.print(f"{sum(plan.calls for plan in plans.values()):,} calls, about {tokens:,} tokens", highlight=False)
    if most := work.most_unplanned(plans):
        console.print(
            f"and a description of each title outside the catalogue: at most {most:,} calls more. Once the lists are "
            "in the cache, a dry run counts them.",
            highlight=False,
        )


def settings_of(args: DemonstrationArguments) -> dict[str, Any]:
    """The settings that decide a list, for the card."""
    names = (
        *("steps", "encoder", "encoder_revision", "encoder_prompt", "num_ranks", "teacher_ranks", "fuzzy_min_score"),
        *("context_weight", "num_candidates", "num_rated", "num_orders", "window", "rating_weight", "regularization"),
        *("adjust_on", "folds", "keep_seen"),
    )
    return {name: getattr(args, name) for name in names}


def cli() -> None:
    """Parse YAML and flags, and build."""
    explain_errors()
    show_log()
    with stopped_in_words():
        main(*RecipeParser((DemonstrationArguments, TeacherConfig), __doc__).parse_args_and_config())


if __name__ == "__main__":
    cli()
