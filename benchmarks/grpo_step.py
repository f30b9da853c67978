"""A step of `RankGRPOTrainer` against a step of TRL's own `GRPOTrainer`: the same model, prompts, seeds and lists.

The learning rate is 0, so that the seed alone decides what is sampled: every pair of steps does the same work, and
what the rank costs is all that differs. How long segments, resolving, rewards, advantages and their log take is what
the trainer itself says of its steps. A random model does not write lists; a bias on the newline makes it end a line
after three tokens or so.
"""

from __future__ import annotations

import gc
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    PretrainedConfig,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from trl import GRPOConfig, GRPOTrainer

from benchmarks.measure import Row, Table
from benchmarks.synthetic import byte_level_tokenizer
from catalog import Catalog
from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
from rankrl.plan.shapes import PAPER_MODELS
from rankrl.rewards import RankReward

TARGET = 1.05  # times TRL's step
MOST_RANK_WORK, MOST_SHARE = 50 / 128, 3  # milliseconds a completion, percent of a step
NUM_RANKS, LINE_TOKENS, GROUP = 20, 3, 8
SIDES = {"GRPOTrainer": (GRPOTrainer, GRPOConfig, False), "RankGRPOTrainer": (RankGRPOTrainer, RankGRPOConfig, True)}

PARTS: tuple[tuple[str, tuple[str, ...], Callable[[Iterable[float]], float]], ...] = (
    ("median step", (), median),
    ("median step without sampling", ("generate",), median),
    ("fastest step", (), min),  # what other programs on the machine disturb least
)


def run(size: int = 128, length: int = 80, steps: int = 4, rounds: int = 5) -> Iterator[Table]:
    """Compares steps of `size` lists of `length` tokens: on the CPU with a tiny GPT-2, on a GPU with 0.5 B parameters.

    Args:
        size: completions a step.
        length: tokens of a completion.
        steps: that are timed in each run, after one that is not.
        rounds: both trainers run once in each round, and take turns at being first.
    """
    shape = {"size": size, "length": length, "steps": steps, "rounds": rounds}
    tiny = GPT2Config(vocab_size=2000, n_embd=128, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0)
    yield compare("tiny GPT-2 on the CPU", tiny, use_cpu=True, bf16=False, **shape)
    if torch.cuda.is_available():
        qwen = deepcopy(PAPER_MODELS["Qwen2.5-0.5B"])
        qwen.eos_token_id = 0
        yield compare(f"Qwen2 0.5 B on {torch.cuda.get_device_name()}", qwen, use_cpu=False, bf16=True, **shape)


def compare(name: str, config: PretrainedConfig, *, rounds: int, **settings: Any) -> Table:
    """Lets both trainers run in turn and compares the median of their steps."""
    clocks = {side: Clock() for side in SIDES}
    with tempfile.TemporaryDirectory() as directory:
        save_random_policy(config, byte_level_tokenizer(config.vocab_size), Path(directory))
        for seed in range(rounds):
            for side in sorted(SIDES, reverse=bool(seed % 2)):
                train(side, Path(directory), clocks[side], seed, **settings)
    trl, ours = clocks["GRPOTrainer"], clocks["RankGRPOTrainer"]
    assert ours.completions == trl.completions, "the trainers sampled different lists: their steps cannot be compared"
    np.testing.assert_allclose(ours.rewards, trl.rewards, rtol=0, atol=1e-9)

    lengths = f"{settings['size']} lists of {settings['length']} tokens"
    rows = []
    for part, without, of in PARTS:
        theirs, own = (1000 * of(clock.seconds(without=without)) for clock in (trl, ours))
        rows += [
            Row(f"{part}, `GRPOTrainer`", theirs, "ms"),
            Row(f"{part}, `RankGRPOTrainer`", own, "ms"),
            Row(f"{part}, ratio", own / theirs, "x", at_most=TARGET if part == "median step" else None),
        ]
    milliseconds, percent = (median(figures) for figures in zip(*ours.rank_work, strict=True))
    rows += [
        Row("rank-specific work in a step", milliseconds, "ms", at_most=MOST_RANK_WORK * settings["size"]),
        Row("its share of the step", percent, "%", at_most=MOST_SHARE),
    ]
    return Table(f"A step of {lengths}, {name}", rows)


class Clock(TrainerCallback):
    """Times the steps of one trainer over its runs, part by part, and keeps what its lists were and earned.

    A step lasts from the end of the one before to its own: logging and loading are part of it. TRL generates, computes
    the log-probabilities of the reference, asks for rewards, and updates; so what lies between the end of generation
    and the reward is log-probabilities, and what lies elsewhere is the update.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []  # seconds: "step", and its parts
        self.rank_work: list[tuple[float, float]] = []  # milliseconds of a step, and percent of it
        self.completions: list[str] = []
        self.rewards: list[float] = []
        self._began: float | None = None
        self._parts: dict[str, float] = {}
        self._generated = 0.0

    def seconds(self, part: str = "step", *, without: Sequence[str] = ()) -> list[float]:
        """Seconds of every step, or of a part of it, without some of its parts."""
        return [step[part] - sum(step[name] for name in without) for step in self.steps]

    def watch(self, model: Any) -> None:
        """Times a model's `generate`, and its `generate_batch`, from now on."""
        model.generate = self._timed(model.generate)
        model.generate_batch = self._timed(model.generate_batch)

    def _timed(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            output = generate(*args, **kwargs)
            self._generated = now()
            self._add("generate", self._generated - start)
            return output

        return timed

    def rewarded(self, start: float, end: float) -> None:
        """Takes down when a reward was asked for, and when it was there."""
        self._add("log-probabilities", start - self._generated)
        self._add("reward", end - start)

    def _add(self, part: str, seconds: float) -> None:
        self._parts[part] = self._parts.get(part, 0.0) + seconds

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step of a run warms up."""
        self._began = None

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """One step ends, the next begins."""
        end = now()
        if self._began is not None:
            step = end - self._began
            self.steps.append({"step": step, **self._parts, "update": step - sum(self._parts.values())})
        self._began, self._parts = end, {}

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        """What `RankGRPOTrainer` says of the step that has just ended; the first of a run is left out."""
        if "time/step" in logs and len(self.rank_work) < len(self.steps):
            work = [[logs[f"{key}/{phase}"] for phase in ("reward", "credit")] for key in ("time", "time_share")]
            self.rank_work.append((1000 * sum(work[0]), 100 * sum(work[1])))


class RecordingReward(RankReward):
    """Tells a clock what it was given and what it paid, and when."""

    def __init__(self, clock: Clock, catalog: Catalog, *, per_rank: bool) -> None:
        super().__init__(catalog, NUM_RANKS, per_rank=per_rank)
        self.clock = clock

    def __call__(self, **columns: Any) -> list[list[float]] | list[float]:
        start = now()
        rewards = super().__call__(**columns)
        self.clock.rewarded(start, now())
        self.clock.completions += columns["completions"]
        self.clock.rewards += np.reshape(rewards, (len(rewards), -1)).sum(axis=1).tolist()
        return rewards


def now() -> float:
    """Seconds, after the GPU has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def save_random_policy(config: PretrainedConfig, tokenizer: Any, directory: Path) -> None:
    """A random model and its tokenizer, as files, so that the KL reference is loaded like any other."""
    set_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def train(
    side: str, policy: Path, clock: Clock, seed: int, *, size: int, length: int, steps: int, **device: bool
) -> None:
    """One run of a trainer on lists that a bias on the newline cuts into lines: `steps` are timed."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    words = catalog_words(tokenizer)
    (newline,) = tokenizer.encode("\n")
    bias = math.log((len(tokenizer) - 1) / (LINE_TOKENS - 1))  # else all tokens are equally likely
    timed_run(
        side,
        policy,
        clock,
        words,
        prompts(words, size),
        steps,
        seed=seed,
        per_device_train_batch_size=size,
        max_completion_length=length,
        gradient_checkpointing=False,
        generation_kwargs={"sequence_bias": [[[newline], bias]]},
        model_init_kwargs={"dtype": "bfloat16" if device["bf16"] else "float32"},
        **device,
    )


def timed_run(
    side: str,
    policy: Path,
    clock: Clock,
    words: Sequence[str],
    rows: Dataset,
    steps: int,
    *,
    peft_config: Any = None,
    **settings: Any,
) -> None:
    """One run of a trainer: a step to warm up, then `steps` that are timed. The learning rate is 0.

    Args:
        side: the trainer, a key of `SIDES`.
        policy: directory of the model.
        clock: what is told of the run.
        words: the catalogue's items.
        rows: the prompts.
        steps: that are timed.
        peft_config: an adapter to train; all weights by default.
        **settings: of the trainer.
    """
    trainer_class, config_class, per_rank = SIDES[side]
    arguments = config_class(
        output_dir=str(policy / side),
        learning_rate=0.0,
        beta=1e-3,
        disable_dropout=True,
        max_steps=1 + steps,
        num_generations=GROUP,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **settings,
    )
    trainer = trainer_class(
        str(policy),
        RecordingReward(clock, Catalog((word, None) for word in words), per_rank=per_rank),
        arguments,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(policy),
        peft_config=peft_config,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock)
    clock.watch(trainer.model)
    trainer.train()
    del trainer
    gc.collect()  # a trainer is held by its own parts: models would pile up on the GPU


def catalog_words(tokenizer: Any) -> list[str]:
    """Items that a random model can name: the tokens that are words."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return sorted({text.strip().lower() for text in texts if text.strip().isalpha()})


def prompts(words: Sequence[str], size: int, characters: int | None = None) -> Dataset:
    """Rows with a prompt and ten wanted items each; a prompt is 20 words, or as many as fill so many characters."""
    random_source = random.Random(0)
    rows = []
    for _ in range(size):
        wanted = [{"id": None, "title": word, "year": None, "gain": 1.0} for word in random_source.sample(words, 10)]
        text = "\n".join(random_source.sample(words, characters or 20)) + "\n"
        rows.append({"prompt": text[:characters], "ground_truth": wanted})
    return Dataset.from_list(rows)
