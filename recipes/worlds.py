"""The demo's worlds, one a seed: simulated users, the teacher's demonstrations, the SFT model. Where studies start."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rankrl.data import save_dialogues
from rankrl.data.simulation import simulate
from rankrl.run.grid import Start

CONFIGS = Path(__file__).parent / "configs" / "demo"
NUM_RANKS = 10
TRAIN, VALIDATION, TEST = 8000, 400, 400  # dialogues
# glibc gives large blocks back to the system at once; a step on the CPU then spends half of its time on page faults.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "2000000000"}


def demo_world(root: Path, seed: int) -> Start:
    """Prepare a world in a folder, unless it is there; what `start:` names in the grids of the demo."""
    data = root / "data"
    write_world(data, seed)
    train = data / "train.jsonl"
    teach(root, seed, train)
    paths = (data / "catalog.jsonl", train, root / "sft", data / "test.jsonl", data / "validation.jsonl")
    return Start(*map(str, paths))


def write_world(data: Path, seed: int, train: int = TRAIN, test: int = TEST) -> None:
    """Write catalogue, dialogues and true choice probabilities, unless they are there."""
    if (data / "truth.npz").is_file():
        return
    world = simulate(train, VALIDATION, test, seed=seed, num_ranks=NUM_RANKS)
    data.mkdir(parents=True, exist_ok=True)
    world.catalog.save(data / "catalog.jsonl")
    save_dialogues(data / "train.jsonl", world.train)
    save_dialogues(data / "validation.jsonl", world.validation)
    save_dialogues(data / "test.jsonl", world.test)
    world.choices.save(data / "truth.npz")


def teach(root: Path, seed: int, train: Path) -> None:
    """Stage 1 with the demo's settings: demonstrations, then SFT."""
    run_recipe(root, "demonstrations", "demonstrations", train, seed, "--teacher_seed", str(seed))
    run_recipe(root, "sft", "sft", root / "demonstrations" / "demonstrations.jsonl", seed)


def run_recipe(root: Path, recipe: str, name: str, dialogues: Path, seed: int, *flags: str) -> None:
    """Run one recipe with the demo's settings, unless it has finished before."""
    settings = ("--config", str(CONFIGS / f"{recipe}.yaml"), "--catalog", str(root / "data" / "catalog.jsonl"))
    where = ("--dialogues", str(dialogues), "--output_dir", str(root / name), "--seed", str(seed))
    run_once(root, name, [sys.executable, "-m", f"recipes.{recipe}", *settings, *where, *flags])


def run_once(root: Path, name: str, command: Sequence[str]) -> None:
    """Run a command, on one thread unless told otherwise; its output goes to a log, a mark says that it has finished.

    Raises:
        RuntimeError: if it fails, naming the log; or if something else has finished here under the same name.
    """
    mark, line = root / "finished" / name, shlex.join(command[1:])
    if mark.is_file():
        before = mark.read_text(encoding="utf-8")
        if before != line:
            raise RuntimeError(
                f"{root / name} was made by other settings:\n  then: {before}\n  now:  {line}\n"
                f"Name the arm or the output folder differently, or delete {mark} and {root / name} to make it anew."
            )
        return
    mark.parent.mkdir(parents=True, exist_ok=True)
    print(f"{root.name}: {name}", flush=True)
    environment = {**KEEP_MEMORY, "OMP_NUM_THREADS": "1", **os.environ}
    with (root / f"{name}.log").open("w", encoding="utf-8") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment).returncode
    if status:
        raise RuntimeError(f"{' '.join(command)} stopped with {status}: see {root / f'{name}.log'}")
    mark.write_text(line, encoding="utf-8")
