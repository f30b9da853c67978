"""A few real steps of the recipe, to know what no formula does: how long they take on this machine."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yaml

from rankrl.plan.estimate import Setup
from rankrl.plan.settings import Cluster
from rankrl.run.parser import load_yaml
from rankrl.run.stages import Stage

# Nothing is left behind, and a checkpoint is written once, when the clock asks for it.
_SHORT = {
    "save_strategy": "no",
    "logging_steps": "1",
    "report_to": "none",
    "push_to_hub": "false",
    "resume_from_checkpoint": "latest",  # of the probe's own folder: there is none
}


@dataclass(frozen=True)
class RunLength:
    """What a run consists of.

    Attributes:
        steps: optimizer steps.
        validations: how often held-out dialogues are scored, the start among them.
        checkpoints: how many are written, those of a new best apart.
    """

    steps: int
    validations: int = 0
    checkpoints: int = 0

    @classmethod
    def of(cls, settings: Namespace, steps: int, steps_an_epoch: int) -> RunLength:
        """The length of a run of `steps` steps with a recipe's settings, from `rankrl.plan.settings.parse`."""
        training: Any = settings.checked[1]
        kind, every = str(getattr(training.save_strategy, "value", training.save_strategy)), training.save_steps
        checkpoints = math.ceil(steps / steps_an_epoch) if kind == "epoch" else 0
        if kind == "steps":
            checkpoints = math.ceil(steps / every if every >= 1 else 1 / every)
        looks = 0
        if getattr(settings, "validation", None):
            looks = 1 + math.ceil(steps / settings.validate_steps)
        return cls(steps, looks, checkpoints)


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes:
        steps: seconds of each optimizer step; the first one warms up.
        phases: for each step its seconds by phase, as `RankGRPOTrainer` logs them; empty for SFT.
        after_step: seconds between the last step and its log: validation, where there is one.
        saving: seconds of one checkpoint.
        dialogues: rows of the training data.
        processes: that took part, over all machines.
        strategy: how they shared the model.
        device: what each of them ran on.
        host_peak: bytes of host memory that the largest process held.
        gpu_peak: bytes of a GPU's memory that torch had allocated on the fullest; 0 without GPUs.
    """

    steps: Sequence[float]
    phases: Sequence[dict[str, float]]
    after_step: float
    saving: float
    dialogues: int
    processes: int
    strategy: str
    device: str
    host_peak: int
    gpu_peak: int = 0

    def rounds(self, cycle: int) -> list[float]:
        """Seconds a step after the first one: means over each whole round of `cycle` steps, one rollout and its use.

        Raises:
            RuntimeError: if the probe was stopped before a round was over.
        """
        later = self.steps[1:]
        if len(later) < cycle:
            raise RuntimeError(
                f"the probe was stopped after {len(self.steps)} steps; one that warms up and {cycle} more are needed. "
                "An alarm does so (stop_on_alarm: false leaves it a warning), and so does a signal."
            )
        return [fmean(later[at : at + cycle]) for at in range(0, len(later) - cycle + 1, cycle)]

    def hours(self, run: RunLength, cycle: int) -> dict[str, float]:
        """What a run would take by the mean round, and its training by the `fastest` and the `slowest`."""
        rounds = self.rounds(cycle)
        train = {
            name: (self.steps[0] + (run.steps - 1) * each) / 3600
            for name, each in (("training", fmean(rounds)), ("fastest", min(rounds)), ("slowest", max(rounds)))
        }
        return {
            **train,
            "validation": run.validations * self.after_step / 3600,
            "saving": run.checkpoints * self.saving / 3600,
        }

    def in_words(self, run: RunLength, cycle: int = 1) -> str:
        """The measurement, and the whole run that it stands for."""
        rounds = self.rounds(cycle)
        split = {name: fmean(entry[name] for entry in self.phases[1:]) for name in (self.phases or [{}])[-1]}
        parts = ", ".join(f"{name.replace('_', ' ')} {_s(seconds)}" for name, seconds in split.items() if seconds)
        memory = f"host {self.host_peak / 1e9:.2f} GB"
        if self.gpu_peak:
            memory += f", GPU {self.gpu_peak / 1e9:.2f} GB"
        hours = self.hours(run, cycle)
        whole = hours["training"] + hours["validation"] + hours["saving"]
        return (
            f"probe: {len(self.steps)} steps on {self.processes} x {self.device} ({self.strategy}). The first took "
            f"{_s(self.steps[0])} s, then {_s(fmean(rounds))} s a step, from {_s(min(rounds))} to {_s(max(rounds))}"
            + (f", means of {len(rounds)} rounds of {cycle} steps with one rollout" if cycle > 1 else "")
            + (f" ({parts})" if parts else "")
            + f". A checkpoint took {_s(self.saving)} s"
            + (f", a validation {_s(self.after_step)} s" if run.validations else "")
            + f". Peak memory of a process: {memory}.\n"
            f"{run.steps:,} steps would take {hours['training']:.2f} hours ({hours['fastest']:.2f} to "
            f"{hours['slowest']:.2f} if all were as the fastest or the slowest), {run.validations:,} validations "
            f"{hours['validation']:.2f}, {run.checkpoints:,} checkpoints {hours['saving']:.2f}: {whole:.2f} hours in "
            "all, loading apart."
        )


def rollout_cycle(setup: Setup) -> int:
    """Optimizer steps from one rollout to the next: those that a probe has to see whole.

    Example:
        >>> rollout_cycle(Setup("rank_grpo", batch=4, accumulation=2, rollout=8, uses=2))
        2
    """
    if setup.stage == "sft":
        return 1
    micro_batches = setup.rollout // setup.batch * setup.uses
    return math.lcm(micro_batches, setup.accumulation) // setup.accumulation


def steps_to_run(wanted: int, cycle: int) -> int:
    """At least so many steps: one that warms up, and whole rounds after it."""
    return 1 + math.ceil(max(wanted - 1, 1) / cycle) * cycle


def run_probe(
    stage: Stage, config: str, flags: Sequence[str], steps: int, launch: Sequence[str] = (), *, root: Path = Path()
) -> Probe:
    """Run a recipe for a few steps, in processes and an output folder of its own (in `TMPDIR`), which is then deleted.

    Args:
        stage: whose recipe.
        config: its YAML.
        flags: further flags of the recipe.
        steps: how many.
        launch: what stands in the place of `python`: an `accelerate launch` with its flags.
        root: of the repository, where `recipes/` is.

    Raises:
        FileNotFoundError: if there is no such recipe.
        RuntimeError: if it fails, with the end of what it said.
    """
    recipe = root / "recipes" / f"{stage}.py"
    if not recipe.is_file():
        raise FileNotFoundError(f"{recipe} is not there: a probe runs the recipe, from the root of the repository.")
    with tempfile.TemporaryDirectory(prefix="probe_") as name:
        folder = Path(name)
        whole, seen = folder / "config.yaml", folder / "seen.json"
        whole.write_text(yaml.safe_dump(load_yaml(config)), encoding="utf-8")
        short = {**_SHORT, "max_steps": str(steps), "output_dir": str(folder / "run")}
        words = [stage, str(seen), "--config", str(whole), *flags]
        words += [word for name, value in short.items() for word in (f"--{name}", value)]
        done = subprocess.run(
            [*(launch or [sys.executable]), "-m", "rankrl.plan.timed", *words],
            cwd=root,
            env={**os.environ, "TMPDIR": name},  # where torch's launcher leaves folders behind
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode or not seen.is_file():
            raise RuntimeError(f"the probe ended with status {done.returncode}:\n{done.stdout[-3000:]}")
        return Probe(**json.loads(seen.read_text(encoding="utf-8")))


def launcher(accelerate: str | None, cluster: Cluster, *, use_cpu: bool = False) -> list[str]:
    """How the processes of a plan are started here; one process without accelerate config needs no launcher.

    Args:
        accelerate: config of the launch.
        cluster: how many processes on how many machines.
        use_cpu: do they leave GPUs alone?

    Raises:
        ValueError: for several machines, or more processes than this machine has GPUs.
    """
    if cluster.nodes > 1:
        raise ValueError(
            f"a probe runs on one machine, and {cluster.nodes} are planned. Probe one of them (--nodes 1, with "
            "accelerate_configs/multi_gpu.yaml): what it does not see is the exchange between machines, which the plan "
            "has as `sync`."
        )
    gpus = 0 if use_cpu else torch.cuda.device_count()
    if 0 < gpus < cluster.processes:
        raise ValueError(
            f"{cluster.processes} processes are planned, and this machine has {gpus} GPUs: a probe measures what is "
            f"here. Say --gpus {gpus}."
        )
    if accelerate is None and cluster.processes == 1:
        return []
    config = ["--config_file", accelerate] if accelerate else []
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", *config),
        *("--num_processes", str(cluster.processes), "--main_process_port", "0"),
    ]


def require_planned(probe: Probe, cluster: Cluster) -> None:
    """Refuse a measurement of something else than was planned.

    Raises:
        RuntimeError: if other processes joined, or they shared the model in another way.
    """
    if (probe.processes, probe.strategy) != (cluster.processes, cluster.strategy):
        raise RuntimeError(
            f"planned were {cluster.processes} processes that share the model by {cluster.strategy}, but what joined "
            f"were {probe.processes} by {probe.strategy}: check the accelerate config and --gpus."
        )


def _s(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:,.0f}"
