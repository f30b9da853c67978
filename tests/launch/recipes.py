"""The recipes in every way that a launch tries: SFT and Rank-GRPO, all weights and an adapter, whole and resumed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from rankrl.run.models import load_policy
from recipes import rank_grpo, sft
from tests.launch.launcher import FLAGS, run_by_two
from tests.launch.watched import TEXT
from tests.recipes.runs import LORA, PAIRS, SMALL, Files, flags, run

RECIPES = {"sft": sft, "rank_grpo": rank_grpo}
BATCH = 4  # of all processes together
SETTINGS = {
    **{name: value for name, value in SMALL.items() if name != "use_cpu"},
    "max_steps": 3,
    "save_strategy": "steps",
    "save_steps": 2,
    "learning_rate": 1e-3,
    "disable_tqdm": True,
}
VALIDATED = {"validate_steps": 3, "validation_size": 5, "validate_batch_size": 2}  # three prompts and two, or two twice
TRAINERS = "tests.launch.watched"
ADAPTER = {**LORA, "lora_dropout": 0.0}  # each process would draw its own


@dataclass(frozen=True)
class Cell:
    """One way to train: a recipe, from where, and what is particular about it."""

    recipe: str
    start: str  # "policy", or the cell whose weights it starts from
    settings: dict[str, Any]


CELLS = {
    "sft": Cell("sft", "policy", {}),
    "sft_lora": Cell("sft", "policy", {**ADAPTER, "anchor_weight": 0.5}),  # the anchor is the model without its adapter
    "rank_grpo": Cell("rank_grpo", "policy", {**PAIRS, "beta": 0.1, "trainer": f"{TRAINERS}:Given"}),
    "rank_grpo_lora_given": Cell(
        "rank_grpo",
        "policy",
        {**ADAPTER, **PAIRS, "beta": 0.1, "learning_rate": 1e-2, "trainer": f"{TRAINERS}:Given"},
    ),
    # The model writes these lists itself; its start is an adapter, which is merged.
    "rank_grpo_lora": Cell(
        "rank_grpo",
        "sft_lora",
        {**ADAPTER, **PAIRS, "beta": 0.1, "learning_rate": 1e-2, "trainer": f"{TRAINERS}:Hasty"},
    ),
}


def settings_of(name: str, files: Files, policy: Path, output: Path) -> dict[str, Any]:
    """A cell as settings of its recipe; it writes into a folder of its name."""
    cell = CELLS[name]
    start = policy if cell.start == "policy" else output / cell.start
    settings = {**files.training, **SETTINGS, **cell.settings}
    if cell.recipe == "rank_grpo":
        settings |= {"validation": files.test, **VALIDATED}
    return {**settings, "model_name_or_path": start, "output_dir": output / name}


def run_alone(name: str, files: Files, policy: Path, output: Path) -> Path:
    """Run a cell in this process alone, with the whole batch."""
    set_seed(0)
    settings = {**settings_of(name, files, policy, output), "per_device_train_batch_size": BATCH, "use_cpu": True}
    run(RECIPES[CELLS[name].recipe], **settings)
    return output / name


def run_cells(engine: str, files: Files, policy: Path, output: Path) -> str:
    """Run every cell by two processes, and its last step once more from its checkpoint (`NAME_resumed`)."""
    runs, ours = [], {"per_device_train_batch_size": BATCH // 2, **FLAGS[engine]}
    for name, cell in CELLS.items():
        settings = {**settings_of(name, files, policy, output), **ours}
        recipe, resumed = f"recipes/{cell.recipe}.py", output / f"{name}_resumed"
        runs.append({"recipe": recipe, "words": flags(**settings), "copy": None})
        settings |= {"output_dir": resumed, "resume_from_checkpoint": "latest"}
        copy = [str(output / name / "checkpoint-2"), str(resumed / "checkpoint-2")]
        runs.append({"recipe": recipe, "words": flags(**settings), "copy": copy})
    plan = output / "runs.json"
    plan.write_text(json.dumps(runs), encoding="utf-8")
    return run_by_two("launch/several.py", plan, engine=engine, folder=output)


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    log = json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    found = [entry["loss"] for entry in log if "loss" in entry]
    assert len(found) == 3
    return found


def greedy_lists(run: Path) -> list[str]:
    """What validation read after the last step: five lists, not all alike."""
    looks = json.loads((run / "validation.json").read_text(encoding="utf-8"))["validations"]
    assert [look["step"] for look in looks] == [0, 3]
    lists = json.loads((run / "lists.json").read_text(encoding="utf-8"))
    assert len(lists) == 5
    assert len(set(lists)) > 1
    return lists


@torch.no_grad()
def log_probs(directory: Path) -> torch.Tensor:
    """What a saved model, loaded here, in one process, makes of a fixed text. (1, 30, V)

    This is what trainings are compared by: of a gradient that is nothing but rounding, such as that of the keys' bias,
    Adam makes whole steps, and the weights of equal models differ.
    """
    return load_policy(directory, trainable=False).eval()(TEXT).logits.float().log_softmax(-1)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """What was saved, as one process loads it."""
    return load_policy(directory, trainable=False).state_dict()
