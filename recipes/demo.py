"""The whole path on a laptop: users and a teacher (simulated), demonstrations, SFT, Rank-GRPO, scores, a report.

    python -m recipes.demo            # or: make demo

Each stage is the command that a user would type; it is printed before it runs. Ctrl-C saves; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from catalog import Catalog
from rankrl.data import Dialogue, load_dialogues
from rankrl.data.simulation import Choices, shuffled
from rankrl.evaluation import Curve, Example, Scores, comparison_table, evaluate, evaluate_ranked, write_report
from rankrl.evaluation.report import write_pictures
from rankrl.evaluation.training_log import read_log, series
from rankrl.rewards import resolve_truth
from rankrl.run.arguments import WriterArguments
from rankrl.run.console import show_log
from rankrl.run.lists import ListWriter
from rankrl.run.manifest import versions
from rankrl.run.once import KEEP_MEMORY
from recipes.evaluate import score_popularity, to_json
from recipes.worlds import CONFIGS, NUM_RANKS, write_world

STEPS = ("teacher as is", "remap", "+ reflect", "+ adjust")  # rows of the demonstrations' card
WRITTEN_LAST = ("trainer_state.json", "metrics.json")  # of a stage that trains, of demonstrations
TABLE = ("ndcg@10", "recall@10", "in_catalog", "repeats", "ndcg@5", "coverage@10")  # the first four fit a terminal
console = Console()


def run_stage(name: str, output: Path, dialogues: Path, args: argparse.Namespace, *flags: str) -> None:
    """Run one recipe as its own process, unless it has finished before."""
    if any((output / last).is_file() for last in WRITTEN_LAST):
        console.print(f"[dim]{name} has finished before: {output}[/dim]")
        return
    command = [
        *(sys.executable, "-m", f"recipes.{name}", "--config", str(CONFIGS / f"{name}.yaml")),
        *("--catalog", str(args.output / "data" / "catalog.jsonl"), "--dialogues", str(dialogues)),
        *("--output_dir", str(output), "--seed", str(args.seed)),
        *flags,
    ]
    console.rule(f"[bold]{name}")
    console.print(f"[dim]{' '.join(command)}[/dim]", highlight=False)
    started = time.monotonic()
    status = _run(command)
    clock = output / "seconds"  # adds up over interruptions
    before = int(clock.read_text()) if clock.is_file() else 0
    output.mkdir(parents=True, exist_ok=True)
    clock.write_text(f"{before + time.monotonic() - started:.0f}\n", encoding="utf-8")
    if status:
        console.print(f"{name} stopped (exit {status}). The same command goes on where it was.")
        sys.exit(status)


def _run(command: list[str]) -> int:
    """Run a recipe and wait for it, through a Ctrl-C too: the recipe gets it as well, and saves before it stops."""
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.Popen(command, env={**KEEP_MEMORY, **os.environ}).wait()
    finally:
        signal.signal(signal.SIGINT, handler)


def score_models(root: Path, catalog: Catalog, test: list[Dialogue]) -> tuple[dict[str, Scores], dict[str, list[str]]]:
    """Greedy lists of both stages, and of the last one on requests swapped between users."""
    scores, texts = {}, {}
    swapped = shuffled(test)
    for name in ("sft", "rank_grpo"):
        console.print(f"evaluating {name}")
        where = WriterArguments(model_name_or_path=str(root / name))
        writer = ListWriter.load(where, catalog)
        texts[name] = writer.write(test)
        scores[name] = evaluate(texts[name], test, catalog, num_ranks=NUM_RANKS)
        if name == "rank_grpo":
            scores["rank_grpo, requests shuffled"] = evaluate(
                writer.write(swapped), swapped, catalog, num_ranks=NUM_RANKS
            )
    return scores, texts


def score_yardsticks(root: Path, catalog: Catalog, test: list[Dialogue]) -> dict[str, Scores]:
    """What needs no model: one list for everybody, and the list nobody can beat on average."""
    train = load_dialogues(root / "data" / "train.jsonl")
    best = Choices.load(root / "data" / "truth.npz").best_lists(test, catalog, NUM_RANKS)
    wanted, truth = (resolve_truth(catalog, [d.ground_truth for d in dialogues]) for dialogues in (train, test))
    return {
        "popularity": score_popularity(catalog, wanted, test, NUM_RANKS),
        "best_possible": evaluate_ranked(best, truth, ids=[d.id for d in test], num_items=len(catalog)),
    }


def learning_curves(root: Path) -> list[Curve]:
    """What each stage logged, as pictures."""
    sft, rl = (read_log(root / name) for name in ("sft", "rank_grpo"))
    groups = {f"ranks {group}": series(rl, f"hit/{group}") for group in ("1-5", "6-10")}
    return [
        Curve("SFT: loss on the demonstrations", "step", "loss", {"loss": series(sft, "loss")}),
        Curve("Rank-GRPO: hits of sampled lists, by rank", "step", "hit rate", groups, window=5),
        Curve(
            "Rank-GRPO: lists stay well-formed",
            "step",
            "share",
            {name: series(rl, f"{key}/all") for name, key in (("in catalogue", "in_catalog"), ("repeats", "repeat"))},
            window=5,
        ),
        Curve("Rank-GRPO: distance from the SFT model", "step", "KL per rank", {"KL": series(rl, "kl/all")}, window=5),
    ]


def report(root: Path, args: argparse.Namespace) -> None:
    """Score both stages on the held-out dialogues and write metrics.json, pictures and report.html."""
    console.rule("[bold]held-out dialogues")
    catalog = Catalog.load(root / "data" / "catalog.jsonl")
    test = load_dialogues(root / "data" / "test.jsonl")
    models, texts = score_models(root, catalog, test)
    scores = {**models, **score_yardsticks(root, catalog, test)}
    gain = scores["rank_grpo"].differences(scores["sft"])["ndcg@10"]

    steps = json.loads((root / "steps" / "metrics.json").read_text(encoding="utf-8"))
    steps = {name: steps[name] for name in STEPS}
    summaries = {name: {metric: value["mean"] for metric, value in step.items()} for name, step in steps.items()}
    summaries |= {name: s.summary() for name, s in scores.items()}
    shuffled_scores = summaries.pop("rank_grpo, requests shuffled")
    stages = ("demonstrations", "steps", "sft", "rank_grpo")
    seconds = {name: int((root / name / "seconds").read_text()) for name in stages}
    metrics = {**summaries, "requests_shuffled": shuffled_scores, "seconds": seconds, "seed": args.seed}
    (root / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")

    systems = steps | {name: to_json(s) for name, s in scores.items()}
    curves = learning_curves(root)
    hit_rates = {name: scores[name].hit_rate_by_rank for name in ("sft", "rank_grpo", "best_possible")}
    write_pictures(root, systems=systems, curves=curves, hit_rates=hit_rates)
    write_report(
        root / "report.html",
        title="rankrl demo: from a teacher's lists to what users choose",
        summary=(
            f"A small language model learned to recommend from {len(catalog)} films. Rank-GRPO changed its NDCG@10 on "
            f"{len(test)} held-out dialogues by {gain} (95 % interval, paired)."
        ),
        systems=systems,
        curves=curves,
        hit_rates=hit_rates,
        metrics=TABLE,
        examples=[
            Example.of(d, {name: texts[name][row] for name in texts}, catalog, num_ranks=NUM_RANKS)
            for row, d in enumerate(test[:6])
        ],
        facts={
            "Data": {"catalogue": f"{len(catalog)} films", "train": args.train, "test": args.test, "seed": args.seed},
            "Time (s)": seconds,
            "Versions": versions(),
        },
    )
    console.print(comparison_table(systems, TABLE[:4], title=f"{len(test)} held-out dialogues, 95 % intervals"))
    console.print(f"NDCG@10 gained by Rank-GRPO over SFT, paired: {gain}")
    console.print(f"Pictures and the full story: [bold]{root / 'report.html'}[/bold]")


def main() -> None:
    """Run what has not been run yet, then report."""
    parser = argparse.ArgumentParser(prog="python -m recipes.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder of everything this run writes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=8000, help="simulated dialogues to train on")
    parser.add_argument("--test", type=int, default=400, help="held-out dialogues")
    args = parser.parse_args()
    show_log(logging.WARNING)
    refuse_other_settings(args)
    write_world(args.output / "data", args.seed, train=args.train, test=args.test)
    data, demonstrations, sft = (args.output / name for name in ("data", "demonstrations", "sft"))
    teacher = ("--teacher_seed", str(args.seed))
    resume = ("--resume_from_checkpoint", "latest")
    run_stage("demonstrations", demonstrations, data / "train.jsonl", args, *teacher)
    # What training dialogues taught, for held-out ones.
    learned = ("--adjustment", str(demonstrations / "adjustment.npz"))
    run_stage("demonstrations", args.output / "steps", data / "test.jsonl", args, *teacher, *learned)
    run_stage("sft", sft, demonstrations / "demonstrations.jsonl", args, *resume)
    start = ("--model_name_or_path", str(sft))
    run_stage("rank_grpo", args.output / "rank_grpo", data / "train.jsonl", args, *start, *resume)
    report(args.output, args)


def refuse_other_settings(args: argparse.Namespace) -> None:
    """A folder holds one demo: half of another one must not be taken for this one's."""
    settings = {"seed": args.seed, "train": args.train, "test": args.test}
    path = args.output / "demo.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != settings:
            sys.exit(f"{args.output} holds a demo with {before}, not {settings}. Name another folder with --output.")
    args.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
