"""`RankGRPOTrainer`: TRL's `GRPOTrainer` with the rank as the unit of credit.

This is the only file of the project that touches TRL's private names; a test watches their signatures. TRL keeps doing
the work: it samples, calls the reward functions, shuffles, splits and buffers the lists, and computes
log-probabilities. We keep what rewards say of each rank, put advantages of units in TRL's place, compute the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from rankrl.grpo.advantages import decoupled_advantages, informative_cells, rank_advantages, weighted_sum
from rankrl.grpo.config import RankGRPOConfig
from rankrl.grpo.credit import Advantages, Lists, Returns, Tokens, units_to_hold, weights_by_unit
from rankrl.grpo.dropout import switch_attention_dropout_off
from rankrl.grpo.dynamic_sampling import DynamicSampling, Rollout
from rankrl.grpo.list_budget import ListBudget, updates_are_made
from rankrl.grpo.objective import place_units, rank_grpo_loss, unit_present
from rankrl.grpo.out_of_memory import explain_out_of_memory
from rankrl.grpo.positions import count_positions_from_the_text
from rankrl.grpo.rank_log import BeginRanksFile, RankLog, ranks_file, sums_by_rank
from rankrl.grpo.ranked_rewards import RankedRewards, keep_what_is_said_of_ranks, rewards_by_rank
from rankrl.grpo.reference import load_reference, require_same_weights, save_reference
from rankrl.grpo.resume import EpochSampler, cut_of, load_state, micro_batches_done, save_state
from rankrl.grpo.sampling import (
    leave_sampling_to_the_run,
    require_a_generation,
    require_one_end,
    require_one_turn,
    write_together,
)
from rankrl.grpo.segments import LineTable, completion_texts, segment_ranks, written_tokens
from rankrl.grpo.step_clock import StepClock
from rankrl.rewards import RankScores


class RankGRPOTrainer(GRPOTrainer):
    """Trains a policy whose completions are ranked lists, one item a line (arXiv 2510.20150).

    Used like `GRPOTrainer`. A reward function may return K floats for each completion, its return at every rank
    (`rankrl.rewards.RankReward` does), or one float, which is credited to the whole list; several are summed with
    `reward_weights`, or normalised first (`multi_objective_aggregation`). A prompt given as text is tokenized as it
    stands, without adding special tokens: it is expected to be rendered already (`rankrl.data.PromptRenderer`).
    Checkpoints hold the buffered lists too: a run resumes exactly. What the model's `generation_config.json` asks for
    does not count, and is forgotten.

    Args:
        model: a model, a trainable `PeftModel`, or the name of a model.
        reward_funcs: one reward function or several.
        args: the settings; `args.num_ranks` is K.
        **kwargs: as for `GRPOTrainer`: `train_dataset`, `processing_class`, `peft_config`, `callbacks`, ...

    Raises:
        ValueError: for a tokenizer without newline or end token, rewards of the wrong width, or what would put tokens
            into a list that the policy has not written (tools, environments, a `rollout_func`, images).

    Example:
        >>> reward, args = RankReward(catalog), RankGRPOConfig("runs/rl")
        >>> trainer = RankGRPOTrainer(model, reward, args, train_dataset=dataset, processing_class=tokenizer)
        >>> trainer.train()
    """

    args: RankGRPOConfig

    def __init__(
        self, model: Any, reward_funcs: Any, args: RankGRPOConfig, *, processing_class: Any, **kwargs: Any
    ) -> None:
        require_one_turn(kwargs)
        if args.aggregation == "trl" and type(self).loss is not RankGRPOTrainer.loss:
            raise ValueError(
                f"{type(self).__name__} brings a loss of its own, but aggregation is 'trl': TRL's loss would be used. "
                "Set aggregation to 'rank' or 'token', with preset 'rank_grpo' or 'custom'."
            )
        functions = keep_what_is_said_of_ranks(reward_funcs, args.num_ranks)
        leave_sampling_to_the_run(model, processing_class, use_vllm=args.use_vllm)  # before TRL reads where lists end
        super().__init__(model, functions, args, processing_class=processing_class, **kwargs)
        require_a_generation(self.train_dataset, args)
        policy = self.accelerator.unwrap_model(self.model)
        leave_sampling_to_the_run(policy, self._tokenizer, use_vllm=args.use_vllm)  # of a model by name: loaded now
        require_one_end(self.eos_token_ids, self._tokenizer)
        for called in filter(None, (self.model, self.ref_model)):
            count_positions_from_the_text(self.accelerator.unwrap_model(called))
            if args.disable_dropout:
                switch_attention_dropout_off(called)
        if self.is_fsdp_enabled:
            write_together(policy)
        self._lines = LineTable.from_tokenizer(self._tokenizer, self.eos_token_ids).to(self.accelerator.device)
        self._rank_logs = {mode: RankLog(args.num_ranks) for mode in ("train", "eval")}
        self.add_callback(BeginRanksFile())
        self._clock = StepClock(self.accelerator.device)
        self.add_callback(self._clock)
        self._lists_sampled = 0  # by all processes, for training
        if args.max_lists:
            self.add_callback(ListBudget(self._budget_is_spent))
        self._dynamic_sampling = None
        if args.dynamic_sampling_rounds:
            pad = self._tokenizer.pad_token_id
            padding = {"prompt_ids": pad, "completion_ids": pad, "unit_ids": -1}
            self._dynamic_sampling = DynamicSampling(self.train_dataset, args, self.accelerator, padding)
        if self.ref_model is not None:
            require_same_weights(policy, self.accelerator.unwrap_model(self.ref_model), self._dist.gather_params)

    # ---- Rollout: what each rank is worth -------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: list) -> Any:
        if isinstance(prompts[0], str):  # rendered: a second beginning-of-text token would shift the model's input
            return self._tokenizer(prompts, add_special_tokens=False)["input_ids"], None, {}
        return super()._tokenize_prompts(prompts)

    def _generate(self, prompts: list) -> Any:
        with self._phase("generate"):
            return super()._generate(prompts)

    def _calculate_rewards(self, inputs: list, prompts: list, completions: list, completion_ids_list: list) -> Tensor:
        with self._phase("reward"):
            # They read the very tokens that credit is placed on, whatever TRL's own decoding makes of them.
            texts = completion_texts(self._tokenizer, completion_ids_list)
            answers = texts if isinstance(prompts[0], str) else [[{"role": "assistant", "content": t}] for t in texts]
            self._lengths = list(map(len, completion_ids_list))
            self._totals = super()._calculate_rewards(inputs, prompts, answers, completion_ids_list)  # (N, F)
            return self._totals

    def _generate_and_score_completions(self, inputs: list) -> dict[str, Any]:
        rollout = self._roll_out(inputs)
        with self._phase("credit"):
            if self._dynamic_sampling and self.model.training:
                rollout = self._fill(self._dynamic_sampling, rollout)
            return rollout.own | self._credit(rollout)

    def _roll_out(self, inputs: list) -> Rollout:
        """Sample and score a list for each row, and log what all processes see of them."""
        with self._phase("other"):
            output = super()._generate_and_score_completions(inputs)
        with self._phase("credit"):
            ids = output["completion_ids"]
            mask = written_tokens(ids, self._lengths)  # TRL's is 0 on lists that are left out of the loss
            unit_ids = segment_ranks(ids, mask, self._lines, self.args.num_ranks)  # (B, T)
            lists = self._gather_lists(self._present(unit_ids, mask))
            returns = self.returns(lists).checked(lists)
            informative = self.informative(lists, returns)
            self._log_lists(lists, returns, informative)
            return Rollout({**output, "unit_ids": unit_ids}, lists, returns, informative)

    def _fill(self, sampling: DynamicSampling, batch: Rollout) -> Rollout:
        """Groups without spread make room for groups of further prompts."""
        filled, rounds = sampling.fill(batch, self._roll_out)
        tokens = self.accelerator.gather(filled.own["completion_mask"].sum()).sum()
        self._metrics["train"]["sampling_rounds"].append(rounds)
        self._rank_logs["train"].add_values("informative_trained", filled.informative.cpu())
        return replace(filled, own={**filled.own, "num_items_in_batch": tokens})

    def _credit(self, rollout: Rollout) -> dict[str, Tensor]:
        """`advantages` `(B, U)` of the lists of this process, and which `kl_units` `(B, U)` count or `list_tokens`."""
        unit_ids, mask = rollout.own["unit_ids"], rollout.own["completion_mask"]
        start = self.accelerator.process_index * len(mask)
        own = slice(start, start + len(mask))
        advantages = self.advantages(rollout.lists, rollout.returns).with_penalties(rollout.lists, self.args)
        credit = {"advantages": advantages.by_unit(own, self._present(unit_ids, mask))}
        if self.args.kl_cells == "informative":
            informative = rollout.informative.repeat_interleave(rollout.lists.num_generations, 0)
            credit["kl_units"] = units_to_hold(credit["advantages"], informative[own])
        if self.args.aggregation == "token":
            credit["list_tokens"] = self._gather(mask.sum(1)).float().mean().clamp(min=1.0)
        return credit

    def _present(self, unit_ids: Tensor, mask: Tensor) -> Tensor:
        """`(B, U)` bool: which units each list has, with U as large as one of them needs."""
        return unit_present(unit_ids, mask, max(int(unit_ids.max()), self.args.num_ranks) + 1)

    def _gather_lists(self, present: Tensor) -> Lists:
        """What is known of the lists of all processes, from the `(B, U)` units of this one."""
        num_ranks = self.args.num_ranks
        # Alike on every process whether there are scores.
        scores = next((f.scores for f in self.reward_funcs if isinstance(f, RankedRewards) and f.scores), None)
        if scores is not None:
            scores = RankScores(*(self._gather(getattr(scores, f.name)).cpu().numpy() for f in fields(scores)))
        return Lists(
            rewards=self._gather(rewards_by_rank(self.reward_funcs, len(present), num_ranks)),
            totals=self._totals.to(self._float),
            present=self._gather(present[:, :num_ranks]),
            overflow=self._gather(present[:, num_ranks + 1 :].sum(1)),
            num_generations=self.num_generations if self.model.training else self.num_generations_eval,
            scores=scores,
        )

    def writing_model(self) -> AbstractContextManager[PreTrainedModel]:
        """The policy, able to write lists outside of training: what processes hold parts of is gathered as in rollouts.

        Under ZeRO-3 and FSDP all processes have to write equally many batches.
        """
        how = {"gather_deepspeed3_params": self.args.ds3_gather_for_generation}
        how |= {"gradient_checkpointing_kwargs": self.args.gradient_checkpointing_kwargs}
        return unwrap_model_for_generation(self.model_wrapped, self.accelerator, **how)

    # ---- A place for a new idea: docs/extend.md -------------------------------------------------------------------

    def returns(self, lists: Lists) -> Returns:
        """What lists are compared by, from what the reward functions say of them, for each function.

        Here: just that. A function that gives one float says the same of every rank. `RankReward` chooses among the
        families of the paper; to start from its relevance instead, read `lists.scores`.
        """
        return Returns(torch.where(lists.rewards.isnan(), lists.totals[:, None], lists.rewards), lists.totals)

    def advantages(self, lists: Lists, returns: Returns) -> Advantages:
        """What each part of a list is credited with. Penalties and bonus of the settings are added to it.

        Here: how far a return lies above those of the prompt's other lists, at each rank (eq. 8) or of the whole list,
        as `advantage`, `scale_rewards` and `multi_objective_aggregation` say.
        """
        values, weights = self._compared(returns)
        if self.multi_objective_aggregation == "normalize_then_sum":
            compared = decoupled_advantages(values, weights, lists.num_generations)
        else:
            values = weighted_sum(values, weights)
            compared = rank_advantages(values, lists.num_generations, self.args.scale_rewards)
        if self.args.advantage == "rank":
            return Advantages.of_ranks(compared)
        return Advantages.of_lists(compared[:, 0], self.args.num_ranks)

    def informative(self, lists: Lists, returns: Returns) -> Tensor:
        """`(P, K)` bool: at which ranks of a prompt lists differ in what `advantages` compares; the rest has no signal.

        Decides what is logged as informative, which groups dynamic sampling replaces, and `kl_cells="informative"`.
        """
        cells = informative_cells(*self._compared(returns), lists.num_generations, self.multi_objective_aggregation)
        return cells.expand(-1, self.args.num_ranks)

    def _compared(self, returns: Returns) -> tuple[Tensor, Tensor]:
        """What lists of a prompt are compared in, `(N, K, F)` of ranks or `(N, 1, F)` of lists, and weights `(F,)`."""
        values = returns.ranks if self.args.advantage == "rank" else returns.lists[:, None]
        return values, self.reward_weights.to(values)

    def loss(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch, and by name what the log shows of each rank: `(B, U)`, without gradient.

        Here: eq. 6. Micro-batches and processes are averaged, so divide by constants, not by what a batch happens to
        hold. Not with `aggregation="trl"`: there the loss is TRL's.
        """
        return rank_grpo_loss(
            tokens.log_probs,
            tokens.old_log_probs,
            tokens.unit_ids,
            tokens.mask,
            tokens.advantages,
            num_ranks=self.args.num_ranks,
            epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high,
            ratio=self.args.ratio,
            delta=self.args.delta,
            unit_weights=tokens.weights,
            ref_log_probs=tokens.ref_log_probs,
            beta=self.beta,
            kl_units=tokens.kl_units,
            list_tokens=tokens.list_tokens,
        )

    # ---- Loss -----------------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if self.args.aggregation == "trl":
            by_token = place_units(inputs["advantages"], inputs["unit_ids"])  # (B, T)
            loss = super()._compute_loss(model, {**inputs, "advantages": by_token})
            tokens = self._tokens(inputs, *self._policy_pass)
            _, metrics = self.loss(tokens)  # for the log alone, in which TRL says what its own loss clips
            del metrics["clipped"]
            self._log_loss(tokens, metrics)
            return loss
        log_probs, entropies, aux_loss = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
        )
        tokens = self._tokens(inputs, log_probs, entropies)
        loss, metrics = self.loss(tokens)
        self._log_loss(tokens, metrics)
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * aux_loss
            self._metrics[self._mode]["aux_loss"].append(self.accelerator.gather_for_metrics(aux_loss).mean().item())
        return loss / (self.current_gradient_accumulation_steps if self.model.training else 1)

    def _get_per_token_logps_and_entropies(self, *args: Any, compute_entropy: bool = False, **kwargs: Any) -> Any:
        if not compute_entropy:  # the policy that sampled the lists, or the reference
            with self._phase("log_probs"):
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)
        found = super()._get_per_token_logps_and_entropies(*args, compute_entropy=True, **kwargs)
        self._policy_pass = [values.detach() for values in found[:2]]  # where the loss is TRL's, the log wants it too
        return found

    def _tokens(self, inputs: dict[str, Any], log_probs: Tensor, entropies: Tensor) -> Tokens:
        return Tokens(
            log_probs=log_probs,
            old_log_probs=inputs.get("old_per_token_logps", log_probs.detach()),
            ref_log_probs=inputs.get("ref_per_token_logps"),
            entropies=entropies,
            mask=inputs["completion_mask"],
            unit_ids=inputs["unit_ids"],
            advantages=inputs["advantages"],
            weights=weights_by_unit(inputs.get("importance_sampling_ratio"), inputs),
            kl_units=inputs.get("kl_units"),
            list_tokens=inputs.get("list_tokens"),
        )

    # ---- Logging --------------------------------------------------------------------------------------------------

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        with explain_out_of_memory(name, self.args), self._clock.phase(name) if self.model.training else nullcontext():
            yield

    def _gather(self, values: np.ndarray | Tensor) -> Tensor:
        tensor = torch.as_tensor(values)
        dtype = self._float if tensor.is_floating_point() else tensor.dtype
        return self.accelerator.gather(tensor.to(self.accelerator.device, dtype))

    @property
    def _float(self) -> torch.dtype:
        """float64 keeps equal returns equal; Apple's GPUs do not have it."""
        return torch.float32 if self.accelerator.device.type == "mps" else torch.float64

    def _log_lists(self, lists: Lists, returns: Returns, informative: Tensor) -> None:
        if self.model.training:
            self._lists_sampled += len(lists.lengths)
        summed = weighted_sum(returns.ranks, self.reward_weights.to(returns.ranks))
        self._rank_logs[self._mode].add_lists(lists, summed, informative)

    def _log_loss(self, tokens: Tokens, metrics: dict[str, Tensor]) -> None:
        with self._phase("credit"):
            sums = sums_by_rank(tokens, metrics, self.args.num_ranks, self._float)
            counts, *totals = self.accelerator.reduce(torch.stack(list(sums.values())), reduction="sum").cpu().numpy()
            log = self._rank_logs[self._mode]
            for name, values in zip(list(sums)[1:], totals, strict=True):
                log.add(name, values, counts)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = self._mode
        if mode == "train":
            logs.update({"lists_sampled": self._lists_sampled, **self._clock.take()})
        with self._phase("credit"):
            rank_log = self._rank_logs[mode]
            prefix = "eval_" if mode == "eval" else ""
            logs.update({f"{prefix}{name}": value for name, value in rank_log.grouped().items()})
            if self.accelerator.is_main_process and rank_log.vectors():
                rank_log.write(ranks_file(Path(self.args.output_dir), mode), self.state.global_step)
            rank_log.clear()
        super().log(logs, start_time)

    def _budget_is_spent(self) -> bool:
        generation = self.args.steps_per_generation * self.num_iterations
        made = updates_are_made(self._step, generation, self.args.gradient_accumulation_steps)
        return made and self._lists_sampled >= (self.args.max_lists or math.inf)

    # ---- Exact resume --------------------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return EpochSampler(super()._get_train_sampler(dataset))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # First, because the trainer's own state comes last and says that a checkpoint is whole.
        if not self.args.save_only_model:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            if self.args.sync_ref_model:
                save_reference(self.ref_model, folder)
            state = {"step": self._step, "cut": cut_of(self.args), "lists": self._buffered_inputs}
            state |= {"lists_sampled": self._lists_sampled}
            state |= {"cursor": self._dynamic_sampling.stream.cursor} if self._dynamic_sampling else {}
            save_state(state, folder)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        state = load_state(Path(checkpoint), self.accelerator.device)
        if self.args.sync_ref_model:
            load_reference(self.ref_model, Path(checkpoint))
        self._step, self._buffered_inputs = micro_batches_done(state, self.args), state["lists"]
        self._lists_sampled = state["lists_sampled"]
        if self._dynamic_sampling:
            self._dynamic_sampling.stream.cursor = state.get("cursor", 0)  # 0: nothing was drawn before
