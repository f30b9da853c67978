"""What becomes of TRL's options: under our loss, and under TRL's own, where `loss_type` says which of them count."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from trl import GRPOConfig

if TYPE_CHECKING:
    from rankrl.grpo.config import RankGRPOConfig

# Options that change TRL's loss and that ours, `aggregation` "rank" or "token", does not have: field -> the value that
# switches it off. Under `aggregation="trl"` the loss is TRL's own, and they mean what TRL says.
OFF = {
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "off_policy_mask_threshold": None,
    "use_bias_correction_kl": False,
    "max_tool_calling_iterations": None,  # a ranked list is one turn: the trainer takes no tools
}

# What becomes of each field that `GRPOConfig` declares where the loss is ours. A test compares the table with the
# installed TRL, so that an option added by a new release is looked at before it can die in silence.
#   honoured: means what TRL says      mapped: another of our fields decides      refused: an error unless switched off
TRL_FIELDS: dict[str, str] = {
    **dict.fromkeys(OFF, "refused"),
    "importance_sampling_level": "mapped",  # by `ratio`
    "loss_type": "mapped",  # by `aggregation`
    **dict.fromkeys(
        (
            "sapo_temperature_neg",
            "sapo_temperature_pos",
            "vespo_k_pos",
            "vespo_lambda_pos",
            "vespo_k_neg",
            "vespo_lambda_neg",
        ),
        "mapped",  # belong to a `loss_type`
    ),
    **dict.fromkeys(("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"), "mapped"),
    **dict.fromkeys(
        (
            # model, data and logging: untouched by the loss
            "learning_rate",
            "model_init_kwargs",
            "trust_remote_code",
            "cast_lm_head_to_fp32",
            "disable_dropout",
            "remove_unused_columns",
            "shuffle_dataset",
            "pad_to_multiple_of",
            "log_completions",
            "log_multimodal",
            "num_completions_to_print",
            "log_unique_prompts",
            "log_completions_hub_repo",
            # generation
            "num_generations",
            "num_generations_eval",
            "max_completion_length",
            "ds3_gather_for_generation",
            "generation_batch_size",
            "steps_per_generation",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "generation_kwargs",
            "chat_template_kwargs",
            "repetition_penalty",
            "cache_implementation",
            "use_transformers_continuous_batching",
            "transformers_continuous_batching_config",
            "use_transformers_paged",
            "use_vllm",
            "vllm_mode",
            "vllm_model_impl",
            "vllm_enable_sleep_mode",
            "vllm_structured_outputs_regex",
            "vllm_server_base_url",
            "vllm_server_host",
            "vllm_server_port",
            "vllm_server_timeout",
            "vllm_group_port",
            "vllm_gpu_memory_utilization",
            "vllm_max_model_length",
            "vllm_tensor_parallel_size",
            # the loss
            "beta",
            "num_iterations",
            "epsilon",
            "epsilon_high",
            "delta",
            "reward_weights",
            "multi_objective_aggregation",
            "scale_rewards",
            "mask_truncated_completions",
            "sync_ref_model",
            "ref_model_mixup_alpha",
            "ref_model_sync_steps",
            "router_aux_loss_coef",
            "vllm_importance_sampling_correction",  # sequence modes: times the list; token modes: geometric mean a unit
            "vllm_importance_sampling_mode",
            "vllm_importance_sampling_clip_max",
            "vllm_importance_sampling_clip_min",
            "vllm_importance_sampling_cap",
        ),
        "honoured",
    ),
}

# TRL's losses -> the options that belong to each alone.
LOSSES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo"), ()),
    "sapo": ("sapo_temperature_neg", "sapo_temperature_pos"),
    "vespo": ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"),
}
# Those that do not clip the ratio, or not on that side.
WITHOUT_CLIPPING: dict[str | None, tuple[str, ...]] = {
    "cispo": ("epsilon",),
    **dict.fromkeys(("sapo", "vespo"), ("epsilon", "epsilon_high")),
}
_WITHOUT_DELTA = ("cispo", "sapo", "vespo")
# TRL looks at it after the first lists only.
VLLM_MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


def refuse_trls_options(config: RankGRPOConfig) -> None:
    """With `aggregation` "rank" or "token", where the loss is ours.

    Raises:
        ValueError: for an option of TRL's losses that ours would ignore.
    """
    for name, fate in TRL_FIELDS.items():
        if fate == "mapped" and is_set(config, name):
            raise ValueError(
                f"{name}={getattr(config, name)!r} belongs to TRL's own losses, and aggregation="
                f"{config.aggregation!r} would ignore it: `ratio` sets the level of the ratio, `aggregation` the loss. "
                "Leave it out, or set aggregation='trl' with ratio='token' or 'sequence'."
            )
    ignored = {name: getattr(config, name) for name, off in OFF.items() if getattr(config, name) != off}
    if ignored:
        given = ", ".join(f"{name}={value!r}" for name, value in ignored.items())
        off = ", ".join(f"{name}={OFF[name]!r}" for name in ignored)
        raise ValueError(
            f"{given} changes TRL's own loss, and aggregation={config.aggregation!r} would ignore it. "
            f"Set {off}, or aggregation='trl' with ratio='token' to train with TRL's loss."
        )


def hand_over_to_trl(config: RankGRPOConfig) -> None:
    """With `aggregation` "trl": bring TRL's options in line with ours.

    Raises:
        ValueError: for what TRL's losses do not have, an unknown `loss_type`, or an option that the loss would ignore.
    """
    if config.ratio == "rank":
        raise ValueError(
            "ratio is 'rank', but aggregation='trl' hands the loss to TRL, which knows the ratios 'token' and "
            "'sequence' only. Set ratio to one of these, or aggregation to 'rank' or 'token'."
        )
    if config.kl_cells != "all":
        raise ValueError(
            f"kl_cells is {config.kl_cells!r}, but aggregation='trl' hands the loss to TRL, whose KL is of all "
            "tokens. Set kl_cells to 'all', or aggregation to 'rank' or 'token'."
        )
    level = vars(config)["importance_sampling_level"]
    if level not in ("token", config.ratio):
        raise ValueError(f"importance_sampling_level={level!r} contradicts ratio={config.ratio!r}: set `ratio` alone.")
    config.importance_sampling_level = config.ratio
    config.loss_type = config.loss_type or GRPOConfig.loss_type
    one_of("loss_type", config.loss_type, tuple(LOSSES))
    for loss, options in LOSSES.items():
        if loss != config.loss_type and (ignored := [name for name in options if is_set(config, name)]):
            raise ValueError(
                f"{', '.join(ignored)} belong to loss_type {loss!r}, and {config.loss_type!r} would ignore them. Leave "
                f"them out, or set loss_type to {loss!r}."
            )
    if config.delta is not None and config.loss_type in _WITHOUT_DELTA:
        raise ValueError(f"delta is {config.delta}, which loss_type {config.loss_type!r} would ignore. Leave it out.")
    if config.loss_type == "cispo" and not (config.epsilon_high or 0.0) >= 1.0:
        raise ValueError(
            f"epsilon_high is {config.epsilon_high}, and loss_type 'cispo' limits the ratio itself, not its distance "
            "from 1, by it: every token would count as much less. Set epsilon_high, such as 5.0 (arXiv 2506.13585)."
        )


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not among the allowed, in words."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, allowed))}.")


def is_set(config: RankGRPOConfig, name: str) -> bool:
    """Has the option another value than it is declared with?"""
    defaults: dict[str, Any] = {f.name: f.default for f in fields(config)}
    return getattr(config, name) != defaults[name]
