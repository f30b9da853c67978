"""Scores of a model on held-out dialogues: one greedy list for each, under one fixed protocol.

    python recipes/evaluate.py --model_name_or_path runs/rank_grpo --catalog CATALOG --dialogues TEST.jsonl \\
        --output runs/rank_grpo/test.json
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from catalog import Catalog
from catalog.files import whole_file
from rankrl.data import Dialogue
from rankrl.data.simulation import shuffled
from rankrl.demonstrations import popular_items
from rankrl.evaluation import Scores, comparison_table, evaluate, evaluate_ranked, greedy_config
from rankrl.metrics import Popularity
from rankrl.rewards import TruthResolver, resolve_truth
from rankrl.run.arguments import EvaluationArguments
from rankrl.run.choosing import choice_behind
from rankrl.run.console import show_log
from rankrl.run.errors import explain_errors
from rankrl.run.lists import ListWriter
from rankrl.run.manifest import file_hash, versions
from rankrl.run.parser import RecipeParser
from rankrl.run.start import read_data, read_dialogues, show_example

logger = logging.getLogger("rankrl.evaluate")

CUTS = (5, 10, 20)


def score_popularity(
    catalog: Catalog,
    wanted: Sequence[Mapping[int, float]],
    test: Sequence[Dialogue],
    num_ranks: int,
    year_tolerance: int = 0,
    popularity: Popularity | None = None,
) -> Scores:
    """The yardstick without a model: what is wanted most often in training, less what each dialogue has mentioned.

    `wanted` is the truth of the training data, `popularity` as for `rankrl.evaluation.evaluate`.
    """
    resolver = TruthResolver(catalog, year_tolerance=year_tolerance)
    popular = popular_items(wanted, len(catalog)).tolist()
    seen = resolver.seen([d.seen for d in test])
    lists = [list(islice((item for item in popular if item not in row), num_ranks)) for row in seen]
    ranked = [row + [-1] * (num_ranks - len(row)) for row in lists]  # a small catalogue runs out of items
    truth = resolver.truth([d.ground_truth for d in test])
    ids = [d.id for d in test]
    return evaluate_ranked(ranked, truth, ids=ids, num_items=len(catalog), seen=seen, popularity=popularity)


def wanted_in_training(args: EvaluationArguments, catalog: Catalog) -> list[dict[int, float]] | None:
    """The truth of `popularity_from`, if that is given."""
    if not args.popularity_from:
        return None
    train = read_dialogues(replace(args, limit=None, split=args.popularity_split), args.popularity_from)
    return resolve_truth(catalog, [d.ground_truth for d in train], year_tolerance=args.year_tolerance)


def to_json(scores: Scores) -> dict[str, Any]:
    """Every metric with its 95 % interval over dialogues."""
    return {metric: interval.to_json() for metric, interval in scores.intervals().items()}


def choice_facts(args: EvaluationArguments) -> dict[str, Any] | None:
    """How the model was chosen, if it was validated in training."""
    choice = choice_behind(args.model_name_or_path)
    if choice is None:
        return None
    sample = choice["sample"]
    if sample["file_hash"] is not None and sample["file_hash"] == file_hash(args.dialogues):
        logger.warning(
            "%s are the dialogues that the checkpoint was chosen on: its scores are too high. Score others.",
            args.dialogues,
        )
    return {"checkpoints_looked_at": choice["looked_at"], "best_step": choice["best_step"], "sample": sample}


def require_scorable(args: EvaluationArguments, catalog: Catalog, dialogues: Sequence[Dialogue]) -> None:
    """Refuse what would come to light when all lists are written, and lost with them.

    Raises:
        ValueError: if nothing that the dialogues want is in the catalogue.
        OSError: if `output` cannot be a file.
    """
    wanted = (item for dialogue in dialogues for item in dialogue.ground_truth)
    if not any(catalog.resolve(item, year_tolerance=args.year_tolerance) >= 0 for item in wanted):
        raise ValueError(
            f"{args.catalog} holds nothing of what {args.dialogues} want: is it the catalogue of this data?"
        )
    if args.output:
        if Path(args.output).is_dir():
            raise IsADirectoryError(f"output is {args.output}, a folder; expected the JSON file for the scores.")
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)


def main(args: EvaluationArguments) -> Scores:
    """Write lists, score them, print the table, and save scores and lists where `--output` says."""
    catalog, dialogues = read_data(args)
    require_scorable(args, catalog, dialogues)
    wanted = wanted_in_training(args, catalog)
    popularity = None if wanted is None else Popularity.of(wanted, len(catalog))
    if args.shuffle_requests is not None:
        dialogues = shuffled(dialogues, args.shuffle_requests)
    writer = ListWriter.load(args, catalog)
    lines = catalog.lines[: writer.renderer.num_ranks]
    example = writer.renderer.render(dialogues[0].messages).text
    show_example(example, writer.renderer.completion(lines), writer.tokenizer, len(lines))
    generation = greedy_config(writer.tokenizer, writer.max_completion_length).to_diff_dict()
    logger.info("lists are written with %s", generation)
    texts = writer.write(dialogues, args.batch_size)
    logger.info("%s", writer.renderer.report())
    num_ranks = writer.renderer.num_ranks
    scores = evaluate(
        texts, dialogues, catalog, num_ranks=num_ranks, year_tolerance=args.year_tolerance, popularity=popularity
    )
    choice = choice_facts(args)
    name = Path(args.model_name_or_path).name
    systems = {name: scores}
    if wanted is not None:
        systems["popularity"] = score_popularity(catalog, wanted, dialogues, num_ranks, args.year_tolerance, popularity)
    k = max(k for k in (*CUTS, num_ranks) if f"ndcg@{k}" in scores.rows)
    tail = () if popularity is None else (f"tail_recall@{k}",)
    columns = (f"ndcg@{k}", f"recall@{k}", *tail, "in_catalog", "repeats")  # fits a terminal; --output holds the rest
    Console().print(comparison_table({system: s.intervals() for system, s in systems.items()}, columns))
    if choice is not None:  # the best of many is luckier than it is good, on the dialogues that it was chosen on
        looked_at = choice["checkpoints_looked_at"]
        said = f"{name}: {looked_at} checkpoints were looked at on validation; score the test set once."
        Console().print(said, markup=False)
    if args.output:
        lists = {dialogue.id: text for dialogue, text in zip(dialogues, texts, strict=True)}
        report = {
            "model": args.model_name_or_path,
            "rows": len(scores.ids),
            "num_ranks": num_ranks,
            "catalog": catalog.version,
            "prompt_hash": writer.renderer.hash,
            "generation": generation,
            "validation": choice,
            "versions": versions(),
            "metrics": {system: to_json(s) for system, s in systems.items()},
            "lists": lists,
        }
        with whole_file(args.output) as file:
            file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    return scores


def cli() -> None:
    """Parse YAML and flags, and evaluate."""
    explain_errors()
    show_log()
    main(*RecipeParser((EvaluationArguments,), __doc__).parse_args_and_config())


if __name__ == "__main__":
    cli()
