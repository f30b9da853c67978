"""Supervised fine-tuning that stays near the policy it starts from: stage two of arXiv 2508.05657."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from trl import SFTTrainer

IGNORED = -100  # the label of what is not learned: the prompt and the padding


def token_kl(anchor_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(anchor || policy) over the vocabulary, token by token, in nats.

    Args:
        anchor_logits: `(..., V)` floating point, of the soft labels.
        logits: `(..., V)` of the policy.

    Returns:
        `(...)` float32, at least 0, and 0 where both say the same.

    Example:
        >>> token_kl(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.0]))
        tensor(0.)
    """
    anchor, policy = (values.float().log_softmax(-1) for values in (anchor_logits, logits))
    return functional.kl_div(policy, anchor, reduction="none", log_target=True).sum(-1)


class AnchoredSFTTrainer(SFTTrainer):
    """TRL's `SFTTrainer` with `L = L_ce + anchor_weight * KL(anchor || policy)`, both means over the labelled tokens.

    The anchor is the policy at the start, frozen: the stage-one model, whose soft labels keep alive what it learned
    (arXiv 2508.05657, stage two; there by item, here by token). A new adapter (`peft_config`) is switched off to see
    the anchor. Otherwise the anchor is a copy of what is trained, which shares with the policy what is not. Logged:
    `anchor_kl` in nats a token, beside `loss`, which is the sum. The logits of the labelled part are held for both
    models, so batches are smaller than without an anchor. With a weight of 0 this is TRL's trainer to the last bit, and
    there is no second model.

    Args:
        model: a loaded model or a trainable `PeftModel`.
        args: the `SFTConfig`.
        anchor_weight: alpha, 0 or more; the larger, the less the new data move the policy.
        peft_config: of a new adapter.
        **kwargs: as for `SFTTrainer`.

    Raises:
        ValueError: for a negative weight, or together with an option that the anchored loss does not honour: another
            loss, label smoothing, the balancing loss of mixtures of experts, sequence parallelism, or a copy of weights
            that DeepSpeed or FSDP spread over processes.

    Example:
        >>> trainer = AnchoredSFTTrainer(model, SFTConfig("runs/two"), anchor_weight=0.5, train_dataset=dataset)
        >>> trainer.train()
    """

    def __init__(
        self, model: Any, args: Any = None, *, anchor_weight: float = 0.0, peft_config: Any = None, **kwargs: Any
    ) -> None:
        if not 0 <= anchor_weight < float("inf"):
            raise ValueError(f"anchor_weight is {anchor_weight}; expected 0 (no anchor) or a positive number.")
        if anchor_weight and isinstance(model, str):
            raise ValueError(f"with an anchor the model has to be loaded already; got its name, {model!r}.")
        # Copied first: TRL replaces the policy's forward, and a copy of that would still run the policy.
        self.anchor = frozen_copy(model) if anchor_weight and peft_config is None else None
        self.anchor_weight = anchor_weight
        self._sums: dict[str, Tensor] = {}
        super().__init__(model, args, peft_config=peft_config, **kwargs)
        if anchor_weight:
            self._check_settings()
        if self.anchor is not None:
            self.anchor = self.accelerator.prepare_model(self.anchor, evaluation_mode=True)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one micro-batch, scaled so that the micro-batches of a step add up to a mean over its tokens."""
        if not self.anchor_weight:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"]
        labelled = (labels != IGNORED).any(0).nonzero()
        # A token is predicted at the place before it; what stands before the first list needs no logits.
        kept = labels.shape[1] - max(int(labelled.min()) if len(labelled) else 1, 1) + 1
        read = {name: value for name, value in inputs.items() if name != "labels"}
        read |= {"use_cache": False, "logits_to_keep": 0 if return_outputs else kept}
        targets = labels[:, 1 - kept :]
        mask = targets != IGNORED

        anchor_logits = self._anchor_logits(model, read)[:, -kept:-1][mask]
        outputs = model(**read)
        logits = outputs.logits[:, -kept:-1][mask]  # (labelled tokens, V)
        cross_entropy = functional.cross_entropy(logits.float(), targets[mask], reduction="sum")
        kl = token_kl(anchor_logits, logits).sum()
        count = mask.sum()
        self._note(kl, (logits.argmax(-1) == targets[mask]).sum(), count)

        total = count if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = (cross_entropy + self.anchor_weight * kl) / total.to(kl.device).clamp(min=1)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes, tokens are not
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the anchored loss's own numbers, averaged over the tokens since the last time."""
        prefix = "" if self.model.training else "eval_"
        sums = self._sums.pop(prefix, None)
        if sums is not None:
            kl, correct, count = self.accelerator.reduce(sums, "sum").tolist()
            logs |= {f"{prefix}anchor_kl": kl / max(count, 1), f"{prefix}mean_token_accuracy": correct / max(count, 1)}
        super().log(logs, start_time)

    @torch.no_grad()
    def _anchor_logits(self, model: nn.Module, read: dict[str, Any]) -> Tensor:
        if self.anchor is not None:
            return self.anchor(**read).logits
        training = model.training
        model.eval()  # soft labels without dropout
        with self.accelerator.unwrap_model(model).disable_adapter():
            logits = model(**read).logits
        model.train(training)
        return logits

    def _note(self, kl: Tensor, correct: Tensor, count: Tensor) -> None:
        prefix = "" if self.model.training else "eval_"
        sums = torch.stack([kl.detach(), correct.float(), count.float()])
        self._sums[prefix] = self._sums.get(prefix, torch.zeros_like(sums)) + sums

    def _check_settings(self) -> None:
        parallel = self.accelerator.parallelism_config
        unheard = {
            f"loss_type={self.args.loss_type!r}": self.args.loss_type != "nll",
            "label_smoothing_factor": self.args.label_smoothing_factor > 0,
            "compute_loss_func": self.compute_loss_func is not None,
            "router_aux_loss_coef (set it to 0)": self.aux_loss_enabled,
            "parallelism_config": parallel is not None,
        }
        if wrong := [name for name, given in unheard.items() if given]:
            raise ValueError(
                f"an anchored loss is cross-entropy plus KL and cannot honour {', '.join(wrong)}: leave it out, or set "
                "anchor_weight to 0."
            )
        if self.anchor is not None and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError(
                "the anchor is a frozen copy of all that is trained, which cannot be made of weights that DeepSpeed or "
                "FSDP spread over processes. Train a new adapter (use_peft: true), whose anchor is the model without "
                "it, or use plain data parallelism."
            )


def frozen_copy(model: nn.Module) -> Any:
    """A copy for inference that shares with the model whatever is not trained, such as the weights below an adapter."""
    shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    return copy.deepcopy(model, shared).eval().requires_grad_(False)
