"""Stage 1: teach a model to write lists, by imitating one for each dialogue.

A dialogue with `recommendations` (a teacher's list) is answered with them; where no dialogue has any, lists are made
from what the user really wanted, filled up with what is popular. `--imitate augmented` makes them from augmented
labels, and `--anchor_weight` keeps a second round near the first (arXiv 2508.05657). As in stage 2, `--use_peft` merges
an adapter that training starts from and trains a new one on top.

    accelerate launch recipes/sft.py --config recipes/configs/sft.yaml --catalog CATALOG --dialogues TRAIN.jsonl
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from datasets import Dataset
from transformers import TrainerCallback
from trl import ModelConfig, SFTConfig, get_peft_config

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, context_length, dialogues_hash
from rankrl.demonstrations import popular_items, truth_then_popular
from rankrl.grpo.sampling import forget_generation_config
from rankrl.plan.started import warn_of_findings
from rankrl.rewards import TruthResolver
from rankrl.run.arguments import Imitate, SFTArguments
from rankrl.run.console import SFT_COLUMNS, ConsoleCallback, show_log
from rankrl.run.errors import explain_errors
from rankrl.run.interrupt import train
from rankrl.run.model_card import leave_model_card
from rankrl.run.models import load_policy, load_tokenizer, model_kwargs, require_lora_targets, tokenizer_kwargs
from rankrl.run.refusals import (
    refuse_eval_set,
    refuse_no_step,
    refuse_what_the_prompt_decides,
    require_joined_processes,
    require_packages,
)
from rankrl.run.resume import checkpoint_to_resume
from rankrl.run.stages import stage_parser
from rankrl.run.start import leave_record, make_renderer, read_data
from rankrl.run.tiny_gpt2 import TINY_GPT2, build_tiny_gpt2
from rankrl.sft import AnchoredSFTTrainer

logger = logging.getLogger("rankrl.sft")


def what_to_imitate(dialogues: list[Dialogue], imitate: Imitate) -> Imitate:
    """`auto` decided: the teacher's lists where there are any, else the truth.

    Raises:
        ValueError: if no dialogue has what is asked for.
    """
    if imitate == "auto":
        imitate = "recommendations" if any(dialogue.recommendations for dialogue in dialogues) else "truth"
        logger.info("lists are made from: %s", imitate)
    if imitate != "truth" and not any(getattr(dialogue, imitate) for dialogue in dialogues):
        made_by = {"recommendations": "recipes/demonstrations.py", "augmented": "recipes/augment_labels.py"}[imitate]
        raise ValueError(
            f"imitate is {imitate!r}, but none of the {len(dialogues)} dialogues has {imitate}: give those that "
            f"{made_by} wrote, or imitate something else."
        )
    return imitate


def demonstrations(
    catalog: Catalog,
    dialogues: list[Dialogue],
    num_ranks: int,
    imitate: Imitate,
    *,
    allow_unknown_items: bool = False,
) -> list[list[str]]:
    """The lines that each dialogue is answered with: the teacher's list, or labels filled up by their popularity."""
    if imitate == "recommendations":
        return taught(catalog, dialogues, num_ranks, allow_unknown_items=allow_unknown_items)
    if imitate == "augmented":
        labels = [sorted(dialogue.augmented or (), key=lambda item: -item.gain) for dialogue in dialogues]
    else:
        labels = [dialogue.ground_truth for dialogue in dialogues]
    wanted = TruthResolver(catalog, column="augmented" if imitate == "augmented" else "ground_truth").truth(labels)
    seen = [[catalog.resolve(item) for item in dialogue.seen] for dialogue in dialogues]
    lists = truth_then_popular(wanted, seen, popular_items(wanted, len(catalog)), num_ranks)
    return [[catalog.lines[item] for item in row] for row in lists.tolist()]


def taught(
    catalog: Catalog, dialogues: list[Dialogue], num_ranks: int, *, allow_unknown_items: bool
) -> list[list[str]]:
    """The teacher's list for each dialogue."""
    rows = [[catalog.resolve(item) for item in dialogue.recommendations or ()] for dialogue in dialogues]
    for dialogue, row in zip(dialogues, rows, strict=True):
        if not allow_unknown_items and (len(row) < num_ranks or -1 in row[:num_ranks]):
            raise ValueError(
                f"dialogue {dialogue.id!r} demonstrates {len(row)} items, {row.count(-1)} of them not in the "
                f"catalogue; expected num_ranks = {num_ranks} that are. Lower num_ranks, or bring the lists into "
                "the catalogue (recipes/demonstrations.py)."
            )
    return [
        [
            catalog.lines[item] if item >= 0 else str(reference.title)
            for item, reference in zip(row[:num_ranks], dialogue.recommendations or (), strict=False)
        ]
        for dialogue, row in zip(dialogues, rows, strict=True)
    ]


def only_with(dialogues: list[Dialogue], field: Imitate) -> list[Dialogue]:
    """The dialogues that somebody listed something for: an empty list teaches nothing."""
    listed = [dialogue for dialogue in dialogues if getattr(dialogue, field)]
    if empty := len(dialogues) - len(listed):
        logger.warning("%d of %d dialogues have no %s and are left out", empty, len(dialogues), field)
    return listed


def sft_dataset(
    renderer: PromptRenderer, dialogues: list[Dialogue], lists: list[list[str]], max_length: int
) -> Dataset:
    """Token ids with a mask on the list, so that SFT sees the very prompt that RL and serving see."""
    return Dataset.from_list(
        [
            renderer.example(dialogue.messages, lines, max_length=max_length)
            for dialogue, lines in zip(dialogues, lists, strict=True)
        ]
    )


def main(
    args: SFTArguments,
    training_args: SFTConfig,
    model_args: ModelConfig,
    *,
    callbacks: Iterable[TrainerCallback] = (),
) -> None:
    """Train and save model, tokenizer, prompt and manifest in `training_args.output_dir`.

    `callbacks` of the caller's own come after those of the recipe.
    """
    require_joined_processes(training_args)
    require_packages(model_args, training_args)
    refuse_eval_set(training_args)
    refuse_no_step(training_args)
    refuse_what_the_prompt_decides(training_args)
    catalog, dialogues = read_data(args, allow_empty_truth=args.allow_empty_truth)
    imitate = what_to_imitate(dialogues, args.imitate)
    if imitate == "augmented" or (imitate == "recommendations" and args.allow_unknown_items):
        dialogues = only_with(dialogues, imitate)
    lists = demonstrations(catalog, dialogues, args.num_ranks, imitate, allow_unknown_items=args.allow_unknown_items)

    if model_args.model_name_or_path == TINY_GPT2:
        texts = [message["content"] for dialogue in dialogues for message in dialogue.messages]
        with training_args.main_process_first():
            model_args.model_name_or_path = build_tiny_gpt2(
                f"{training_args.output_dir}/{TINY_GPT2}",
                [*texts, *("\n".join(lines) for lines in lists), *catalog.lines],
                vocab_size=args.tiny_vocab_size,
                context=args.tiny_context,
                # Far above GPT-2's own, which suits wide models: attention would start all but blind, and a model that
                # learns late to look back at what it has listed lists it again.
                initializer_range=128**-0.5,  # of its width
                seed=training_args.seed,
            )
    loading = model_kwargs(model_args, trust_remote_code=training_args.trust_remote_code)
    tokenizer = load_tokenizer(model_args.model_name_or_path, **tokenizer_kwargs(loading))
    model = load_policy(
        model_args.model_name_or_path,
        merge_into=f"{training_args.output_dir}/merged" if model_args.use_peft else None,
        **loading,
    )
    require_lora_targets(model, model_args)
    forget_generation_config(model, tokenizer)  # stage 2, and vLLM with it, would read it from what is saved
    renderer, _ = make_renderer(args, tokenizer, model.config, catalog, args.num_ranks)
    checkpoint = checkpoint_to_resume(training_args, model_args.model_name_or_path, args.dialogues)
    for start in filter(None, (model_args.model_name_or_path, checkpoint)):
        renderer.require_same_prompt(start, allow_mismatch=args.allow_prompt_mismatch)

    training_args.max_length = None  # the renderer has fitted every example; TRL would cut lists in silence
    training_args.completion_only_loss = True
    dataset = sft_dataset(renderer, dialogues, lists, context_length(model.config))
    trainer = AnchoredSFTTrainer(
        model,
        args=training_args,
        anchor_weight=args.anchor_weight,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
    )
    warn_of_findings("sft", trainer.accelerator.unwrap_model(trainer.model), args, training_args, model_args)
    ConsoleCallback.install(trainer, {**SFT_COLUMNS, "anchor KL": "anchor_kl"} if args.anchor_weight else SFT_COLUMNS)
    leave_record(
        trainer,
        renderer,
        catalog,
        dialogues[0],
        lists[0],
        args,
        training_args,
        model_args,
        checkpoint=checkpoint,
        dialogues_hash=dialogues_hash(dialogues),
    )
    for callback in callbacks:
        trainer.add_callback(callback)
    train(trainer, checkpoint)
    leave_model_card(trainer)


def cli(*callbacks: TrainerCallback) -> None:
    """Parse YAML and flags, and train."""
    explain_errors()
    show_log()
    main(*stage_parser("sft", __doc__).parse_args_and_config(), callbacks=callbacks)


if __name__ == "__main__":
    cli()
