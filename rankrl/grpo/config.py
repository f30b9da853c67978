"""`RankGRPOConfig`: TRL's `GRPOConfig` with the options of Rank-GRPO."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any

from transformers import SchedulerType
from trl import GRPOConfig

from rankrl.grpo.advantages import SCALES
from rankrl.grpo.objective import RATIOS
from rankrl.grpo.presets import PRESET_FIELDS, resolve_preset
from rankrl.grpo.trl_options import VLLM_MODES, WITHOUT_CLIPPING, hand_over_to_trl, is_set, one_of, refuse_trls_options

ADVANTAGES = ("rank", "sequence")
AGGREGATIONS = ("rank", "token", "trl")
KL_CELLS = ("all", "informative")
MULTI_OBJECTIVE = ("sum_then_normalize", "normalize_then_sum")
# Option -> others that do something only while it is on.
ONLY_WITH = {
    "beta": ("kl_cells", "use_bias_correction_kl"),
    "dynamic_sampling_rounds": ("dynamic_sampling_share",),
    "use_adaptive_entropy": ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
    "sync_ref_model": ("ref_model_mixup_alpha", "ref_model_sync_steps"),
    **dict.fromkeys(
        ("use_vllm", "vllm_importance_sampling_correction"),
        tuple(f"vllm_importance_sampling_{name}" for name in ("mode", "clip_max", "clip_min")),
    ),
}


def _by_preset(text: str) -> Any:
    """A field that is `None` until the preset fills it, so that what the user has set can be told from what is left."""
    return field(default=None, metadata={"help": f"{text} Default: by the preset."})


@dataclass
class RankGRPOConfig(GRPOConfig):
    """Settings of a Rank-GRPO run: `GRPOConfig` plus what makes the rank the unit of credit (arXiv 2510.20150).

    A preset is an algorithm by name (`rankrl.grpo.presets`); the fields that it fills hold its values after
    construction, and so do the run's manifest and `to_dict`. Only the fields that differ from TRL are described here;
    in brackets stands the value of `preset="rank_grpo"`.

    Args:
        preset (`str`, *optional*):
            `"rank_grpo"`, `"rank_grpo_official"`, `"grpo"`, `"gspo"`, `"dr_grpo"` or `"dapo"`; or `"custom"`:
            `rank_grpo` with every switch free. Left out, it becomes `"rank_grpo"`, or `"custom"` if a switch departs.
        num_ranks (`int`, *optional*, defaults to `20`):
            K, how many items a list should hold. Lines beyond it are overflow.
        advantage (`str`, *by the preset* [`"rank"`]):
            `"rank"` compares each rank with the same rank of the other lists of the prompt (eq. 8). `"sequence"`
            compares whole lists by what the reward says each is worth (`RankReward`: its DCG with `log`, its number of
            hits with `exp`), as GRPO does; end token and overflow lines share it.
        ratio (`str`, *by the preset* [`"rank"`]):
            Level of the importance ratio: `"rank"` (geometric mean over the tokens of a rank, eq. 7), `"token"` or
            `"sequence"`. On-policy (`num_iterations=1`, one optimizer step a generation) every ratio is 1.
        aggregation (`str`, *by the preset* [`"rank"`]):
            `"rank"`: eq. 6, each rank weighs 1/(B K) whatever the length of its title. `"token"`: each token weighs
            alike, and so a rank as much as its title is long, as in the released code. `"trl"`: each token carries the
            advantage of its rank into TRL's own loss, so `loss_type` decides.
        loss_type (`str`, *by the preset* [`None`]):
            TRL's loss, for `aggregation="trl"` alone; `"dapo"` if neither it nor a preset is given.
        early_stop_penalty (`float`, *by the preset* [`-0.1`]):
            Added to the advantage of an end token that comes before rank K is reached.
        overflow_penalty (`float`, *by the preset* [`-0.1`]):
            Added to the advantage of each line after rank K.
        repeat_penalty (`float`, *by the preset* [`0.0`]):
            Added to the advantage of each rank whose item the list names already, as `RankReward` sees it. Not in the
            paper, where a repeat earns 0 like any miss: lists then tend to repeat what is popular.
        end_of_list_bonus (`float`, *by the preset* [`0.0`]):
            Added to the advantage of an end token that comes right after rank K. Not in the paper; the released code
            uses 0.1.
        epsilon (`float`, *by the preset* [`0.06`]):
            The ratio is clipped below at `1 - epsilon`.
        epsilon_high (`float`, *by the preset* [`0.08`]):
            The ratio is clipped above at `1 + epsilon_high`.
        beta (`float`, *by the preset* [`1e-3`]):
            Weight of the KL to the policy at the start of RL.
        kl_cells (`str`, *optional*, defaults to `"all"`):
            `"informative"` leaves ranks out of the KL at which the lists of the prompt all earn the same: nothing but
            the KL would move them (back to the start). Units that a penalty moves, the end token and overflow lines
            stay in. Not with `aggregation="trl"`.
        dynamic_sampling_rounds (`int`, *by the preset* [`0`]):
            How many further rounds of prompts are drawn at most, to put groups that tell their lists apart in the
            place of groups that do not (dynamic sampling of DAPO, arXiv 2503.14476). A round draws as many prompts as
            are missing; the batch keeps its size. 0: none.
        dynamic_sampling_share (`float`, *optional*, defaults to `0.0`):
            At which share of its K ranks the lists of a prompt have to differ for dynamic sampling to count it; one
            rank at least. A batch that is filled holds at least this share of informative cells.
        max_lists (`int`, *optional*):
            Training ends when so many lists were sampled, over all processes, and every update on them was made; or
            with `max_steps`, if that comes first. What changes over the course of training (learning rates, the weight
            of labels) takes `max_steps` for its end. The way to compare arms that sample more lists in a step (dynamic
            sampling) with arms that do not.
        scale_rewards (`str`, *by the preset* [`"group"`]):
            What centred returns are divided by: `"group"`, the deviation of each (prompt, rank) cell; `"batch"`, that
            of all returns; `"none"`.
        multi_objective_aggregation (`str`, *optional*, defaults to `"sum_then_normalize"`):
            `"normalize_then_sum"` brings each reward function to unit deviation in its group, rank by rank, before they
            are weighted and summed (GDPO, arXiv 2601.05242); the sum is normalised over the batch.
        disable_dropout (`bool`, *optional*, defaults to `True`):
            With dropout the two passes of one policy differ, and the ratio is noise.
        use_bias_correction_kl (`bool`, *by the preset* [`False`]):
            TRL multiplies the KL by the ratio by default; the paper's k3 estimate does not. Only with
            `aggregation="trl"`.
        mask_truncated_completions (`bool`, *by the preset* [`False`]):
            Leave lists that the length limit cut out of the loss.

    Raises:
        ValueError: for a value out of its range, a setting that contradicts the preset, a TRL option that the rank loss
            would ignore, or a ratio that TRL's own loss does not have.

    Example:
        >>> args = RankGRPOConfig("runs/gspo", preset="gspo", beta=0.0)
        >>> args.ratio, args.loss_type, args.epsilon
        ('sequence', 'grpo', 0.0003)
    """

    preset: str | None = field(default=None, metadata={"help": "An algorithm by name, see docs/rank_grpo.md."})
    num_ranks: int = field(default=20, metadata={"help": "K, the number of items a list should hold."})
    advantage: str = _by_preset("Level of the advantage: 'rank' or 'sequence'.")
    ratio: str = _by_preset("Level of the ratio: 'rank', 'token' or 'sequence'.")
    aggregation: str = _by_preset("'rank' (eq. 6), 'token' or 'trl' (TRL's own loss).")
    loss_type: str = _by_preset("TRL's loss, with aggregation 'trl'.")
    early_stop_penalty: float = _by_preset("Advantage of an end token before rank K.")
    overflow_penalty: float = _by_preset("Advantage of each line after rank K.")
    repeat_penalty: float = _by_preset("Advantage of a rank that repeats an item.")
    end_of_list_bonus: float = _by_preset("Advantage of an end token right after rank K.")
    epsilon: float = _by_preset("Clip the ratio below at 1 - epsilon.")
    epsilon_high: float | None = _by_preset("Clip the ratio above at 1 + epsilon_high.")
    beta: float = _by_preset("Weight of the KL to the policy at the start of RL.")
    kl_cells: str = field(default="all", metadata={"help": "Ranks whose KL counts: 'all' or 'informative'."})
    dynamic_sampling_rounds: int = _by_preset("Further rounds of prompts for groups without spread, at most.")
    dynamic_sampling_share: float = field(default=0.0, metadata={"help": "Ranks that make a group count, as a share."})
    max_lists: int | None = field(default=None, metadata={"help": "Lists to sample in all, over all processes."})
    scale_rewards: str = _by_preset("What centred returns are divided by: 'group', 'batch' or 'none'.")
    disable_dropout: bool = field(default=True, metadata={"help": "Switch dropout off in policy and reference."})
    use_bias_correction_kl: bool = _by_preset("Multiply the KL by the ratio (TRL's loss).")
    mask_truncated_completions: bool = _by_preset("Leave lists that the length limit cut out of the loss.")

    def __post_init__(self) -> None:
        self._fill_in_the_preset()
        one_of("advantage", self.advantage, ADVANTAGES)
        one_of("ratio", self.ratio, RATIOS)
        one_of("aggregation", self.aggregation, AGGREGATIONS)
        one_of("kl_cells", self.kl_cells, KL_CELLS)
        one_of("scale_rewards", self.scale_rewards, SCALES)
        one_of("multi_objective_aggregation", self.multi_objective_aggregation, MULTI_OBJECTIVE)
        one_of("vllm_importance_sampling_mode", self.vllm_importance_sampling_mode, VLLM_MODES)
        self._check_numbers()
        if self.aggregation == "trl":
            hand_over_to_trl(self)
        else:
            refuse_trls_options(self)
        self._check_groups()
        super().__post_init__()
        self._warn_if_sampling_is_filtered()
        self._warn_if_sampling_rounds_the_weights()
        self._warn_of_what_is_hardly_meant()

    def _fill_in_the_preset(self) -> None:
        spelt_by_trl = {True: "group", False: "none"}
        given = {name: getattr(self, name) for name in PRESET_FIELDS}
        given["scale_rewards"] = spelt_by_trl.get(given["scale_rewards"], given["scale_rewards"])
        self.preset, values = resolve_preset(self.preset, given)
        self._refuse_clipping_that_is_none(values, [name for name, value in given.items() if value is not None])
        for name, value in values.items():
            setattr(self, name, value)

    @staticmethod
    def _refuse_clipping_that_is_none(values: dict[str, Any], given: list[str]) -> None:
        loss = values["loss_type"] if values["aggregation"] == "trl" else None
        if ignored := [name for name in WITHOUT_CLIPPING.get(loss, ()) if name in given]:
            raise ValueError(f"{', '.join(ignored)}: loss_type {loss!r} does not clip by it. Leave it out.")

    def _check_numbers(self) -> None:
        if not isinstance(self.num_ranks, int) or self.num_ranks < 1:
            raise ValueError(f"num_ranks is {self.num_ranks!r}; expected the number of items in a list, at least 1.")
        if not isinstance(self.dynamic_sampling_rounds, int) or self.dynamic_sampling_rounds < 0:
            raise ValueError(
                f"dynamic_sampling_rounds is {self.dynamic_sampling_rounds!r}; expected how often further prompts may "
                "be drawn for one batch: 0 (never) or more."
            )
        if not 0 <= self.dynamic_sampling_share <= 1:
            raise ValueError(
                f"dynamic_sampling_share is {self.dynamic_sampling_share}; expected a share of the ranks of a list, "
                "from 0 (one rank is enough) to 1."
            )
        if self.max_lists is not None and not self.max_lists > 0:
            raise ValueError(f"max_lists is {self.max_lists}; expected how many lists to sample in all, or none given.")
        for name in ("early_stop_penalty", "overflow_penalty", "repeat_penalty"):
            if not getattr(self, name) <= 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected 0 or less: it is added to the advantage, so a positive "
                    "value would reward a list of the wrong length."
                )
        if not self.end_of_list_bonus >= 0:
            raise ValueError(
                f"end_of_list_bonus is {self.end_of_list_bonus}; expected 0 or more: it is added to the advantage of "
                "ending the list in the right place."
            )
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon is {self.epsilon}; expected a value between 0 and 1 (the paper: 0.06).")
        if self.epsilon_high is not None and not self.epsilon_high > 0:
            raise ValueError(f"epsilon_high is {self.epsilon_high}; expected a value above 0 (the paper: 0.08).")
        if self.delta is not None and not self.delta > 1 + (self.epsilon_high or self.epsilon):
            raise ValueError(f"delta is {self.delta}; it limits the unclipped ratio: must be above 1 + epsilon_high.")
        if self.multi_objective_aggregation == "normalize_then_sum" and self.scale_rewards != "group":
            raise ValueError(
                f"scale_rewards is {self.scale_rewards!r}, but multi_objective_aggregation='normalize_then_sum' always "
                "divides by the deviation of the group, and then once by that of the batch. Leave scale_rewards out, "
                "or set multi_objective_aggregation to 'sum_then_normalize'."
            )
        if not self.beta >= 0:
            raise ValueError(f"beta is {self.beta}; expected 0 (no KL term, no reference model) or more.")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; lists are sampled, so it must be above 0.")
        for name in ("temperature", "do_sample", "num_return_sequences"):
            if name in (self.generation_kwargs or {}):
                raise ValueError(
                    f"generation_kwargs sets {name}: lists would be sampled in another way than the loss reckons with. "
                    f"Leave it out{', and set temperature itself' if name == 'temperature' else ''}."
                )

    def _check_groups(self) -> None:
        # TRL checks this too, after the processes are set up; here the message can say which numbers would work.
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if self.num_generations is None or self.num_generations < 2:
            raise ValueError(
                f"num_generations is {self.num_generations}; expected at least 2: the lists of a prompt are compared "
                "with each other."
            )
        if self.num_generations_eval is not None and self.num_generations_eval < 2:
            raise ValueError(
                f"num_generations_eval is {self.num_generations_eval}; expected at least 2: in evaluation, too, the "
                "lists of a prompt are compared with each other. Validation (docs/rank_grpo.md) needs one greedy list."
            )
        steps = self.steps_per_generation or self.gradient_accumulation_steps
        batch = self.generation_batch_size or self.per_device_train_batch_size * processes * steps
        size = self.per_device_train_batch_size
        product = f"per_device_train_batch_size {size} x {processes} processes x {steps} steps"
        made_of = "generation_batch_size" if self.generation_batch_size else product
        if batch % self.num_generations:
            raise ValueError(
                f"num_generations is {self.num_generations}, which does not divide the {batch} lists of a generation "
                f"({made_of}): some prompt would be left with an incomplete group. Choose num_generations among "
                f"{[n for n in range(2, batch + 1) if batch % n == 0][:8]}, or change the batch."
            )

    def _warn_if_sampling_is_filtered(self) -> None:
        filters = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
        asked = {name: getattr(self, name) for name in filters} | (self.generation_kwargs or {})
        changed = [f"{name}={asked[name]}" for name, off in filters.items() if asked[name] != off]
        if changed:
            warnings.warn(
                f"{', '.join(changed)}: lists are then sampled from a filtered distribution, while the loss "
                "differentiates the unfiltered one, which biases the importance ratio without a trace. The paper "
                "samples with temperature alone.",
                stacklevel=3,
            )

    def _warn_if_sampling_rounds_the_weights(self) -> None:
        if self.use_transformers_continuous_batching and (self.bf16 or self.fp16):
            switch, kind, last = ("bf16", "bfloat16", 256) if self.bf16 else ("fp16", "float16", 2048)
            warnings.warn(
                f"use_transformers_continuous_batching with {switch}: TRL casts the weights that learn to {kind}, in "
                f"place, and steps smaller than a {last}th of a weight are lost from then on. Let `generate` or vLLM "
                f"write the lists, or set {switch}: false.",
                stacklevel=4,
            )

    def _warn_of_what_is_hardly_meant(self) -> None:
        """Name what is known to make no difference, or not the one that is meant (the tests prove each identity)."""
        generation = self.steps_per_generation * self.num_iterations
        on_policy = self.gradient_accumulation_steps % generation == 0
        penalties = (self.early_stop_penalty, self.overflow_penalty, self.repeat_penalty, self.end_of_list_bonus)
        plain_grpo = self.loss_type == "grpo" and not any(penalties) and not self.use_bias_correction_kl
        because = "all updates on a generation are made in one optimizer step, so every ratio is 1"
        if on_policy and self.num_iterations > 1:
            self._warn(
                f"num_iterations={self.num_iterations} has no effect but that each step trains on "
                f"1/{self.num_iterations} of the lists, {self.num_iterations} times: {because}. For updates of their "
                f"own set steps_per_generation to gradient_accumulation_steps, {self.gradient_accumulation_steps}."
            )
        if self.ratio == "sequence" and self.advantage == "rank":
            self._warn(
                "advantage='rank' with ratio='sequence': one ratio moves all tokens of a list alike, so the credit of "
                "its ranks collapses to their mean. Set ratio to 'rank' or 'token'."
            )
        elif on_policy and self.ratio == "token" and self.aggregation != "trl":
            self._warn(f"ratio='token' has the gradient of ratio='rank' here: {because}.")
        elif on_policy and self.ratio == "sequence" and plain_grpo:
            self._warn(f"ratio='sequence' (GSPO) has the gradient of ratio='token' (GRPO) here: {because}.")
        accumulation, steps = self.gradient_accumulation_steps, self.steps_per_generation
        if steps > accumulation:
            self._warn(
                f"steps_per_generation={steps} with gradient_accumulation_steps={accumulation}: each generation "
                "is trained on over several optimizer steps, all but the first off-policy. If that is not meant, set "
                f"steps_per_generation to {accumulation} or a divisor of it."
            )
        for switch, names in ONLY_WITH.items():
            if not getattr(self, switch):
                for name in (name for name in names if getattr(self, name) and is_set(self, name)):
                    self._warn(f"{name}={getattr(self, name)!r} has no effect: {switch} is {getattr(self, switch)!r}.")
        schedule = SchedulerType(self.lr_scheduler_type).value
        if self.max_lists and schedule not in ("constant", "constant_with_warmup"):
            self._warn(
                f"max_lists={self.max_lists} with lr_scheduler_type={schedule!r}: the rate falls "
                "over max_steps, and a run that ends before by its lists never sees the end of it. Set it to "
                "'constant', or max_steps to what the lists come to."
            )
        parts = self.gradient_accumulation_steps * int(os.environ.get("WORLD_SIZE", "1"))
        if self.loss_type == "bnpo" and parts > 1:
            self._warn(
                f"loss_type='bnpo' divides by the tokens of each of the {parts} parts that a batch has here (gradient "
                "accumulation x processes), so the gradient depends on how lists are spread. aggregation='token' with "
                "preset='custom' divides by those of all."
            )

    def _warn(self, message: str) -> None:
        warnings.warn(message, stacklevel=5)
