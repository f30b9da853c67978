"""Compare ways to train: every arm of a grid from the same start, with the same prompts, seed by seed.

    python -m recipes.compare --grid recipes/configs/compare/presets.yaml --output runs/ablations --jobs 2
    python -m recipes.compare --grid GRID.yaml --output runs/ablations --arm $SLURM_ARRAY_TASK_ID/30   # a job array
    python -m recipes.compare --grid GRID.yaml --output runs/ablations --report   # of what is there

What has finished is not run again, and a run that was stopped goes on where it was. Grids may share an output folder:
an arm that several of them name is run once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from rankrl.evaluation import Curve, Scores, evaluate
from rankrl.evaluation.comparison import comparison_markdown, first_reach, over_seeds, shared_seeds
from rankrl.evaluation.report import write_pictures
from rankrl.run.arguments import EvaluationArguments
from rankrl.run.checkpoints import BEST
from rankrl.run.errors import explain_errors
from rankrl.run.grid import Arm, Grid, Start, flags
from rankrl.run.manifest import versions
from rankrl.run.once import is_made, require_same, run_once
from rankrl.run.record import RunRecord
from rankrl.run.start import read_data

START = "start"  # the model that all arms of a seed start from, as a line of the tables

BySeed = Mapping[str, Mapping[int, Any]]
"""Per arm what there is of each seed."""


def main() -> None:
    """Run what has not been run, then report."""
    explain_errors()
    parser = argparse.ArgumentParser("python -m recipes.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--grid", type=Path, required=True, help="YAML of arms and seeds")
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs; the report goes to GRID in it")
    parser.add_argument("--arm", metavar="i/n", help="run the i-th of n parts only, and report nothing")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on this machine")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--baseline", metavar="ARM", help="compare with this arm, whatever the grid says")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}; expected 1 or more")
    if args.report and args.arm:
        parser.error("--report is of the whole grid: leave --arm out")
    grid = Grid.load(args.grid)
    if args.baseline:
        grid = grid.against(args.baseline)
    if not args.report:
        run_all(args.output, grid, grid.runs(args.arm), args.jobs)
    if args.arm is None:
        report(args.output, args.output / args.grid.stem, grid)


def run_all(output: Path, grid: Grid, runs: Sequence[tuple[int, Arm]], jobs: int) -> None:
    """Run several at a time. One that fails does not keep the others from running; Ctrl-C stops them all.

    Raises:
        SystemExit: naming the runs that failed.
    """
    with ThreadPoolExecutor(jobs) as pool:
        tries = [pool.submit(run_arm, output, grid, seed, arm) for seed, arm in runs]
        try:
            wait(tries)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    failures = dict.fromkeys(_in_words(error) for error in (run.exception() for run in tries) if error)
    if failures:
        raise SystemExit("\n".join(failures))


def _in_words(error: BaseException) -> str:
    """The message of an error that was raised to teach; of any other, a mistake in code, where it happened."""
    teaches = isinstance(error, ValueError | RuntimeError | OSError | ImportError) and str(error)
    return str(error) if teaches else "".join(traceback.format_exception(error))


def run_arm(output: Path, grid: Grid, seed: int, arm: Arm) -> None:
    """Train one arm with one seed, and let the checkpoint that validation chose write lists for the test dialogues."""
    root = output / f"seed{seed}"
    start = prepare(root, grid, seed)
    run_once(root, arm.name, arm_command(root, start, grid, seed, arm), made_from=mark_of(start.model_name_or_path))
    best = root / arm.name / BEST
    write_lists(root, start, grid, arm.name, best if best.exists() else root / arm.name)


def arm_command(root: Path, start: Start, grid: Grid, seed: int, arm: Arm) -> list[str]:
    """What trains the arm. One arm is one command, whichever grid names it."""
    settings = {
        "catalog": start.catalog,
        "dialogues": start.dialogues,
        "model_name_or_path": start.model_name_or_path,
        **({"validation": start.validation} if start.validation else {}),
        **grid.settings,
        **arm.settings,
        "output_dir": str(root / arm.name),
        "seed": seed,
        "resume_from_checkpoint": "latest",
    }
    launch = shlex.split(grid.launch) if grid.launch else [sys.executable]
    return [*launch, "-m", arm.recipe, "--config", grid.config, *flags(dict(sorted(settings.items())))]


def mark_of(model: str) -> Path:
    """What says that a run has made this model, if one of ours did."""
    return Path(model).parent / "finished" / Path(model).name


def prepare(root: Path, grid: Grid, seed: int) -> Start:
    """The start of a seed, made by one run while others of the seed wait; with its lists for the test dialogues."""
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        start = grid.start_of(root, seed)
        write_lists(root, start, grid, START, Path(start.model_name_or_path))
    return start


def write_lists(root: Path, start: Start, grid: Grid, name: str, model: Path) -> None:
    """Greedy lists of a model for the test dialogues, in `NAME.json`."""
    where = {"catalog": start.catalog, "dialogues": start.test, "model_name_or_path": str(model)}
    words = flags({**where, "output": str(root / f"{name}.json"), **grid.reading})
    made_from = mark_of(start.model_name_or_path) if name == START else root / "finished" / name
    run_once(root, f"{name}.lists", [sys.executable, "-m", "recipes.evaluate", *words], made_from=made_from)


# ---- Report ----------------------------------------------------------------------------------------------------------


def report(output: Path, folder: Path, grid: Grid) -> None:
    """Write tables, figures and pictures of what has finished: each arm on the seeds that it has."""
    done = {arm.name: [seed for seed in grid.seeds if finished(output, seed, arm)] for arm in grid.arms}
    for name, seeds in done.items():
        if left := [str(seed) for seed in grid.seeds if seed not in seeds]:
            print(f"not finished: {name}, {'seed' if len(left) == 1 else 'seeds'} {', '.join(left)}")
    done = {name: seeds for name, seeds in done.items() if seeds}
    if not done:
        return
    seeds = [seed for seed in grid.seeds if any(seed in of_arm for of_arm in done.values())]
    roots = {seed: output / f"seed{seed}" for seed in seeds}
    starts = {seed: grid.start_of(root, seed) for seed, root in roots.items()}
    for arm in grid.arms:
        for seed in done.get(arm.name, ()):
            command = arm_command(roots[seed], starts[seed], grid, seed, arm)
            require_same(roots[seed], arm.name, command, made_from=mark_of(starts[seed].model_name_or_path))
    scores = {
        name: {seed: score(roots[seed], starts[seed], grid, name) for seed in of_arm}
        for name, of_arm in {START: seeds, **done}.items()
    }
    records = {name: {seed: RunRecord.load(roots[seed] / name) for seed in of_arm} for name, of_arm in done.items()}
    metrics = list(scores[START][seeds[0]].rows)
    text = [
        f"Seeds {', '.join(map(str, seeds))}. Below a mean stands the paired difference with its 95 % interval over "
        "seeds and dialogues, of the seeds that both have.",
        "",
    ]
    for other in (grid.baseline, START):
        if other in scores:
            text += comparison_markdown(scores, other, metrics, metrics[0], same_dialogues=grid.same_test)
    text += [*budget_table(records, grid.baseline), *sampled_table(records)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text("\n".join(text), encoding="utf-8")
    draw(folder, records, scores, metrics, grid.same_test)
    figures = {"versions": versions(), "seeds": seeds, **grid.facts, **numbers(records, scores, grid)}
    (folder / "comparison.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("\n".join(text))


def finished(output: Path, seed: int, arm: Arm) -> bool:
    """Has the arm trained with this seed, and written its lists?"""
    root = output / f"seed{seed}"
    return is_made(root, arm.name) and is_made(root, f"{arm.name}.lists", made_from=root / "finished" / arm.name)


def score(root: Path, start: Start, grid: Grid, name: str) -> Scores:
    """Scores of the lists in `NAME.json`; of recall also the first and the second half of a list, to compare gains."""
    written = json.loads((root / f"{name}.json").read_text(encoding="utf-8"))
    args = EvaluationArguments(catalog=start.catalog, dialogues=start.test, **grid.reading)
    catalog, test = read_data(args)
    num_ranks = written["num_ranks"]
    half = max(1, num_ranks // 2)
    texts = [written["lists"][dialogue.id] for dialogue in test]
    ks, years = (half, num_ranks), args.year_tolerance
    scores = evaluate(texts, test, catalog, num_ranks=num_ranks, ks=ks, year_tolerance=years)
    rows, whole, early = scores.rows, f"recall@{num_ranks}", f"recall@{half}"
    shown = {metric: rows[metric] for metric in (f"ndcg@{num_ranks}", whole, early)}
    shown[f"recall at ranks {half + 1}-{num_ranks}"] = rows[whole] - rows[early]
    return replace(scores, rows={**shown, "in_catalog": rows["in_catalog"], "repeats": rows["repeats"]})


def budget_table(records: BySeed, baseline: str) -> list[str]:
    """What each arm was given, what was looked at, and how soon it was where the baseline came to at its best."""
    rows = ["| arm | lists sampled | seconds | checkpoints looked at | best step by seed | lists to baseline's best |"]
    rows.append("| --- |" + " ---: |" * 3 + " --- | --- |")
    best = records.get(baseline, {})
    for name, by_seed in records.items():
        runs = list(by_seed.values())
        sampled = sorted({run.lists_sampled for run in runs})
        needed = [lists_needed(by_seed[seed], best[seed]) for seed in shared_seeds(by_seed, best)]
        cells = [
            " to ".join(f"{number:,}" for number in dict.fromkeys((sampled[0], sampled[-1]))),
            f"{np.mean([run.seconds for run in runs]):.0f}",
            f"{np.mean([len(run.scores) for run in runs]):.0f}",
            " ".join(str(run.best_step) for run in runs),
            " ".join("never" if np.isnan(number) else f"{number:.0f}" for number in needed),
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return [*rows, ""]


def sampled_table(records: BySeed) -> list[str]:
    """Sampled lists over the last quarter of training: hits by rank, and form."""
    keys = [key for key in next(iter(next(iter(records.values())).values())).sampled if key.startswith("hit/")]
    keys += ["in_catalog/all", "repeat/all", "informative/all"]
    rows = ["| sampled lists, at the end | " + " | ".join(keys) + " |", "| --- |" + " ---: |" * len(keys)]
    for name, runs in records.items():
        values = [[run.sampled.get(key, np.nan) for run in runs.values()] for key in keys]
        rows.append(f"| {name} | " + " | ".join(f"{np.mean(each):.3f}" for each in values) + " |")
    return [*rows, ""]


def lists_needed(run: RunRecord, baseline: RunRecord) -> float:
    """Lists sampled until validation first saw what it saw of the baseline at its best; NaN: never."""
    return first_reach(run.lists, run.scores, baseline.scores.max()) if len(baseline.scores) else np.nan


def draw(folder: Path, records: BySeed, scores: BySeed, metrics: Sequence[str], same_test: bool) -> None:
    """Validation against lists and against time, returns and hits at each rank, and the scores as bars."""
    validated = all(len(run.scores) for runs in records.values() for run in runs.values())
    curves = [
        Curve(
            f"Validation {metrics[0].upper()} against {label}",
            label,
            metrics[0].upper(),
            {name: mean_curve(list(runs.values()), axis) for name, runs in records.items()},
        )
        for label, axis in (("lists sampled", "lists"), ("seconds of training", "clock"))
        if validated
    ]
    returns = {name: mean_of(run.returns for run in runs.values()) for name, runs in records.items()}
    at_each = {name: (list(range(1, len(by_rank) + 1)), by_rank) for name, by_rank in returns.items()}
    curves.append(Curve("Return at each rank of sampled lists, at the end", "rank in the list", "return", at_each))
    bars = {
        name: {metric: over_seeds(runs, metric, same_dialogues=same_test) for metric in metrics[:2]}
        for name, runs in scores.items()
    }
    hits = {name: mean_of(run.hit_rate_by_rank for run in runs.values()) for name, runs in scores.items()}
    write_pictures(folder, systems=bars, curves=curves, hit_rates=hits, bars=metrics[:2])


def mean_curve(runs: Sequence[RunRecord], axis: str) -> tuple[list[float], list[float]]:
    """Means over seeds, at as many validations as every run has (one that was stopped has fewer)."""
    common = min(len(run.scores) for run in runs)
    x, y = ([getattr(run, name)[:common] for run in runs] for name in (axis, "scores"))
    return np.mean(x, axis=0).tolist(), np.mean(y, axis=0).tolist()


def mean_of(rows: Iterable[Any]) -> list[float]:
    """Mean over seeds of what there is of each rank, `(K,)`."""
    return np.mean(list(rows), axis=0).tolist()


def numbers(records: BySeed, scores: BySeed, grid: Grid) -> dict[str, Any]:
    """All figures of tables and pictures, as JSON, small enough to keep; a list has `None` for a missing seed.

    In the first two metrics any two systems are compared; in the others each with the start and with the baseline.
    """
    measure = partial(over_seeds, same_dialogues=grid.same_test)
    seeds = list(scores[START])
    systems: dict[str, dict[str, Any]] = {name: {} for name in scores}
    for name, runs in scores.items():
        for place, metric in enumerate(runs[next(iter(runs))].rows):
            entry: dict[str, Any] = {"mean": measure(runs, metric).to_json()}
            for other in scores if place < 2 else (START, grid.baseline):
                if other != name and other in scores and shared_seeds(runs, scores[other]):
                    entry[f"against {other}"] = measure(runs, metric, scores[other]).to_json()
            entry["by_seed"] = [round(float(runs[s].rows[metric].mean()), 4) if s in runs else None for s in seeds]
            systems[name][metric] = entry
    ranks = {name: np.round(mean_of(run.hit_rate_by_rank for run in runs.values()), 4) for name, runs in scores.items()}
    return {
        "scores": systems,
        "hits_by_rank": {name: row.tolist() for name, row in ranks.items()},
        "training": {name: [training(runs[s]) if s in runs else None for s in seeds] for name, runs in records.items()},
    }


def training(run: RunRecord) -> dict[str, Any]:
    """What was logged of a run, as JSON: its budget, what validation saw, and the sampled lists at its end."""
    figures = {**vars(run), "sampled": dict(run.sampled)}
    return {name: _numbers(value) if isinstance(value, np.ndarray) else value for name, value in figures.items()}


def _numbers(row: NDArray[np.float64]) -> list[float | None]:
    """JSON knows no NaN."""
    return [None if np.isnan(value) else value for value in row.tolist()]


if __name__ == "__main__":
    main()
