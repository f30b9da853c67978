"""What augmented labels do to training: the demo with its simulated users, whose hidden tastes are known. Takes hours.

    python -m recipes.label_study --output runs/label_study --seeds 0 1 2 3 4 --jobs 2
    python -m recipes.label_study --output runs/label_study --seeds 0 1 2 3 4 --report    # of what is there

Every seed is a world of its own: users, teacher, demonstrations, SFT model, labels. All arms of a seed start at the
same SFT model and see the same prompts in the same order for as many steps. What has finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from catalog import Catalog
from rankrl.data import Dialogue, load_dialogues, save_dialogues
from rankrl.data.simulation import Simulation
from rankrl.data.simulation.requests import read_taste
from rankrl.evaluation import Curve, Scores, evaluate
from rankrl.evaluation.comparison import comparison_markdown, over_seeds
from rankrl.evaluation.report import write_pictures
from rankrl.evaluation.training_log import read_log, series
from rankrl.metrics import Popularity
from rankrl.rewards import resolve_truth
from rankrl.run.once import run_once
from recipes.worlds import NUM_RANKS, run_recipe, teach, write_world

METRICS = ("ndcg@10", "recall@10", "fits", "tail_recall@10", "tail@10", "popularity@10", "repeats", "in_catalog")
DRAWN = ("ndcg@10", "recall@10", "fits")
BASELINE = "true labels only"
LOGGING_STEPS = 5  # of the demo's Rank-GRPO


@dataclass(frozen=True)
class Stage:
    """One training run.

    Attributes:
        name: its folder.
        labels: folder of the labelled dialogues.
        start: folder of the model it starts from.
        share: of the steps that an arm has.
        flags: what differs from the demo's Rank-GRPO.
    """

    name: str
    labels: str = "labels"
    start: str = "sft"
    share: float = 1.0
    flags: tuple[str, ...] = ()


BATCH_SCALE = ("--scale_rewards", "batch")
AUGMENTED_ONLY = (*BATCH_SCALE, "--label_schedule", "augmented_only", "--augmented_weight", "1.0")
BLENDED = (*BATCH_SCALE, "--augmented_weight", "0.1")  # of 0.1 and 0.5 the better one on seed 10
ARMS: dict[str, tuple[Stage, ...]] = {
    BASELINE: (Stage("true", flags=BATCH_SCALE),),
    "augmented only": (Stage("augmented", flags=AUGMENTED_ONLY),),
    "blended": (Stage("blended", flags=BLENDED),),
    "two-stage": (
        Stage("two_stage_first", share=0.3, flags=AUGMENTED_ONLY),
        Stage("two_stage", start="two_stage_first", share=0.7, flags=BATCH_SCALE),
    ),
    "blended, half of the labels wrong": (Stage("blended_wrong", labels="labels_wrong", flags=BLENDED),),
}


def main() -> None:
    """Run what has not been run, then report."""
    parser = argparse.ArgumentParser("python -m recipes.label_study", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/label_study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--train", type=int, default=8000, help="simulated dialogues to train on")
    parser.add_argument("--test", type=int, default=400, help="held-out dialogues")
    parser.add_argument("--labelled", type=int, default=2000, help="of them that get labels, for Rank-GRPO")
    parser.add_argument("--logged", type=int, default=1, help="true labels that the log of a dialogue keeps, of 2 to 5")
    parser.add_argument("--steps", type=int, default=50, help="of Rank-GRPO, in each arm")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, one thread each")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not args.report:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda seed: run_seed(args.output / f"seed{seed}", seed, args), args.seeds))
    report(args)


def run_seed(root: Path, seed: int, args: argparse.Namespace) -> None:
    """Everything of one seed: data, demonstrations, SFT, labels right and wrong, then the arms and their lists."""
    write_world(root / "data", seed, args.train, args.test)
    require_size(root / "data", args.train, args.test)
    teach(root, seed, root / "data" / "train.jsonl")
    logged, teacher = write_log(root / "data", args.logged, args.labelled), ("--teacher_seed", str(seed))
    run_recipe(root, "augment_labels", "labels", logged, seed, *teacher)
    run_recipe(root, "augment_labels", "labels_wrong", logged, seed, *teacher, "--corrupt", "0.5")
    for arm in args.arms:
        for stage in ARMS[arm]:
            steps = ("--max_steps", str(round(args.steps * stage.share)))
            start = ("--model_name_or_path", str(root / stage.start))
            labels = root / stage.labels / "labels.jsonl"
            run_recipe(root, "rank_grpo", stage.name, labels, seed, *start, *steps, *stage.flags)
        write_lists(root, ARMS[arm][-1].name)
    write_lists(root, "sft")


def require_size(data: Path, train: int, test: int) -> None:
    """Refuse a world that was written with other numbers of dialogues."""
    there = [sum(1 for _ in (data / f"{split}.jsonl").open("rb")) for split in ("train", "test")]
    if there != [train, test]:
        raise RuntimeError(
            f"{data} holds {there[0]} dialogues to train on and {there[1]} to test on, not {train} and {test}: name "
            "another folder (output), or delete this one."
        )


def write_log(folder: Path, logged: int, number: int) -> Path:
    """The first training dialogues, of whose true labels the log keeps only some."""
    path = folder / f"logged_{logged}_of_{number}.jsonl"  # another log is another command, which `run_once` compares
    dialogues = load_dialogues(folder / "train.jsonl", limit=number)
    save_dialogues(path, [replace(dialogue, ground_truth=dialogue.ground_truth[:logged]) for dialogue in dialogues])
    return path


def write_lists(root: Path, name: str) -> None:
    """Greedy lists for the held-out dialogues."""
    where = ("--catalog", str(root / "data" / "catalog.jsonl"), "--dialogues", str(root / "data" / "test.jsonl"))
    model = ("--model_name_or_path", str(root / name), "--output", str(root / f"{name}.json"))
    run_once(root, f"{name}.lists", [sys.executable, "-m", "recipes.evaluate", *where, *model])


def report(args: argparse.Namespace) -> None:
    """Print what labels, training and held-out lists look like, as Markdown, and draw it."""
    roots = [args.output / f"seed{seed}" for seed in args.seeds]
    arms: list[str] = args.arms
    names = {"SFT": "sft"} | {arm: ARMS[arm][-1].name for arm in arms}
    places = list(zip(roots, args.seeds, strict=True))
    scores = {arm: {seed: score(root, name, seed) for root, seed in places} for arm, name in names.items()}
    tables = (label_table(roots, args.seeds), training_table(roots, arms))
    gains = (comparison_markdown(scores, other, METRICS, by_seed=METRICS[0]) for other in (BASELINE, "SFT"))
    for table in (*tables, *gains):
        print("\n".join(table))
    bars = {arm: {metric: over_seeds(runs, metric) for metric in DRAWN} for arm, runs in scores.items()}
    curves = [
        Curve(
            "Ranks at which lists differ in what they earn", "step", "share", learning(roots, arms, "informative/all")
        ),
        Curve("True labels hit by sampled lists", "step", "hit rate", learning(roots, arms, "hit/all")),
    ]
    write_pictures(args.output, systems=bars, curves=curves, bars=DRAWN)


def learning(roots: Sequence[Path], arms: Sequence[str], key: str) -> dict[str, tuple[list[float], list[float]]]:
    """One logged number over the steps of each arm, its mean over seeds."""
    lines = {}
    for arm in arms:
        values = np.mean([logged(root, arm, key) for root in roots], axis=0).tolist()
        lines[arm] = ([float(LOGGING_STEPS * (place + 1)) for place in range(len(values))], values)
    return lines


def logged(root: Path, arm: str, key: str) -> list[float]:
    """One logged number of an arm, its stages one after the other."""
    return [value for stage in ARMS[arm] for value in series(read_log(root / stage.name), key)[1]]


def label_table(roots: Sequence[Path], seeds: Sequence[int]) -> list[str]:
    """How good the labels are, against the hidden tastes and against the true labels; and the trust they got."""
    rows = ["| labels | per dialogue | precision | recall | true labels recovered | trust |", "| --- |" + " ---: |" * 5]
    for folder in ("labels", "labels_wrong"):
        each = [label_quality(root, seed, folder) for root, seed in zip(roots, seeds, strict=True)]
        means = np.mean(each, axis=0)
        spread = np.std(each, axis=0, ddof=1) if len(each) > 1 else np.zeros_like(means)
        cells = [f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in zip(means, spread, strict=True)]
        rows.append(f"| {folder} | {' | '.join(cells)} |")
    return [*rows, ""]


def label_quality(root: Path, seed: int, folder: str) -> tuple[float, ...]:
    """Labels per dialogue, precision and recall against the films that fit, share of true labels found, trust."""
    world, catalog = Simulation(seed), Catalog.load(root / "data" / "catalog.jsonl")
    dialogues = load_dialogues(root / folder / "labels.jsonl")
    found = [{catalog.resolve(item) for item in dialogue.augmented or ()} for dialogue in dialogues]
    fits = [fitting_items(world, dialogue, catalog) for dialogue in dialogues]
    right = sum(len(own & good) for own, good in zip(found, fits, strict=True))
    number = sum(map(len, found))
    truth = resolve_truth(catalog, [dialogue.ground_truth for dialogue in dialogues])
    recovered = sum(len(own & row.keys()) for own, row in zip(found, truth, strict=True)) / sum(map(len, truth))
    trust = json.loads((root / folder / "metrics.json").read_text(encoding="utf-8"))["trust"]
    return number / len(found), right / number, right / sum(map(len, fits)), recovered, trust


def fitting_items(world: Simulation, dialogue: Dialogue, catalog: Catalog) -> set[int]:
    """The films that fit what the user asked for, less those that were mentioned."""
    taste = read_taste("\n".join(message["content"] for message in dialogue.messages))
    assert taste is not None  # simulated dialogues always ask for a genre
    seen = {catalog.resolve(item) for item in dialogue.seen}
    return set(np.flatnonzero(world.fits(taste)).tolist()) - seen


def training_table(roots: Sequence[Path], arms: Sequence[str]) -> list[str]:
    """Over a run: share of (prompt, rank) cells whose lists differ, and what each kind of label pays a rank."""
    rows = ["| arm | informative cells | by seed | true labels pay | augmented labels pay |"]
    rows += ["| --- | ---: | --- | ---: | ---: |"]
    for arm in arms:
        shares, true, augmented = (
            [float(np.mean(logged(root, arm, f"{key}/all"))) for root in roots]
            for key in ("informative", "reward_true", "reward_augmented")
        )
        by_seed = " ".join(f"{share:.3f}" for share in shares)
        rows.append(f"| {arm} | {np.mean(shares):.3f} | {by_seed} | {np.mean(true):.4f} | {np.mean(augmented):.4f} |")
    return [*rows, ""]


def score(root: Path, name: str, seed: int) -> Scores:
    """The scores of a stage's greedy lists on the held-out dialogues by true labels; `fits`: by hidden tastes."""
    catalog = Catalog.load(root / "data" / "catalog.jsonl")
    test, train = (load_dialogues(root / "data" / f"{split}.jsonl") for split in ("test", "train"))
    written = json.loads((root / f"{name}.json").read_text(encoding="utf-8"))["lists"]
    popularity = Popularity.of(resolve_truth(catalog, [dialogue.ground_truth for dialogue in train]), len(catalog))
    texts = [written[dialogue.id] for dialogue in test]
    scores = evaluate(texts, test, catalog, num_ranks=NUM_RANKS, popularity=popularity)
    assert scores.ids == tuple(dialogue.id for dialogue in test)  # every simulated user wants something
    world, lists = Simulation(seed), catalog.ranked(texts, NUM_RANKS).tolist()
    fits = [
        len(set(row) & fitting_items(world, dialogue, catalog)) / NUM_RANKS
        for row, dialogue in zip(lists, test, strict=True)
    ]
    return replace(scores, rows={**scores.rows, "fits": np.array(fits)})


if __name__ == "__main__":
    main()
