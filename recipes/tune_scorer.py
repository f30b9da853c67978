"""Augmented labels: tune a small model on a few hundred of a teacher's scores, so that it can score the rest.

A share of the dialogues is held out; `metrics.json` says how well the scorer agrees with the teacher there, beside a
constant, the mean of the teacher's scores.

    python recipes/tune_scorer.py --config recipes/configs/tune_scorer.yaml --catalog CATALOG \\
        --dialogues TRAIN.jsonl --scores SCORES.jsonl --output_dir runs/scorer
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments
from trl import ModelConfig, get_peft_config

from catalog import Catalog
from rankrl.data import Dialogue, hold_out
from rankrl.labels import LocalScorer, ScoredDialogue, encode_pairs, load_scores, teacher_agreement
from rankrl.labels.local import HALF, MIDDLE
from rankrl.run.arguments import ScorerArguments
from rankrl.run.console import ConsoleCallback, show_log
from rankrl.run.errors import explain_errors
from rankrl.run.interrupt import train
from rankrl.run.manifest import file_hash, write_manifest
from rankrl.run.models import load_tokenizer, model_kwargs, tokenizer_kwargs
from rankrl.run.parser import RecipeParser
from rankrl.run.refusals import require_joined_processes
from rankrl.run.resume import checkpoint_to_resume
from rankrl.run.start import read_data
from rankrl.run.texts import own_texts
from rankrl.run.tiny_gpt2 import TINY_GPT2, build_tiny_gpt2

logger = logging.getLogger("rankrl.tune_scorer")


@dataclass(frozen=True)
class Rated:
    """A dialogue, the texts of its rated candidates, and the teacher's scores of them."""

    dialogue: Dialogue
    items: list[str]
    scores: list[float]


def rated_dialogues(
    catalog: Catalog, dialogues: Sequence[Dialogue], scores: Mapping[str, ScoredDialogue]
) -> list[Rated]:
    """Dialogues with what the teacher rated for them, as far as the catalogue has it.

    Raises:
        ValueError: if no scored dialogue is among the dialogues, or nothing that was rated in the catalogue.
    """
    known = {dialogue.id: dialogue for dialogue in dialogues}
    if missing := [row.id for row in scores.values() if row.id not in known]:
        message = f"{len(missing)} of {len(scores)} scored dialogues are not among the dialogues: {missing[0]!r}, ..."
        if len(missing) == len(scores):
            raise ValueError(f"{message}; give the dialogues that were scored, with the ids they had.")
        logger.warning("%s", message)
    rated, unknown, own = [], 0, own_texts(catalog)
    for row in scores.values():
        if row.id not in known:
            continue
        found = [(catalog.resolve(item.item), item.score) for item in row.items if item.score is not None]
        unknown += sum(item < 0 for item, _ in found)
        kept = [(item, score) for item, score in found if item >= 0]
        if kept:
            rated.append(Rated(known[row.id], [own[item] for item, _ in kept], [score for _, score in kept]))
    if unknown:
        logger.warning("%d rated items are not in the catalogue and are left out", unknown)
    if not rated:
        raise ValueError("nothing that the scores rate is in the catalogue; give the one they were made for.")
    return rated


def pair_dataset(tokenizer: Any, rated: Sequence[Rated]) -> Dataset:
    """Pairs of dialogue and item as the scorer reads them, with what it is to say."""
    inputs, cut = encode_pairs(tokenizer, [(row.dialogue.messages, item) for row in rated for item in row.items])
    if cut:
        logger.warning("%d of %d pairs lost the start of their dialogue: raise max_length", cut, len(inputs))
    targets = [(score - MIDDLE) / HALF for row in rated for score in row.scores]
    return Dataset.from_list([{**pair, "labels": target} for pair, target in zip(inputs, targets, strict=True)])


def measure(scorer: LocalScorer, learned: Sequence[Rated], held: Sequence[Rated], threshold: float) -> dict[str, Any]:
    """Agreement with the teacher on held-out dialogues, of the scorer and of a constant."""
    teacher = np.concatenate([row.scores for row in held])
    scores = np.concatenate(scorer.score([row.dialogue.messages for row in held], [row.items for row in held]))
    mean = float(np.mean([score for row in learned for score in row.scores]))
    return {
        "scorer": teacher_agreement(scores, teacher, threshold),
        "mean": teacher_agreement(np.full(len(teacher), mean), teacher, threshold),
        "min_label_score": threshold,
        "dialogues": {"learned": len(learned), "held_out": len(held)},
        "pairs": {"learned": sum(len(row.scores) for row in learned), "held_out": len(teacher)},
    }


def show(metrics: Mapping[str, Any]) -> None:
    """Print the two beside each other."""
    table = Table("", *metrics["scorer"], title=f"{metrics['pairs']['held_out']:,} held-out pairs")
    for name in ("scorer", "mean"):
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in metrics[name].values()))
    Console().print(table)


def main(args: ScorerArguments, training_args: TrainingArguments, model_args: ModelConfig) -> dict[str, Any]:
    """Tune, measure, and save model or adapter, tokenizer, metrics and manifest in `training_args.output_dir`."""
    require_joined_processes(training_args)
    catalog, dialogues = read_data(args, allow_empty_truth=True)
    scores = load_scores(args.scores)
    rated = rated_dialogues(catalog, dialogues, scores)
    learned, held = hold_out(rated, args.held_out, seed=training_args.seed, row_id=lambda row: row.dialogue.id)

    if model_args.model_name_or_path == TINY_GPT2:
        texts = [message["content"] for row in learned for message in row.dialogue.messages]
        with training_args.main_process_first():
            model_args.model_name_or_path = build_tiny_gpt2(
                f"{training_args.output_dir}/{TINY_GPT2}",
                [*texts, *(item for row in learned for item in row.items)],
                vocab_size=args.tiny_vocab_size,
                context=args.max_length,
                seed=training_args.seed,
            )
    name = model_args.model_name_or_path
    name = str(Path(name).resolve()) if name and Path(name).is_dir() else name  # an adapter remembers the place
    loading = model_kwargs(model_args)
    tokenizer = load_tokenizer(name, **tokenizer_kwargs(loading))
    tokenizer.model_max_length = args.max_length  # saved with it, so that pairs are cut alike when they are scored
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, **loading)
    if model_args.use_peft:
        model_args.lora_task_type = "SEQ_CLS"  # trains and saves the head as well
        model = get_peft_model(model, get_peft_config(model_args))
    scorer = LocalScorer(model, tokenizer, name, batch_size=training_args.per_device_eval_batch_size)

    trainer = Trainer(
        model,
        training_args,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=pair_dataset(tokenizer, learned),
        processing_class=tokenizer,
    )
    ConsoleCallback.install(trainer, {"loss": "loss", "learning rate": "learning_rate"})
    checkpoint = checkpoint_to_resume(training_args, model_args.model_name_or_path, args.dialogues)
    if trainer.is_world_process_zero():
        hashes = {args.scores: file_hash(args.scores)}
        settings = (args, training_args, model_args)
        write_manifest(training_args.output_dir, catalog, None, *settings, resumed_from=checkpoint, inputs=hashes)
    train(trainer, checkpoint)
    metrics = measure(scorer, learned, held, args.min_label_score)
    if trainer.is_world_process_zero():
        text = json.dumps(metrics, indent=2) + "\n"
        (Path(training_args.output_dir) / "metrics.json").write_text(text, encoding="utf-8")
        show(metrics)
    return metrics


def cli() -> None:
    """Parse YAML and flags, and tune."""
    explain_errors()
    show_log()
    main(*RecipeParser((ScorerArguments, TrainingArguments, ModelConfig), __doc__).parse_args_and_config())


if __name__ == "__main__":
    cli()
