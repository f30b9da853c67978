"""Trainers for `rank_grpo.py --trainer`: what was trained is written down by its engine, and lists that are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankrl.grpo import RankGRPOTrainer
from rankrl.run.validation import Validation

TEXT = torch.arange(10, 40)[None]


class Watched(RankGRPOTrainer):
    """Writes what the trained model makes of a fixed text, `(1, 30, V)`, as the engine sees it, into `seen.pt`, and the
    greedy lists of validation into `lists.json`."""

    def train(self, *args: Any, **kwargs: Any) -> Any:
        output = super().train(*args, **kwargs)
        self.model_wrapped.eval()
        with torch.no_grad():  # all processes: some engines gather weights for it
            logits = self.model_wrapped(TEXT.to(self.accelerator.device)).logits
        if self.is_world_process_zero():
            torch.save(logits.float().cpu(), Path(self.args.output_dir) / "seen.pt")
        (validation,) = (each for each in self.callback_handler.callbacks if isinstance(each, Validation))
        texts = validation.lists()
        if self.is_world_process_zero():
            (Path(self.args.output_dir) / "lists.json").write_text(json.dumps(texts), encoding="utf-8")
        return output


class Given(Watched):
    """Lists are a function of the prompt and of their place in its group, so that however many processes share a batch,
    they train on the same. Some are too short and some too long, and so their penalties differ."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write, self.model.generate = self.model.generate, self._give

    def _give(self, input_ids: Tensor, attention_mask: Tensor, generation_config: Any) -> Tensor:
        if generation_config is not self.generation_config:  # validation: the model writes
            return self._write(input_ids=input_ids, attention_mask=attention_mask, generation_config=generation_config)
        tokenizer = self.processing_class
        rows = []
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
            number = int((ids * mask).sum()) + row % self.num_generations
            lines = [f"{'abcdefgh'[(number + i) % 8] * (i + 1)} ({1950 + number % 50})" for i in range(2 + number % 3)]
            rows.append(torch.tensor([*tokenizer.encode("\n".join(lines)), tokenizer.eos_token_id]))
        lists = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.eos_token_id)
        return torch.cat([input_ids, lists], 1)


class Hasty(Watched):
    """The model writes lists, but those of process 1 are empty: it has to wait for the other, or to work on with it."""

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        if self.accelerator.process_index == 1:
            model.register_forward_hook(self._end, with_kwargs=True)

    def _end(self, model: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if kwargs.get("past_key_values") is not None:  # while it writes
            output.logits[..., self.processing_class.eos_token_id] += 100
