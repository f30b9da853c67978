"""Every YAML file is understood by its recipe, the lines that are commented out too."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from rankrl.data.prompts import PromptTemplate
from recipes import augment_labels, demonstrations, evaluate, rank_grpo, sft
from tests.recipes.runs import REPOSITORY, flags

RECIPES = {
    "demonstrations": demonstrations,
    "augment_labels": augment_labels,
    "sft": sft,
    "rank_grpo": rank_grpo,
    "evaluate": evaluate,
}
TRAINING = ("sft", "rank_grpo")
FILES = sorted((REPOSITORY / "recipes" / "configs").rglob("*.yaml"))
ALL = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
SWITCHED_OFF = re.compile(r"^# (?=[a-z_0-9]+: \S+( #.*)?$)", re.MULTILINE)


def parse(path: Path, **settings: Any) -> Any:
    """What a recipe's `main` is called with."""
    recipe = RECIPES[path.stem]
    needed = {"catalog": "C", "dialogues": "D"}
    if path.stem in TRAINING:
        needed |= {"output_dir": "unused", "use_cpu": True}  # bf16 is refused where there is no GPU
    received = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path.name, "--config", str(path), *flags(**needed, **settings)])
        patch.setattr(recipe, "main", lambda *arguments: received.append(arguments))
        recipe.cli()
    return received[0]


def test_there_is_a_general_config_for_every_stage() -> None:
    general = {path.stem for path in FILES if path.parent.name == "configs"}
    assert general == set(RECIPES)


@ALL
def test_its_recipe_understands_it(path: Path) -> None:
    data, *_ = parse(path)
    template = data.prompt_template or "movie"
    PromptTemplate.load(template if "/" not in template else REPOSITORY / template)
    assert path.read_text(encoding="utf-8").startswith("# "), "the first line says what it is for"


@ALL
def test_flags_win_over_it(path: Path) -> None:
    others = {"learning_rate": 0.5} if path.stem in TRAINING else {}
    data, *training = parse(path, prompt_template="book", **others)
    assert data.prompt_template == "book"
    assert not others or training[0].learning_rate == 0.5


@ALL
def test_what_is_commented_out_can_be_switched_on(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    switched_on = tmp_path / path.name
    switched_on.write_text(SWITCHED_OFF.sub("", text), encoding="utf-8")
    parse(switched_on)
    if path.parent.name == "configs":
        assert SWITCHED_OFF.search(text)


def test_rank_grpo_keeps_to_the_paper() -> None:
    path = next(path for path in FILES if path.parent.name == "configs" and path.stem == "rank_grpo")
    reward, training, model = parse(path)
    assert (reward.reward, reward.gamma) == ("exp", float("inf"))
    assert (training.epsilon, training.epsilon_high, training.beta) == (0.06, 0.08, 1e-3)
    assert (training.num_ranks, training.num_generations, training.temperature) == (20, 8, 1.0)
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 384
    assert (model.use_peft, training.learning_rate) == (True, 1e-5)


def test_demonstrations_keep_to_the_paper() -> None:
    path = next(path for path in FILES if path.parent.name == "configs" and path.stem == "demonstrations")
    args, teacher = parse(path)
    settings = demonstrations.build_settings(args)
    assert (settings.steps, settings.num_ranks) == (("remap", "reflect", "adjust"), 20)
    assert (settings.context_weight, settings.rating_weight, settings.num_rated) == (1.0, 0.5, 100)
    assert settings.regularization == 0.01
    assert (teacher.teacher_model, teacher.remote_host) == ("gpt-4o", "api.openai.com")


def test_augmented_labels_keep_to_the_paper() -> None:
    """50 items retrieved, what is scored at least 3.5 of 4 kept (arXiv 2508.05657, data synthesis)."""
    for path in (path for path in FILES if path.stem == "augment_labels"):
        args, _ = parse(path)
        assert (args.num_candidates, args.min_score) == (50, 3.5)
        augment_labels.check_settings(args, truth_is_known=True)


def test_demonstrations_are_made_for_the_prompt_of_the_next_stages() -> None:
    for folder in {path.parent for path in FILES if path.stem == "demonstrations"}:
        (made, _), (learned, _, _) = (parse(folder / f"{stage}.yaml") for stage in ("demonstrations", "sft"))
        assert made.num_ranks == learned.num_ranks
        assert made.prompt_template == learned.prompt_template


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda folder: folder.name)
def test_both_stages_write_the_same_prompt(folder: Path) -> None:
    (first, _, _), (second, training, _) = (parse(folder / f"{stage}.yaml") for stage in ("sft", "rank_grpo"))
    assert first.num_ranks == training.num_ranks
    assert first.prompt_template == second.prompt_template
    assert first.max_prompt_length == second.max_prompt_length
