"""Draw the eight numbers of a run of stage 2 that matter, of a finished one or one under way; of several to compare.

python -m recipes.plot runs/rank_grpo
python -m recipes.plot runs/healthy runs/strange --output comparison.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rankrl.evaluation import save_png
from rankrl.evaluation.run_picture import run_picture
from rankrl.evaluation.training_log import read_log
from rankrl.run.errors import explain_errors


def main() -> None:
    """Read the logs and write the picture."""
    explain_errors()
    parser = argparse.ArgumentParser("python -m recipes.plot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="output_dir of each run")
    parser.add_argument("--names", nargs="+", help="what to call them; by default their folders' names")
    parser.add_argument("--output", type=Path, help="the PNG; by default run.png in the first run's folder")
    args = parser.parse_args()
    names = args.names or [run.resolve().name for run in args.runs]
    if len(set(names)) < len(args.runs) or len(names) != len(args.runs):
        parser.error(
            f"{len(args.runs)} runs, but the names {', '.join(names)}; give --names, one for each, all different"
        )
    logs = {name: read_log(run) for name, run in zip(names, args.runs, strict=True)}
    for run, log in zip(args.runs, logs.values(), strict=True):
        if not any("reward" in entry for entry in log):
            raise ValueError(f"{run} is no run of stage 2: its log has no rewards.")
    print(save_png(run_picture(logs), args.output or args.runs[0] / "run.png"))


if __name__ == "__main__":
    main()
