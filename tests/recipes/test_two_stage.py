"""Two stages (arXiv 2508.05657) with the shipped configs: augmented labels, then what users chose, near the first."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog import Catalog, ItemReference
from rankrl.data import Dialogue, load_dialogues, save_dialogues
from rankrl.run.models import load_policy
from recipes import rank_grpo, sft
from tests.launch.launcher import MULTI_CPU, finished, launch_command
from tests.recipes.runs import LORA, NUM_RANKS, REPOSITORY, SMALL, Files, flags, installed, logits, run, trainer_of

CONFIGS = REPOSITORY / "recipes" / "configs"
LAPTOP = {
    "use_cpu": True,
    "num_ranks": NUM_RANKS,
    "max_steps": 3,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "logging_steps": 1,
    "learning_rate": 1e-2,
}
TINY = {"model_name_or_path": "tiny-gpt2", "tiny_vocab_size": 600, "tiny_context": 512}


@pytest.fixture(scope="module")
def augmented(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training dialogues without a teacher's lists; all but the first have augmented labels, the best one last."""
    catalog = Catalog.load(files.catalog)
    rows = []
    for number, dialogue in enumerate(load_dialogues(files.untaught)):
        mentioned = {catalog.resolve(item) for item in dialogue.seen}
        fitting = [catalog[item] for item in range(number % 4, len(catalog)) if item not in mentioned][:2]
        labels = [ItemReference(item.key, gain=gain) for item, gain in zip(fitting, (0.875, 1.0), strict=True)]
        rows.append(replace(dialogue, augmented=labels if number else None))
    path = tmp_path_factory.mktemp("augmented") / "train.jsonl"
    save_dialogues(path, rows)
    return path


def best_first_then_common(dialogues: list[Dialogue], catalog: Catalog) -> list[list[str]]:
    labels = [[catalog.resolve(item) for item in reversed(d.augmented)] for d in dialogues if d.augmented]
    count = Counter(item for row in labels for item in row)
    common = sorted(range(len(catalog)), key=lambda item: (-count[item], item))
    lists = []
    for row, dialogue in zip(labels, (d for d in dialogues if d.augmented), strict=True):
        mentioned = {catalog.resolve(item) for item in dialogue.seen}
        filling = [item for item in common if item not in mentioned and item not in row]
        lists.append([catalog.lines[item] for item in [*row, *filling][:NUM_RANKS]])
    return lists


# ---- What is imitated ------------------------------------------------------------------------------------------------


def imitated(trainer: Any) -> list[str]:
    rows = trainer.train_dataset
    lists = [[t for t in labels if t != -100] for labels in rows["labels"]]
    return [trainer.processing_class.decode(row[:-1]) for row in lists]


def test_augmented_lists_are_best_first_and_filled_with_the_most_common_label(
    files: Files, augmented: Path, policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**SMALL, "catalog": files.catalog, "dialogues": augmented, "model_name_or_path": policy}
    with caplog.at_level(logging.WARNING):
        trainer = trainer_of(sft, **settings, imitate="augmented", output_dir=tmp_path)
    expected = best_first_then_common(load_dialogues(augmented), Catalog.load(files.catalog))
    assert imitated(trainer) == ["\n".join(lines) for lines in expected]
    assert "1 of 13 dialogues have no augmented and are left out" in caplog.text


def test_the_truth_can_be_imitated_though_there_are_lists(files: Files, policy: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "catalog": files.catalog, "model_name_or_path": policy}
    told = trainer_of(sft, **settings, dialogues=files.train, imitate="truth", output_dir=tmp_path / "told")
    left = trainer_of(sft, **settings, dialogues=files.untaught, output_dir=tmp_path / "left")
    assert imitated(told) == imitated(left)


@pytest.mark.parametrize("imitate", ["augmented", "recommendations"])
def test_lists_that_nobody_made_cannot_be_imitated(imitate: str, files: Files, policy: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "catalog": files.catalog, "dialogues": files.untaught, "model_name_or_path": policy}
    with pytest.raises(ValueError, match=f"none of the 13 dialogues has {imitate}: give those that recipes/"):
        run(sft, **settings, imitate=imitate, output_dir=tmp_path)


# ---- The stages ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stages(files: Files, augmented: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SFT one -> SFT two -> Rank-GRPO one -> Rank-GRPO two, each a LoRA adapter on the merged one before."""
    root = tmp_path_factory.mktemp("two_stage")
    names = ("sft_stage_one", "sft_stage_two", "rank_grpo_stage_one", "rank_grpo_stage_two")
    data = {"catalog": files.catalog, "dialogues": augmented}
    start: dict[str, Any] = TINY
    for name in names:
        recipe = sft if name.startswith("sft") else rank_grpo
        config = CONFIGS / "two_stage" / f"{name}.yaml"
        # Lessons until lists have lines, and differ in them; then steps that leave the policy alive.
        pace = {"max_steps": 20} if recipe is sft else {"learning_rate": 1e-3}
        run(recipe, config=config, **data, **LAPTOP | pace, **start, output_dir=root / name)
        start = {"model_name_or_path": root / name}
    return {name: root / name for name in names}


def history(directory: Path, name: str) -> list[float]:
    state = json.loads((directory / "trainer_state.json").read_text(encoding="utf-8"))
    return [entry[name] for entry in state["log_history"] if name in entry]


def test_every_stage_moves_on_from_the_one_before(stages: dict[str, Path]) -> None:
    policies = [logits(load_policy(directory)) for directory in stages.values()]
    for before, after in pairwise(policies):
        assert not torch.allclose(before, after)


def test_the_second_stage_begins_at_its_anchor(stages: dict[str, Path]) -> None:
    assert not history(stages["sft_stage_one"], "anchor_kl")
    first, *_, last = history(stages["sft_stage_two"], "anchor_kl")
    assert first == pytest.approx(0.0, abs=1e-5)
    assert last > 1e-4


def test_the_second_stage_of_rl_begins_at_its_reference(stages: dict[str, Path]) -> None:
    first, *_, last = history(stages["rank_grpo_stage_two"], "kl/all")
    assert first == pytest.approx(0.0, abs=1e-5)
    assert last > 1e-6


def test_an_adapter_can_be_trained_on_with_a_copy_of_itself_as_the_anchor(
    files: Files, sft_adapter: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "model_name_or_path": sft_adapter, "output_dir": tmp_path, "learning_rate": 1e-2}
    run(sft, **files.training, **settings, anchor_weight=0.5)
    first, second = history(tmp_path, "anchor_kl")
    assert 0 <= first < 1e-3, "no more than the adapter's dropout"
    assert second > 10 * first
    assert (tmp_path / "adapter_config.json").is_file()


@pytest.mark.launch
def test_two_processes_take_the_steps_of_one(files: Files, policy: Path, tmp_path: Path) -> None:
    """Twelve dialogues a step, in one process or six in each of two: the same losses, distances and weights."""
    save_dialogues(tmp_path / "twelve.jsonl", load_dialogues(files.train)[:12])
    settings = {**SMALL, "catalog": files.catalog, "dialogues": tmp_path / "twelve.jsonl", "model_name_or_path": policy}
    settings |= {"max_steps": 3, "anchor_weight": 0.5, "learning_rate": 1e-2}
    run(sft, **settings | {"per_device_train_batch_size": 12}, output_dir=tmp_path / "one")
    shared = settings | {"per_device_train_batch_size": 6, "ddp_backend": "gloo", "output_dir": tmp_path / "two"}
    command = [*launch_command(MULTI_CPU), "recipes/sft.py", *flags(**shared)]
    printed = finished(command, installed(tmp_path / "packages"))
    assert printed.count("12 dialogues, catalogue of 50 items") == 1, "what is done is not said by each of them"
    for name in ("loss", "anchor_kl", "grad_norm"):
        assert history(tmp_path / "two", name) == pytest.approx(history(tmp_path / "one", name), rel=1e-3, abs=1e-6)
    assert history(tmp_path / "one", "anchor_kl")[-1] > 1e-4
    after = [logits(load_policy(tmp_path / name)) for name in ("one", "two")]
    torch.testing.assert_close(after[0], after[1], atol=1e-3, rtol=1e-3)


def test_going_on_keeps_the_anchor_of_the_start(files: Files, sft_adapter: Path, tmp_path: Path) -> None:
    settings = {**SMALL, **LORA, "model_name_or_path": sft_adapter, "anchor_weight": 0.5, "learning_rate": 1e-2}
    settings |= {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "lora_dropout": 0.0}
    run(sft, **files.training, **settings, output_dir=tmp_path)
    straight, kls = logits(load_policy(tmp_path)), history(tmp_path, "anchor_kl")

    shutil.rmtree(tmp_path / "checkpoint-4")
    run(sft, **files.training, **settings, output_dir=tmp_path, resume_from_checkpoint="latest")
    assert history(tmp_path, "anchor_kl") == pytest.approx(kls)
    torch.testing.assert_close(logits(load_policy(tmp_path)), straight)
