"""The whole path with the general configs, LoRA in every stage: SFT, a new adapter, the adapter continued, scores."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from rankrl.run.models import load_policy
from recipes import evaluate, rank_grpo, recommend, sft
from tests.launch.launcher import CONFIGS as LAUNCHES
from tests.launch.launcher import finished, launch_command
from tests.recipes.runs import NUM_RANKS, REPOSITORY, Files, flags, installed, logits, run

CONFIGS = REPOSITORY / "recipes" / "configs"
# What a laptop needs to differ in; precision, checkpointing, LoRA, objective and prompt are those of the files.
LAPTOP = {
    "use_cpu": True,
    "num_ranks": NUM_RANKS,
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "logging_steps": 1,
}
TINY = {"model_name_or_path": "tiny-gpt2", "tiny_vocab_size": 600, "tiny_context": 512}


@pytest.fixture(scope="module")
def stages(files: Files, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SFT -> Rank-GRPO on the merged adapter, by `accelerate launch` -> Rank-GRPO that trains that adapter on."""
    root = tmp_path_factory.mktemp("path")
    lessons = {**LAPTOP, **TINY, "max_steps": 20, "learning_rate": 1e-2}  # until lists have lines, and differ in them
    run(sft, config=CONFIGS / "sft.yaml", **files.training, **lessons, output_dir=root / "sft")
    launch(
        root, config=CONFIGS / "rank_grpo.yaml", **files.training, **LAPTOP, **after(root / "sft", root / "rank_grpo")
    )
    run(
        rank_grpo,
        **{"config": CONFIGS / "rank_grpo.yaml", **files.training, **LAPTOP},
        **after(root / "rank_grpo", root / "more"),
        use_peft=False,
    )
    return {name: root / name for name in ("sft", "rank_grpo", "more")}


def after(start: Path, output: Path) -> dict[str, Any]:
    return {"model_name_or_path": start, "output_dir": output, "learning_rate": 1e-3}


def launch(folder: Path, **settings: Any) -> None:
    """`accelerate launch` with one CPU process, as the file says that holds it."""
    command = [*launch_command(LAUNCHES / "cpu.yaml"), "recipes/rank_grpo.py", *flags(**settings)]
    finished(command, installed(folder / "packages"))


@pytest.mark.parametrize("stage", ["sft", "rank_grpo", "more"])
def test_every_stage_leaves_an_adapter_that_can_be_scored_and_asked(
    stage: str, stages: dict[str, Path], files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (stages[stage] / "adapter_config.json").is_file()
    data = {"catalog": files.catalog, "dialogues": files.test}
    output = tmp_path / "scores.json"
    run(evaluate, config=CONFIGS / "evaluate.yaml", **data, model_name_or_path=stages[stage], output=output)
    metrics = json.loads(output.read_text(encoding="utf-8"))["metrics"][stage]
    assert {f"ndcg@{NUM_RANKS}", f"recall@{NUM_RANKS}", "in_catalog", "lines"} <= metrics.keys()
    capsys.readouterr()
    run(recommend, catalog=files.catalog, model_name_or_path=stages[stage], request="Something to laugh about?")
    assert capsys.readouterr().out.strip(), "even an empty list deserves an answer"


def test_every_stage_moves_on_from_the_one_before(stages: dict[str, Path]) -> None:
    policies = [logits(load_policy(stages["sft"] / "tiny-gpt2"))]
    policies += [logits(load_policy(stages[stage])) for stage in ("sft", "rank_grpo", "more")]
    for before, after_it in pairwise(policies):
        assert not torch.allclose(before, after_it)


def test_the_adapter_is_one_and_the_same_shape_when_it_is_trained_on(stages: dict[str, Path]) -> None:
    first, continued = (
        {name: value for name, value in load_policy(stages[stage]).named_parameters() if "lora" in name}
        for stage in ("rank_grpo", "more")
    )
    assert first.keys() == continued.keys()
    assert any(not torch.equal(value, continued[name]) for name, value in first.items())
