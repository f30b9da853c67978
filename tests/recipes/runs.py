"""Recipes run as a user runs them, only smaller: the same parser and `main`, a model of two thin layers, few steps."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_RANKS = 3
SMALL = {
    "num_ranks": NUM_RANKS,
    "prompt_template": REPOSITORY / "recipes" / "configs" / "demo" / "prompt.jinja",
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
}
PAIRS = {"num_generations": 2}  # Rank-GRPO only: two lists of each prompt
LORA = {"use_peft": True, "lora_r": 4, "lora_target_modules": "all-linear"}


@dataclass(frozen=True)
class Files:
    """Simulated data on disk.

    Attributes:
        catalog: 50 films.
        train: dialogues with a teacher's lists; the last one is too long for the tiny model's context.
        untaught: the same without the lists.
        test: further dialogues.
    """

    catalog: Path
    train: Path
    untaught: Path
    test: Path

    @property
    def training(self) -> dict[str, Path]:
        """The settings that name catalogue and training dialogues."""
        return {"catalog": self.catalog, "dialogues": self.train}


def flags(**settings: Any) -> list[str]:
    """Settings as a command line."""
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


def run(recipe: ModuleType, **settings: Any) -> None:
    """Run a recipe's command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(recipe.__file__), *flags(**settings)])
        patch.setattr(sys, "excepthook", sys.excepthook)  # recipes replace it
        recipe.cli()


def run_command(command: Sequence[str], shortened: Mapping[str, Sequence[str]]) -> str:
    """Run `python -m MODULE FLAGS` in this process, with further flags by recipe; returns the recipe's name."""
    module = command[command.index("-m") + 1]
    name = module.removeprefix("recipes.")
    words = [name, *command[command.index("-m") + 2 :], *shortened.get(name, ())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "excepthook", sys.excepthook)
        import_module(module).cli()
    return name


def trainer_of(recipe: ModuleType, **settings: Any) -> Any:
    """The trainer that a recipe builds, before its first step."""
    built = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "train", lambda trainer, checkpoint: built.append(trainer))
        run(recipe, **settings)
    return built[0]


def tokenizer_asked_for(recipe: ModuleType, **settings: Any) -> dict[str, Any]:
    """What a recipe tells `from_pretrained` of its tokenizer; it goes no further."""
    asked: dict[str, Any] = {}

    def load(name: Any, **kwargs: Any) -> None:
        asked.update(kwargs)
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoTokenizer, "from_pretrained", load)
        with pytest.raises(InterruptedError):
            run(recipe, **settings)
    return asked


def installed(directory: Path) -> dict[str, str]:
    """The environment of a user who has installed the packages: `recipes` is not among them."""
    directory.mkdir()
    for package in ("catalog", "rankrl"):
        (directory / package).symlink_to(REPOSITORY / package)
    return {**os.environ, "PYTHONPATH": str(directory)}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """What a model makes of a fixed text: equal for equal policies. (30, V)"""
    ids = torch.arange(10, 40)[None]
    return model.eval()(ids.to(model.device)).logits[0].float().cpu()
