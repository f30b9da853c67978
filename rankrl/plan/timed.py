"""A recipe with a clock in it: what `--probe` starts, in one process or by `accelerate launch` in several.

python -m rankrl.plan.timed rank_grpo FILE.json [the recipe's flags]
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from transformers import TrainerCallback

from rankrl.plan.host_memory import host_peak
from rankrl.plan.started import joined_strategy


class RunClock(TrainerCallback):
    """Times every step of a short run, the validation after its last one, and a checkpoint, which it asks for.

    It comes after the callbacks of the recipe: what they do after a step (validation) is told from the step by that.
    Only the one that watches for signals is added later, and takes no time. The phases of a step are those that
    `RankGRPOTrainer` logs (`time/*`) where every step is logged.

    Args:
        path: JSON of what was seen, in the words of `rankrl.plan.probe.Probe`; written by the first process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps: list[float] = []
        self._begun = self._stepped = self._logged = 0.0
        self._after_step = self._saving = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begun = _now()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._stepped = _now()
        self._steps.append(self._stepped - self._begun)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._after_step = _now() - self._stepped
        control.should_save |= state.global_step == state.max_steps

    def on_log(self, *_: Any, **__: Any) -> None:
        self._logged = _now()

    def on_save(self, *_: Any, **__: Any) -> None:
        self._saving = _now() - self._logged

    def on_train_end(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        joined = AcceleratorState()
        gpu = torch.cuda.is_available() and args.device.type == "cuda"
        memory = gather_object([(host_peak(), torch.cuda.max_memory_allocated() if gpu else 0)])
        seen = {
            "steps": self._steps,
            "phases": [_phases(entry) for entry in state.log_history if "time/step" in entry],
            "after_step": self._after_step,
            "saving": self._saving,
            "dialogues": len(train_dataloader.dataset),
            "processes": args.world_size,
            "strategy": joined_strategy(joined) or str(joined.distributed_type.value),
            "device": torch.cuda.get_device_name(args.device) if gpu else str(args.device.type).upper(),
            "host_peak": max(host for host, _ in memory),
            "gpu_peak": max(gpu for _, gpu in memory),
        }
        if state.is_world_process_zero:
            self._path.write_text(json.dumps(seen), encoding="utf-8")


def _now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def _phases(entry: dict[str, float]) -> dict[str, float]:
    times = {name.removeprefix("time/"): value for name, value in entry.items() if name.startswith("time/")}
    return {name: seconds for name, seconds in times.items() if name != "step"}


def main() -> None:
    """Run the recipe that the command line names, with its flags."""
    _, stage, path, *flags = sys.argv
    sys.argv = [stage, *flags]
    import_module(f"recipes.{stage}").cli(RunClock(Path(path)))


if __name__ == "__main__":
    main()
