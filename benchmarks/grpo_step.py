"""A step of `RankGRPOTrainer` against a step of TRL's own `GRPOTrainer`: the same model, prompts, seeds and lists.

The learning rate is 0, so that a seed decides what both sample: every pair of steps does the same work, and what the
rank costs is all that differs. A random model does not write lists; a bias on the newline makes it end a line after
four tokens.
"""

from __future__ import annotations

import gc
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    TrainerCallback,
    set_seed,
)
from trl import GRPOConfig, GRPOTrainer

from benchmarks.synthetic import byte_level_tokenizer
from benchmarks.table import Row, Table
from catalog import Catalog
from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
from rankrl.rewards import RankReward

TARGET = 1.05
NUM_RANKS = 20
LINE_TOKENS = 4
GROUP = 8


@dataclass
class Steps:
    """What one trainer did: seconds of each step after the first, those of them spent sampling, and what it wrote."""

    seconds: list[float] = field(default_factory=list)
    sampling: list[float] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    @property
    def rest(self) -> list[float]:
        """Seconds of each step without sampling."""
        return [step - sampling for step, sampling in zip(self.seconds, self.sampling, strict=True)]


class Stopwatch(TrainerCallback):
    """Times every step after the first, from the end of the step before: logging and loading are part of it."""

    def __init__(self, model: Any, steps: Steps) -> None:
        self.steps = steps
        self.start: float | None = None
        self.sampling = 0.0
        generate = model.generate

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            output = generate(*args, **kwargs)
            self.sampling += now() - start
            return output

        model.generate = timed

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        end = now()
        if self.start is not None:
            self.steps.seconds.append(end - self.start)
            self.steps.sampling.append(self.sampling)
        self.start, self.sampling = end, 0.0


def now() -> float:
    """Seconds, after the GPU has caught up."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
