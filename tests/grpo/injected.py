"""The same lists put before several trainers, and what each makes of them: loss and gradient, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

# Eight lists of three ranks: complete, with titles of one token and of many, too short, too long, and one that the
# length limit (19 tokens) cuts. An end token follows where `\0` stands.
LISTS = (
    "ab\nbc\naa\0",
    "a\nxyzxyz qrs tuv\nuu\0",
    "ab\nio\0",
    "ae\nio\nub\ncd\0",
    "zz\naa\nebebebebebebe",
    "aba\nbcb\ncdc\0",
    "o\nbcbcbc\ne\0",
    "ee\nab\nbc\0",
)


@dataclass
class Steps(TrainerCallback):
    """What a trainer does at each optimizer step.

    Attributes:
        gradients: by parameter, one mapping a step.
        logs: what was logged, one mapping a step.
        inputs: ids and attention mask of prompts and lists, as the last generation left them.
    """

    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    logs: list[dict[str, float]] = field(default_factory=list)
    inputs: tuple[Tensor, Tensor] | None = None

    def on_pre_optimizer_step(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.logs.append(dict(logs))


def train_on(trainer: Any, lists: tuple[str, ...] = LISTS) -> Steps:
    """Train with `lists` in the place of samples: row by row, over all processes, again and again."""
    steps = Steps()
    tokenizer = trainer.processing_class
    rows = [tokenizer.encode(text.replace("\0", tokenizer.eos_token)) for text in lists]
    width = max(map(len, rows))
    assert all(text.endswith("\0") or len(row) == width for text, row in zip(lists, rows, strict=True))
    # Padded with end tokens, as `generate` does.
    completions = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in rows])
    attended = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])

    def generate(input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Tensor:
        first = trainer.accelerator.process_index * len(input_ids)
        index = torch.arange(first, first + len(input_ids)) % len(rows)
        steps.inputs = (
            torch.cat([input_ids, completions[index]], 1),
            torch.cat([attention_mask, attended[index]], 1),
        )
        return steps.inputs[0]

    trainer.model.generate = generate
    trainer.add_callback(steps)
    trainer.train()
    return steps


def gap(gradient: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """How far one gradient is from another, relative to the length of the latter."""
    assert gradient.keys() == expected.keys()
    difference = sum((gradient[name] - value).double().square().sum() for name, value in expected.items())
    length = sum(value.double().square().sum() for value in expected.values())
    return float((difference / length).sqrt())
