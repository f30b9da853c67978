"""`RankGRPOTrainer`: TRL's `GRPOTrainer` with the rank as the unit of credit.

This is the only file of the project that touches TRL's private names; a test watches their signatures. TRL keeps doing
the work: it samples, calls the reward functions, shuffles, splits and buffers the lists, and computes
log-probabilities. We keep what the reward functions say of each rank, put advantages per unit in the place of TRL's,
and compute the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from rankrl.grpo.advantages import decoupled_advantages, rank_advantages, weighted_sum
from rankrl.grpo.config import RankGRPOConfig
from rankrl.grpo.objective import place_units, rank_grpo_loss, unit_mean, unit_present
from rankrl.grpo.rank_log import RankLog
from rankrl.grpo.segments import LineTable, segment_ranks
from rankrl.rewards import RankScores
from rankrl.rewards.relevance import first_occurrence

_STATE_FILE = "rank_grpo_state_{process}.pt"


class RankGRPOTrainer(GRPOTrainer):
    """Trains a policy whose completions are ranked lists, one item a line (arXiv 2510.20150).

    Used like `GRPOTrainer`. A reward function may return K floats for each completion, its return at every rank
    (`rankrl.rewards.RankReward` does), or one float, which is credited to the whole list; several are summed with
    `reward_weights`, or normalised first (`multi_objective_aggregation`). A prompt given as text is tokenized as it
    stands, without adding special tokens: it is expected to be rendered already (`rankrl.data.PromptRenderer`).
    Checkpoints hold the buffered lists too, so that a run resumes exactly at whatever step it was stopped.

    Args:
        model: a model, a trainable `PeftModel`, or the name of a model.
        reward_funcs: one reward function or several.
        args: the settings; `args.num_ranks` is K.
        **kwargs: as for `GRPOTrainer`: `train_dataset`, `processing_class`, `peft_config`, `callbacks`, ...

    Raises:
        ValueError: for a tokenizer without newline or end token, or rewards of the wrong width.

    Example:
        >>> trainer = RankGRPOTrainer(
        ...     model, RankReward(catalog), RankGRPOConfig("runs/rl"), train_dataset=dataset, processing_class=tokenizer
        ... )
        >>> trainer.train()
    """

    args: RankGRPOConfig

    def __init__(
        self, model: Any, reward_funcs: Any, args: RankGRPOConfig, *, processing_class: Any, **kwargs: Any
    ) -> None:
        if kwargs.get("tools") or kwargs.get("environment_factory"):
            raise ValueError("a ranked list is one turn: RankGRPOTrainer takes neither tools nor environments.")
        functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
        functions = [RankedRewards(f, args.num_ranks) if _is_plain_function(f) else f for f in functions]
        super().__init__(model, functions, args, processing_class=processing_class, **kwargs)
        self._lines = LineTable.from_tokenizer(self._tokenizer, self.eos_token_ids).to(self.accelerator.device)
        self._rank_logs = {mode: RankLog(args.num_ranks) for mode in ("train", "eval")}
        self._lists_sampled = 0  # by all processes, for training
        self._check_reference()

    # ---- Rollout: what each rank is worth -------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: list) -> Any:
        if isinstance(prompts[0], str):  # rendered: a second beginning-of-text token would shift the model's input
            return self._tokenizer(prompts, add_special_tokens=False)["input_ids"], None, {}
        return super()._tokenize_prompts(prompts)

    def _calculate_rewards(self, inputs: list, prompts: list, completions: list, completion_ids_list: list) -> Tensor:
        # Rewards read the very tokens that credit is placed on, whatever TRL's own decoding makes of them.
        texts = self._tokenizer.batch_decode(
            completion_ids_list, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        answers = texts if isinstance(prompts[0], str) else [[{"role": "assistant", "content": t}] for t in texts]
        totals = super()._calculate_rewards(inputs, prompts, answers, completion_ids_list)  # (B, F) of all processes

        local = np.full((len(texts), self.args.num_ranks, len(self.reward_funcs)), np.nan)
        for i, function in enumerate(self.reward_funcs):
            if isinstance(function, RankedRewards) and function.values is not None:
                local[:, :, i] = function.values
        by_rank = self._gather(local)  # a fixed K on every process; NaN where a function gave one float or none
        by_list = totals[:, None, :].to(by_rank.dtype)
        by_rank = torch.where(by_rank.isnan(), by_list, by_rank)
        self._compared_rewards = by_rank if self.args.advantage == "rank" else by_list  # (B, K, F) or (B, 1, F)
        self._returns = weighted_sum(by_rank, self.reward_weights.to(by_rank))  # (B, K)
        return totals

    def _generate_and_score_completions(self, inputs: list) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            self._lists_sampled += len(inputs) * self.accelerator.num_processes
        unit_ids = segment_ranks(output["completion_ids"], output["completion_mask"], self._lines, self.args.num_ranks)
        num_units = max(int(unit_ids.max()), self.args.num_ranks) + 1
        present = unit_present(unit_ids, output["completion_mask"], num_units)
        start = self.accelerator.process_index * len(inputs)
        compared = self._compare_lists(mode)[start : start + len(inputs)]  # (B, K) or (B, 1), of this process
        repeated = self._repeated(present)
        self._log_lists(mode, present, repeated)

        advantages = self._unit_advantages(compared, present, repeated).to(torch.float32)
        if self.args.aggregation == "trl":
            output["advantages"] = place_units(advantages, unit_ids)  # (B, T)
        else:
            output["advantages"], output["unit_ids"] = advantages, unit_ids  # (B, U), (B, T)
        return output

    def _compare_lists(self, mode: str) -> Tensor:
        """Advantages of the lists of all processes: `(B, K)` by rank, or `(B, 1)` by list."""
        num_generations = self.num_generations if mode == "train" else self.num_generations_eval
        returns = self._returns
        cells = returns.view(-1, num_generations, returns.shape[1])
        spread = (cells.nan_to_num(nan=-torch.inf).amax(1) - cells.nan_to_num(nan=torch.inf).amin(1)) > 1e-8
        self._log_ranks(mode, "informative", spread)
        self._log_ranks(mode, "return", returns.nan_to_num(0.0), ~returns.isnan())
        weights = self.reward_weights.to(returns)
        if self.multi_objective_aggregation == "normalize_then_sum":
            return decoupled_advantages(self._compared_rewards, weights, num_generations)
        values = weighted_sum(self._compared_rewards, weights)
        return rank_advantages(values, num_generations, self.args.scale_rewards)

    def _repeated(self, present: Tensor) -> Tensor:
        """`(B, K)` bool: ranks whose item the list names already, as far as a reward function resolves items."""
        scores = self._scores
        if scores is None:
            if self.args.repeat_penalty:
                raise ValueError(
                    f"repeat_penalty is {self.args.repeat_penalty}, but no reward function says which items a list "
                    "names: use rankrl.rewards.RankReward, or set repeat_penalty to 0."
                )
            return torch.zeros_like(present[:, : self.args.num_ranks])
        return torch.as_tensor((scores.ranked >= 0) & ~first_occurrence(scores.ranked), device=present.device)

    @property
    def _scores(self) -> RankScores | None:
        """What a `RankReward` saw in the lists of this process; alike on every process whether there is one."""
        return next((f.scores for f in self.reward_funcs if isinstance(f, RankedRewards) and f.scores), None)

    def _unit_advantages(self, compared: Tensor, present: Tensor, repeated: Tensor) -> Tensor:
        """`(B, U)`: ranks, the end token, overflow lines. Penalties are in advantage units, added after normalising."""
        num_ranks = self.args.num_ranks
        advantages = compared.new_zeros(present.shape)
        if self.args.advantage == "rank":
            advantages[:, :num_ranks] = compared
        else:
            advantages += compared
        advantages[:, :num_ranks] += repeated * self.args.repeat_penalty
        complete = present[:, :num_ranks].all(1)
        overflows = present[:, num_ranks + 1 :].any(1)
        advantages[:, num_ranks] += torch.where(complete, 0.0, self.args.early_stop_penalty)
        advantages[:, num_ranks] += torch.where(complete & ~overflows, self.args.end_of_list_bonus, 0.0)
        advantages[:, num_ranks + 1 :] += self.args.overflow_penalty
        return advantages * present

    # ---- Loss -----------------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if self.args.aggregation == "trl":
            return super()._compute_loss(model, inputs)
        mask, unit_ids = inputs["completion_mask"], inputs["unit_ids"]
        log_probs, entropies, aux_loss = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], mask], dim=1),
            inputs["completion_ids"].size(1),
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
        )
        old_log_probs = inputs.get("old_per_token_logps")
        loss, metrics = rank_grpo_loss(
            log_probs,
            log_probs.detach() if old_log_probs is None else old_log_probs,
            unit_ids,
            mask,
            inputs["advantages"],
            num_ranks=self.args.num_ranks,
            epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high,
            ratio=self.args.ratio,
            delta=self.args.delta,
            unit_weights=self._engine_correction(inputs),
            ref_log_probs=inputs.get("ref_per_token_logps"),
            beta=self.beta,
        )
        mode = "train" if self.model.training else "eval"
        metrics["entropy"] = unit_mean(entropies.detach(), unit_ids, mask, inputs["advantages"].shape[1])
        self._log_loss(mode, metrics)
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * aux_loss
            self._metrics[mode]["aux_loss"].append(self.accelerator.gather_for_metrics(aux_loss).mean().item())
        return loss / (self.current_gradient_accumulation_steps if mode == "train" else 1)

    def _engine_correction(self, inputs: dict[str, Any]) -> Tensor | None:
        """`(B, U)`: importance of lists that vLLM sampled; tokens act by the geometric mean over their unit."""
        weights = inputs.get("importance_sampling_ratio")
        if weights is None:
            return None
        num_units = inputs["advantages"].shape[1]
        if weights.shape[1] == 1:  # sequence modes
            return weights.expand(-1, num_units)
        # A token that the engine's mask dropped has weight 0, and so has its unit: log 0 = -inf, exp(-inf) = 0.
        log_weights = weights.log().clamp(min=-1e4)
        return unit_mean(log_weights, inputs["unit_ids"], inputs["completion_mask"], num_units).exp()

    # ---- Logging --------------------------------------------------------------------------------------------------

    def _gather(self, values: np.ndarray) -> Tensor:
        return self.accelerator.gather(torch.as_tensor(values, dtype=self._float, device=self.accelerator.device))

    @property
    def _float(self) -> torch.dtype:
        """float64 keeps equal returns equal; Apple's GPUs do not have it."""
        return torch.float32 if self.accelerator.device.type == "mps" else torch.float64

    def _log_ranks(self, mode: str, name: str, values: Tensor, counted: Tensor | None = None) -> None:
        """Log `(B, K)` values that every process holds alike; `counted` says which of them are there."""
        counts = torch.ones_like(values) if counted is None else counted
        sums, counts = values.to(self._float).sum(0), counts.to(self._float).sum(0)
        self._rank_logs[mode].add(name, sums.cpu().numpy(), counts.cpu().numpy())

    def _log_lists(self, mode: str, present: Tensor, repeated: Tensor) -> None:
        """Log how long the lists are and what the reward saw at each rank that they have."""
        lines = present.sum(1) - present[:, self.args.num_ranks].long()
        self._metrics[mode]["list_length"].append(self.accelerator.gather(lines.float()).mean().item())
        scores = self._scores
        if scores is None:
            return
        there = present[:, : self.args.num_ranks].cpu().numpy()
        seen = {
            "there": there,
            "in_catalog": (scores.ranked >= 0) & there,
            "repeat": repeated.cpu().numpy() & there,
            "hit": scores.hits,
            "reward_true": scores.relevance - scores.augmented,
            "reward_augmented": scores.augmented,
        }
        gathered = self._gather(np.stack(list(seen.values()), axis=1).astype(np.float64))  # (B, 6, K)
        by_name = dict(zip(seen, gathered.unbind(1), strict=True))
        counted = by_name.pop("there")
        for name, values in by_name.items():  # a rank that is missing is a miss, but neither in the catalogue nor out
            self._log_ranks(mode, name, values, counted if name in ("in_catalog", "repeat") else None)

    def _log_loss(self, mode: str, metrics: dict[str, Tensor]) -> None:
        num_ranks = self.args.num_ranks
        by_rank = {name: values[:, :num_ranks].to(self._float) for name, values in metrics.items()}
        present = by_rank.pop("present")
        rows = [present.sum(0), *((values * present).sum(0) for values in by_rank.values())]
        counts, *sums = self.accelerator.reduce(torch.stack(rows), reduction="sum").cpu().numpy()
        for name, values in zip(by_rank, sums, strict=True):
            self._rank_logs[mode].add(name, values, counts)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        rank_log = self._rank_logs[mode]
        prefix = "eval_" if mode == "eval" else ""
        logs.update({f"{prefix}{name}": value for name, value in rank_log.grouped().items()})
        if mode == "train":
            logs["lists_sampled"] = self._lists_sampled
        if self.accelerator.is_main_process and rank_log.vectors():
            rank_log.write(Path(self.args.output_dir) / f"ranks_{mode}.jsonl", self.state.global_step)
        rank_log.clear()
        super().log(logs, start_time)

    # ---- Exact resume, and the reference --------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        return _EpochSampler(
            sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # First, because the trainer's own state comes last and says that a checkpoint is whole.
        if not self.args.save_only_model:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            state = {"step": self._step, "lists": self._buffered_inputs, "lists_sampled": self._lists_sampled}
            torch.save(state, folder / _STATE_FILE.format(process=self.accelerator.process_index))
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = Path(checkpoint) / _STATE_FILE.format(process=self.accelerator.process_index)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing, so the run cannot go on where it stopped: the checkpoint was written by another "
                "trainer, with save_only_model=True, or by another number of processes. Start a new run from its "
                "weights (`model_name_or_path`) instead of resuming it."
            )
        state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        self._step, self._buffered_inputs = state["step"], state["lists"]
        self._lists_sampled = state["lists_sampled"]

    def _check_reference(self) -> None:
        """The KL reference must be the policy at the start of RL; TRL loads it anew from the model's path."""
        if self.ref_model is None or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            return
        policy = dict(self.accelerator.unwrap_model(self.model).named_parameters())
        for name, reference in self.accelerator.unwrap_model(self.ref_model).named_parameters():
            if not torch.equal(policy[name], reference.to(policy[name])):
                raise ValueError(
                    f"the KL reference, loaded from {self.model.config._name_or_path!r}, differs from the policy in "
                    f"{name}: the model was changed after it was loaded. Save it, and pass the saved directory."
                )


class RankedRewards:
    """Wraps a reward function so that what it says of each rank is kept, while TRL gets one float a list.

    Args:
        function: returns, for each completion, K floats, one float, or `None` (no score).
        num_ranks: K.

    Attributes:
        values: `(B, K)` float64 of the last call, NaN rows for `None`; `None` if the function returned one float each.
        scores: what a `RankReward` saw in the last call; `None` for other functions.
    """

    def __init__(self, function: Callable[..., Any], num_ranks: int) -> None:
        self.function = function
        self.num_ranks = num_ranks
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.values: np.ndarray | None = None
        self.scores: RankScores | None = None

    def __call__(self, **columns: Any) -> list[float | None]:
        rewards = list(self.function(**columns))
        if len(rewards) != len(columns["completions"]):
            raise ValueError(
                f"reward function {self.__name__!r} returned {len(rewards)} rewards for {len(columns['completions'])} "
                "completions; return one entry (K floats, one float, or None) for each."
            )
        self.scores = getattr(self.function, "last_scores", None)
        if all(reward is None or np.ndim(reward) == 0 for reward in rewards):
            self.values = None
            self._refuse_nan([[r] for r in rewards if r is not None])
            return rewards
        rows = [np.full(self.num_ranks, np.nan) if r is None else np.asarray(r, dtype=np.float64) for r in rewards]
        for row, reward in zip(rows, rewards, strict=True):
            if row.shape != (self.num_ranks,):
                raise ValueError(
                    f"reward function {self.__name__!r} returned {np.size(reward)} values for a completion; expected "
                    f"num_ranks = {self.num_ranks}, one for each rank (or one float for the whole list). Give the "
                    "reward and the trainer the same num_ranks."
                )
        self._refuse_nan([row for row, reward in zip(rows, rewards, strict=True) if reward is not None])
        self.values = np.stack(rows)
        return [None if r is None else float(row.sum()) for row, r in zip(rows, rewards, strict=True)]

    def _refuse_nan(self, rows: list) -> None:
        if rows and not np.isfinite(np.asarray(rows, dtype=np.float64)).all():
            raise ValueError(
                f"reward function {self.__name__!r} returned NaN or infinity. Return None for a completion that cannot "
                "be scored; a NaN would silently remove its group from training."
            )


class _EpochSampler(RepeatSampler):
    """TRL's sampler with an order that is a function of seed and epoch, so that a resumed run walks the same way."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + self.epoch)
        return super().__iter__()


def _is_plain_function(function: Any) -> bool:
    """Reward models (by name or as modules) are TRL's to run; they give one float a list."""
    return not isinstance(function, (str, torch.nn.Module))
