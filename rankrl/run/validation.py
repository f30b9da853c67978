"""Validation while training: greedy lists for a fixed sample, scored, compared with the best so far, and stopping."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback

from catalog import Catalog
from catalog.files import whole_file
from rankrl.data import Dialogue, PromptRenderer, dialogue_of, dialogues_hash
from rankrl.evaluation import Scores, evaluate, generate_lists
from rankrl.grpo import RankGRPOTrainer
from rankrl.grpo.out_of_memory import explain_out_of_memory
from rankrl.rewards import TruthResolver
from rankrl.run.arguments import RewardArguments, ValidationArguments
from rankrl.run.choosing import VALIDATION_FILE, Choice, Look
from rankrl.run.manifest import file_hash
from rankrl.run.start import read_dialogues

logger = logging.getLogger(__name__)

_STATE = "rankrl_validation"  # where the trainer's state, which every checkpoint holds, keeps ours


@dataclass(frozen=True)
class ValidationSample:
    """The dialogues that every checkpoint of a run is scored on. Made by `load`.

    Attributes:
        file: where they were drawn from.
        dialogues: the rows; the catalogue knows at least one item that each of them wants.
        catalog: decides which line is which item.
        num_ranks: K.
        year_tolerance: years by which a truth item may miss the catalogue's.
    """

    file: str
    dialogues: Sequence[Dialogue]
    catalog: Catalog
    num_ranks: int
    year_tolerance: int = 0

    @classmethod
    def load(
        cls, validation: ValidationArguments, args: RewardArguments, catalog: Catalog, num_ranks: int
    ) -> ValidationSample:
        """Draw the sample from the file that the arguments name; same file, size and seed, same sample.

        Raises:
            ValueError: if the file holds fewer than two dialogues that want something of the catalogue.
        """
        assert validation.validation is not None
        rows = read_dialogues(replace(args, limit=None), validation.validation)
        resolver = TruthResolver(catalog, year_tolerance=args.year_tolerance, unknown_limit=args.unknown_limit)
        truth = resolver.truth([row.ground_truth for row in rows])
        known = [row for row, wanted in zip(rows, truth, strict=True) if wanted]
        size = min(validation.validation_size, len(known))
        drawn = np.random.default_rng(validation.validation_seed).permutation(len(known))[:size]
        sample = [known[row] for row in sorted(drawn.tolist())]
        if len({dialogue_of(row.id) for row in sample}) < 2:
            raise ValueError(
                f"of the {len(rows)} rows in {validation.validation} {len(sample)} can be validated on, and they are "
                "not of two dialogues; a standard error needs at least two, and a useful one some hundreds. Name a "
                "larger file, or look whether the catalogue knows what its dialogues want."
            )
        return cls(validation.validation, sample, catalog, num_ranks, args.year_tolerance)

    @property
    def metric(self) -> str:
        """The metric that decides, as `rankrl.evaluation.evaluate` calls it."""
        return f"ndcg@{self.num_ranks}"

    @cached_property
    def hash(self) -> str:
        """16 hex digits that tell one sample from another."""
        return dialogues_hash(self.dialogues)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the sample is, for manifest and record."""
        return {"file": self.file, "file_hash": file_hash(self.file), "rows": len(self.dialogues), "hash": self.hash}

    def warn_of_training(self, training: Sequence[Dialogue]) -> None:
        """Say so if conversations of the sample are trained on: the best would be whatever knows them by heart."""
        trained_on = {json.dumps(row.messages) for row in training}
        shared = sum(json.dumps(row.messages) in trained_on for row in self.dialogues)
        if shared:
            logger.warning(
                "%d of the %d validation dialogues are training dialogues too: their scores say nothing of new users. "
                "Take the validation file from other dialogues.",
                shared,
                len(self.dialogues),
            )

    def score(self, texts: Sequence[str]) -> Scores:
        """Score one list per dialogue; the rows of the result are those of the sample."""
        return evaluate(
            texts,
            self.dialogues,
            self.catalog,
            num_ranks=self.num_ranks,
            ks=(self.num_ranks,),
            year_tolerance=self.year_tolerance,
        )


class Validation(TrainerCallback):
    """Scores the policy before the first step, every `validate_steps` steps and after the last, and stops when asked.

    Every process writes its share of the lists; all of them score all lists, and so decide alike. A new best is saved
    at once. What the next decision depends on lies in the trainer's state, so a resumed run decides as if it had never
    stopped; `validation.json` in the output directory holds every look. Training itself is not touched: greedy lists
    draw no random number.

    Args:
        trainer: whose policy is validated; it trains lists of at most `max_completion_length` tokens.
        renderer: the prompt of training.
        sample: what is validated on.
        args: how often, and for how long without a new best.
    """

    def __init__(
        self, trainer: RankGRPOTrainer, renderer: PromptRenderer, sample: ValidationSample, args: ValidationArguments
    ) -> None:
        self.trainer = trainer
        self.sample = sample
        self.args = args
        self.choice = Choice([dialogue_of(row.id) for row in sample.dialogues], args.patience)
        self._tokenizer = renderer.tokenizer
        self._prompts = [renderer.render(dialogue.messages).token_ids for dialogue in sample.dialogues]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        remembered = state.stateful_callbacks.get(_STATE)
        if remembered is None:
            self._look(state, control)
            return
        if remembered["sample"] != self.sample.hash:
            raise ValueError(
                f"the checkpoint was validated on another sample ({remembered['sample']}, now {self.sample.hash}), so "
                "its scores cannot be compared. Give the same validation file, validation_size and validation_seed."
            )
        self.choice.restore(remembered["choice"])
        control.should_training_stop |= self.choice.exhausted
        self._write(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.args.validate_steps == 0 or control.should_training_stop:
            self._look(state, control)

    def _look(self, state: Any, control: Any) -> None:
        scores = self.sample.score(self.lists())
        metric, means = self.sample.metric, scores.summary()
        further = {name: means[name] for name in (f"recall@{self.sample.num_ranks}", "in_catalog", "repeats", "lines")}
        look = self.choice.look(state.global_step, scores.rows[metric], further)
        state.stateful_callbacks[_STATE] = {"sample": self.sample.hash, "choice": self.choice.state()}
        if look.best:
            state.best_global_step, state.best_metric = look.step, look.mean
        control.should_save |= look.best or self.choice.exhausted
        control.should_training_stop |= self.choice.exhausted
        training_log_is_due = control.should_log  # logging takes it for done
        self._log(look)
        control.should_log = training_log_is_due
        self._write(state)

    def lists(self) -> list[str]:
        """One greedy list per row of the sample, written by all processes together.

        Each takes equally many distinct prompts, some maybe a second time: where a model is spread over processes, none
        can write a batch without the others.
        """
        accelerator, args = self.trainer.accelerator, self.trainer.args
        distinct = sorted({tuple(prompt) for prompt in self._prompts})
        places = range(accelerator.process_index, len(distinct) + accelerator.process_index, accelerator.num_processes)
        share = [distinct[place % len(distinct)] for place in places]
        with (
            explain_out_of_memory("validate", args),
            self.trainer.writing_model() as model,
        ):
            texts = generate_lists(
                model,
                self._tokenizer,
                share,
                max_new_tokens=args.max_completion_length,
                batch_size=self.args.validate_batch_size,
                progress=False,
            )
        written = dict(gather_object(list(zip(share, texts, strict=True))))
        return [written[tuple(prompt)] for prompt in self._prompts]

    def _log(self, look: Look) -> None:
        metric = f"valid/{self.sample.metric}"
        logs = {metric: look.mean, f"{metric}_se": look.standard_error}
        if look.gain is not None and look.gain_standard_error is not None:
            logs |= {f"{metric}_gain": look.gain, f"{metric}_gain_se": look.gain_standard_error}
        logs |= {f"valid/{name}": value for name, value in look.measures.items()}
        Trainer.log(self.trainer, logs)  # not TRL's: that closes the logging step that is under way
        if self.trainer.is_world_process_zero():
            logger.info("%s", self._sentence(look))

    def _sentence(self, look: Look) -> str:
        name = self.sample.metric.upper()
        sentence = f"step {look.step}: {name} {look.mean:.4f} (standard error {look.standard_error:.4f})"
        if look.gain is None:
            return f"{sentence}, on {len(self.sample.dialogues)} dialogues"
        verdict = "the new best" if look.best else f"best remains step {self.choice.best_step}"
        if self.choice.exhausted:
            verdict += f"; stopping: no new best in {self.choice.patience} validations"
        return f"{sentence}, to the best before {look.gain:+.4f} ({look.gain_standard_error:.4f}): {verdict}"

    def _write(self, state: Any) -> None:
        if not self.trainer.is_world_process_zero():
            return
        record = {"metric": self.sample.metric, "sample": self.sample.facts, **self.choice.summary()}
        with whole_file(Path(self.trainer.args.output_dir) / VALIDATION_FILE) as file:
            file.write((json.dumps(record, indent=1) + "\n").encode())
