"""Stage 2: Rank-GRPO, from a model that writes lists to one that ranks them well.

`--model_name_or_path` takes a model or an adapter directory. With `--use_peft` an adapter is merged and a new one is
trained on top; without it, the adapter itself is trained on. Either way the KL reference is the policy at the start.
With `--validation` the best checkpoint on held-out dialogues is `best` in the output directory.

    accelerate launch recipes/rank_grpo.py --config recipes/configs/rank_grpo.yaml --model_name_or_path runs/sft \\
        --catalog CATALOG --dialogues TRAIN.jsonl
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback
from trl import ModelConfig, get_peft_config

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, dialogues_hash
from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer, sampling_settings
from rankrl.lazy import load_object
from rankrl.plan.started import warn_of_findings
from rankrl.rewards import LabelSchedule, RankReward, inverse_propensity_weights
from rankrl.run.alarms import AlarmArguments, Alarms
from rankrl.run.arguments import RewardArguments, ValidationArguments
from rankrl.run.checkpoints import KeepCheckpoints, where_to_find
from rankrl.run.console import RANK_GRPO_COLUMNS, ConsoleCallback, show_log
from rankrl.run.errors import explain_errors
from rankrl.run.interrupt import train
from rankrl.run.model_card import leave_model_card
from rankrl.run.models import load_policy, load_tokenizer, model_kwargs, require_lora_targets, tokenizer_kwargs
from rankrl.run.refusals import refuse_eval_set, refuse_no_step, require_joined_processes, require_packages
from rankrl.run.resume import checkpoint_to_resume
from rankrl.run.schedule import LearningRateSteps, ScheduleArguments
from rankrl.run.stages import stage_parser
from rankrl.run.start import leave_record, make_renderer, read_data
from rankrl.run.validation import Validation, ValidationSample

logger = logging.getLogger("rankrl.rank_grpo")


def prompt_dataset(renderer: PromptRenderer, dialogues: list[Dialogue]) -> Dataset:
    """Rendered prompts with what the reward needs to know of each dialogue."""
    return Dataset.from_list(
        [
            {
                "prompt": renderer.render(dialogue.messages).text,
                "ground_truth": [item.to_struct() for item in dialogue.ground_truth],
                "seen": [item.to_struct() for item in dialogue.seen],
                "augmented": [item.to_struct() for item in dialogue.augmented or ()],
            }
            for dialogue in dialogues
        ]
    )


def make_reward(args: RewardArguments, catalog: Catalog, dialogues: list[Dialogue], num_ranks: int) -> RankReward:
    """The reward that the arguments describe, its labels checked against the catalogue."""
    truth = [dialogue.ground_truth for dialogue in dialogues]
    augmented = [dialogue.augmented for dialogue in dialogues]
    labels = LabelSchedule(args.augmented_weight, args.label_schedule, args.stage_one_share)
    if any(augmented) and not labels.weight:
        logger.warning("the dialogues hold augmented labels, which do not count: augmented_weight is 0")
    reward = RankReward(
        catalog,
        num_ranks,
        kind=args.reward,
        gamma=args.gamma,
        year_tolerance=args.year_tolerance,
        min_score=args.fuzzy_min_score,
        unknown_limit=args.unknown_limit,
        labels=labels,
    )
    wanted = reward.check_truth(truth, augmented)
    if args.popularity_power:  # a hit on a popular item is worth less
        counts = np.bincount([item for row in wanted for item in row], minlength=len(catalog))
        reward.weigh_items(inverse_propensity_weights(counts, args.popularity_power, args.popularity_cap))
    return reward


def warn_of_scaling(args: RewardArguments, scale_rewards: str) -> None:
    """Say so if the rewards are graded, but scaling by group would make the grades equal again."""
    graded = [name for name in ("popularity_power", "augmented_weight") if getattr(args, name) > 0]
    if scale_rewards == "group" and graded:
        logger.warning(
            "%s grades what a hit pays, but scale_rewards is 'group': where one item alone can be hit at a rank, "
            "dividing by the deviation of its group pays it in full again. Set scale_rewards to 'batch' or 'none'.",
            " and ".join(graded),
        )


def load_trainer(name: str | None) -> type[RankGRPOTrainer]:
    """`RankGRPOTrainer`, or the subclass that the arguments name.

    Raises:
        ValueError, ModuleNotFoundError: if there is no such class, or it is another kind of thing.
    """
    found = RankGRPOTrainer if name is None else load_object(name)
    if not (isinstance(found, type) and issubclass(found, RankGRPOTrainer)):
        raise ValueError(
            f"trainer is {name!r}, which is {found!r}; expected a subclass of rankrl.grpo.RankGRPOTrainer, see "
            "docs/extend.md."
        )
    return found


def main(
    args: RewardArguments,
    training_args: RankGRPOConfig,
    model_args: ModelConfig,
    validation: ValidationArguments,
    alarms: AlarmArguments,
    schedule: ScheduleArguments,
    *,
    callbacks: Iterable[TrainerCallback] = (),
) -> None:
    """Train and save model or adapter, tokenizer, prompt and manifest in `training_args.output_dir`.

    `callbacks` of the caller's own come after those of the recipe.
    """
    require_joined_processes(training_args)
    require_packages(model_args, training_args)
    refuse_eval_set(training_args)
    refuse_no_step(training_args)
    checkpoint = checkpoint_to_resume(training_args, model_args.model_name_or_path, args.dialogues)
    learning_rate_steps = LearningRateSteps(schedule, training_args)
    trainer_class = load_trainer(args.trainer)
    loading = model_kwargs(model_args, trust_remote_code=training_args.trust_remote_code)
    tokenizer = load_tokenizer(model_args.model_name_or_path, **tokenizer_kwargs(loading))
    catalog, dialogues = read_data(args)
    sample = None
    if validation.validation:
        sample = ValidationSample.load(validation, args, catalog, training_args.num_ranks)
        sample.warn_of_training(dialogues)
    model = load_policy(
        model_args.model_name_or_path,
        merge_into=f"{training_args.output_dir}/merged" if model_args.use_peft else None,
        **loading,
    )
    require_lora_targets(model, model_args)

    renderer, training_args.max_completion_length = make_renderer(
        args, tokenizer, model.config, catalog, training_args.num_ranks, training_args.max_completion_length
    )
    renderer.require_same_prompt(model_args.model_name_or_path, allow_mismatch=args.allow_prompt_mismatch)

    warn_of_scaling(args, training_args.scale_rewards)
    reward = make_reward(args, catalog, dialogues, training_args.num_ranks)
    if checkpoint is not None:
        renderer.require_same_prompt(checkpoint, allow_mismatch=args.allow_prompt_mismatch)
    training_args.remove_unused_columns = False  # the reward reads the labels and what was seen
    trainer = trainer_class(
        model,
        reward,
        training_args,
        train_dataset=prompt_dataset(renderer, dialogues),
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
    )
    warn_of_findings("rank_grpo", trainer.accelerator.unwrap_model(trainer.model), args, training_args, model_args)
    trainer.add_callback(learning_rate_steps)
    ConsoleCallback.install(trainer, RANK_GRPO_COLUMNS)
    leave_record(
        trainer,
        renderer,
        catalog,
        dialogues[0],
        catalog.lines[: training_args.num_ranks],
        *(args, training_args, model_args, validation, alarms, schedule),
        checkpoint=checkpoint,
        dialogues_hash=dialogues_hash(dialogues),
        validation=sample and sample.facts,
        generation=sampling_settings(trainer),
    )
    logger.info("lists are sampled with %s", sampling_settings(trainer))
    if sample is not None:
        trainer.add_callback(Validation(trainer, renderer, sample, validation))
    looks = validation.validate_steps if sample else None
    KeepCheckpoints.install(trainer, model_args.model_name_or_path, validation.keep_every, looks)
    trainer.add_callback(Alarms(alarms, training_args.num_ranks))
    for callback in callbacks:
        trainer.add_callback(callback)
    train(trainer, checkpoint)
    leave_model_card(trainer)
    if trainer.is_world_process_zero():
        logger.info("%s", where_to_find(training_args, trainer.state, model_args.model_name_or_path))


def cli(*callbacks: TrainerCallback) -> None:
    """Parse YAML and flags, and train."""
    explain_errors()
    show_log()
    main(*stage_parser("rank_grpo", __doc__).parse_args_and_config(), callbacks=callbacks)


if __name__ == "__main__":
    cli()
