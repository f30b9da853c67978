"""A trainer of a model with one weight matrix: the quickest real `transformers.Trainer` there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments


class Slope(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": ((x @ self.weight - labels) ** 2).mean()}


ROWS = [{"x": torch.tensor([float(i), 1.0]), "labels": torch.tensor(2.0 * i)} for i in range(8)]


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Builds a trainer of four steps that saves nothing by itself."""

    def make(name: str = "run", *, callbacks: Any = None, **settings: Any) -> Trainer:
        arguments = {
            "max_steps": 4,
            "per_device_train_batch_size": 2,
            "save_strategy": "no",
            "logging_steps": 4,
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
        }
        return Trainer(
            Slope(),
            TrainingArguments(str(tmp_path / name), **{**arguments, **settings}),
            train_dataset=ROWS,
            callbacks=callbacks,
        )

    return make
