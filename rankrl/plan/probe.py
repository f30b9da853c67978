"""A few real steps of the recipe, to know what no formula does: how long they take on this machine."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from rankrl.plan.settings import Stage
from rankrl.run.parser import load_yaml

_SHORT = {"save_strategy": "no", "report_to": "none", "logging_steps": "1"}


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes:
        steps: optimizer steps that were run.
        seconds: of training, loading and saving apart.
        peak: bytes of host memory that the largest process held; what it held on a GPU is not seen.
    """

    steps: int
    seconds: float
    peak: int

    def in_words(self, steps: int | None) -> str:
        """The measurement, and the run of `steps` steps that it stands for."""
        each = self.seconds / self.steps
        text = f"probe: {self.steps} steps took {self.seconds:.1f} s, {each:.2f} s each (the first is the slowest)"
        if steps is not None:
            text += f"; {steps:,} steps would take {steps * each / 3600:.2f} hours"
        return f"{text}. Peak memory of the host: {self.peak / 1e9:.2f} GB."


def run_probe(
    stage: Stage, config: str, flags: Sequence[str], steps: int, launch: Sequence[str] = (), *, root: Path = Path()
) -> Probe:
    """Run a recipe for a few steps, in a process and an output folder of its own.

    Args:
        stage: whose recipe.
        config: its YAML.
        flags: further flags of the recipe.
        steps: how many.
        launch: what stands before the recipe in place of `python`: an `accelerate launch` with its flags.
        root: of the repository, where `recipes/` is.

    Raises:
        FileNotFoundError: if there is no such recipe.
        RuntimeError: if it fails, with the end of what it said.
    """
    recipe = root / "recipes" / f"{stage}.py"
    if not recipe.is_file():
        raise FileNotFoundError(f"{recipe} is not there: a probe runs the recipe, from the root of the repository.")
    with tempfile.TemporaryDirectory(prefix="probe_") as folder:
        whole = Path(folder) / "config.yaml"
        whole.write_text(yaml.safe_dump(load_yaml(config)), encoding="utf-8")
        short = {**_SHORT, "max_steps": str(steps), "output_dir": str(Path(folder) / "run")}
        words = [f"recipes/{stage}.py", "--config", str(whole), *flags]
        words += [word for name, value in short.items() for word in (f"--{name}", value)]
        done = subprocess.run(
            [*(launch or [sys.executable, "-m"]), *(words if launch else [f"recipes.{stage}", *words[1:]])],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"the probe ended with status {done.returncode}:\n{done.stdout[-3000:]}")
        state = json.loads((Path(folder) / "run" / "trainer_state.json").read_text(encoding="utf-8"))
    seconds = next(entry["train_runtime"] for entry in reversed(state["log_history"]) if "train_runtime" in entry)
    unit = 1 if sys.platform == "darwin" else 1024
    return Probe(state["global_step"], seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)


def launcher(accelerate: str | None, processes: int) -> list[str]:
    """How the processes of a plan are started; one process without accelerate config needs no launcher."""
    if accelerate is None and processes == 1:
        return []
    config = ["--config_file", accelerate] if accelerate else []
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", *config),
        *("--num_processes", str(processes), "--main_process_port", "0"),
    ]
