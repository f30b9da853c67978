"""Every YAML file is understood by its recipe, the lines that are commented out too."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rankrl.data.prompts import PromptTemplate
from rankrl.grpo.presets import PRESETS
from rankrl.run.demonstration_work import build_settings
from rankrl.run.grid import Grid
from rankrl.run.label_work import check_settings
from recipes import augment_labels, demonstrations, evaluate, rank_grpo, sft, tune_scorer
from tests.recipes.runs import REPOSITORY, flags

RECIPES = {
    "demonstrations": demonstrations,
    "augment_labels": augment_labels,
    "sft": sft,
    "rank_grpo": rank_grpo,
    "evaluate": evaluate,
    "tune_scorer": tune_scorer,
}
LISTING = ("sft", "rank_grpo")  # stages that train a model to write lists
TRAINING = (*LISTING, "tune_scorer")
CONFIGS = REPOSITORY / "recipes" / "configs"
BASES = {CONFIGS / "compare" / name for name in ("demo.yaml", "gpu.yaml")}  # of grids: they have no arms
GRIDS = sorted(set((CONFIGS / "compare").glob("*.yaml")) - BASES)
FILES = sorted(set(CONFIGS.rglob("*.yaml")) - set((CONFIGS / "compare").glob("*.yaml")))
ALL = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
SWITCHED_OFF = re.compile(r"^# (?=[a-z_0-9]+: (\S+|\{.*\})( #.*)?$)", re.MULTILINE)


def stage_of(path: Path) -> str:
    """The recipe that a file is for: `rank_grpo` for `rank_grpo.yaml` and `rank_grpo_stage_one.yaml`."""
    return next(name for name in RECIPES if path.stem == name or path.stem.startswith(f"{name}_"))


def parse(path: Path, **settings: Any) -> Any:
    """What a recipe's `main` is called with."""
    recipe = RECIPES[stage_of(path)]
    needed = {"catalog": "C", "dialogues": "D"}
    if stage_of(path) == "tune_scorer":
        needed["scores"] = "S"
    if stage_of(path) in TRAINING:
        needed |= {"output_dir": "unused", "use_cpu": True}  # bf16 is refused where there is no GPU
    received = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path.name, "--config", str(path), *flags(**needed, **settings)])
        patch.setattr(recipe, "main", lambda *arguments, **_: received.append(arguments))
        recipe.cli()
    return received[0]


def test_there_is_a_general_config_for_every_stage() -> None:
    general = {path.stem for path in FILES if path.parent.name == "configs"}
    assert general == set(RECIPES)


@ALL
def test_its_recipe_understands_it(path: Path) -> None:
    data, *_ = parse(path)
    template = getattr(data, "prompt_template", None) or "movie"
    PromptTemplate.load(template if "/" not in template else REPOSITORY / template)
    assert path.read_text(encoding="utf-8").startswith("# "), "the first line says what it is for"


@ALL
def test_flags_win_over_it(path: Path) -> None:
    others = {"learning_rate": 0.5} if stage_of(path) in TRAINING else {}
    data, *training = parse(path, line_template="{title}", **others)
    assert data.line_template == "{title}"
    assert not others or training[0].learning_rate == 0.5


@ALL
def test_what_is_commented_out_can_be_switched_on(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    switched_on = tmp_path / path.name
    text = text.replace("\nbase: ", f"\nbase: {path.parent}/")
    lines = SWITCHED_OFF.sub("", text).split("\n")
    keys = [re.match(r"[a-z_0-9]+:|", line)[0] for line in lines]
    # A setting may stand in a file once: the last one of those that are there, or offered in a comment.
    kept = [line for at, line in enumerate(lines) if not keys[at] or keys[at] not in keys[at + 1 :]]
    switched_on.write_text("\n".join(kept), encoding="utf-8")
    parse(switched_on)
    if path.parent.name == "configs":
        assert SWITCHED_OFF.search(text)


def test_rank_grpo_keeps_to_the_paper() -> None:
    path = next(path for path in FILES if path.parent.name == "configs" and path.stem == "rank_grpo")
    reward, training, model, *_ = parse(path)
    assert (reward.reward, reward.gamma) == ("exp", float("inf"))
    assert (training.epsilon, training.epsilon_high, training.beta) == (0.06, 0.08, 1e-3)
    assert (training.num_ranks, training.num_generations, training.temperature) == (20, 8, 1.0)
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 384
    assert (model.use_peft, training.learning_rate) == (True, 1e-5)


@pytest.mark.parametrize("path", [p for p in FILES if p.stem.startswith("rank_grpo")], ids=lambda p: p.parent.name)
def test_lists_are_never_older_than_a_step(path: Path) -> None:
    """As in the paper's on-policy runs; a config that divides the one of its base has to divide the other."""
    _, training, *_ = parse(path)
    assert training.num_iterations == 1
    assert training.gradient_accumulation_steps % training.steps_per_generation == 0


def test_another_algorithm_is_one_flag() -> None:
    """The general config leaves to the preset what belongs to an algorithm."""
    path = next(path for path in FILES if path.parent.name == "configs" and path.stem == "rank_grpo")
    for name, preset in PRESETS.items():
        _, training, *_ = parse(path, preset=name)
        values = {**preset.proposes, **preset.defines}
        assert {field: getattr(training, field) for field in values} == values, name
    with pytest.raises(ValueError, match="preset='rank_grpo' means ratio='rank', but ratio='token' is set"):
        parse(path, ratio="token")  # a flag against the preset of the file


def test_demonstrations_keep_to_the_paper() -> None:
    path = next(path for path in FILES if path.parent.name == "configs" and path.stem == "demonstrations")
    args, teacher = parse(path)
    settings = build_settings(args)
    assert (settings.steps, settings.num_ranks) == (("remap", "reflect", "adjust"), 20)
    assert (settings.context_weight, settings.rating_weight, settings.num_rated) == (1.0, 0.5, 100)
    assert settings.regularization == 0.01
    assert (teacher.teacher_model, teacher.remote_host) == ("gpt-4o", "api.openai.com")


def test_the_papers_encoder_may_run_the_code_it_comes_with() -> None:
    encoders = [parse(path)[0] for path in FILES if path.stem == "demonstrations"]
    trusted = [args.encoder for args in encoders if args.encoder_trust_remote_code]
    assert trusted == [args.encoder for args in encoders if "stella" in args.encoder] != []


def test_augmented_labels_keep_to_the_paper() -> None:
    """50 items retrieved, what is scored at least 3.5 of 4 kept (arXiv 2508.05657, data synthesis)."""
    for path in (path for path in FILES if path.stem == "augment_labels"):
        args, _ = parse(path)
        assert (args.num_candidates, args.min_label_score) == (50, 3.5)
        check_settings(args, truth_is_known=True)


def test_demonstrations_are_made_for_the_prompt_of_the_next_stages() -> None:
    for folder in {path.parent for path in FILES if path.stem == "demonstrations"}:
        (made, _), (learned, _, _) = (parse(folder / f"{stage}.yaml") for stage in ("demonstrations", "sft"))
        assert made.num_ranks == learned.num_ranks
        assert made.prompt_template == learned.prompt_template


# What a folder without its own first stage goes on from.
START = {CONFIGS / "blended": [CONFIGS / "sft.yaml"]}


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda folder: folder.name)
def test_all_stages_write_the_same_prompt(folder: Path) -> None:
    stages = {path for path in FILES if path.parent == folder and stage_of(path) in LISTING} | {*START.get(folder, ())}
    prompts = set()
    for path in stages:
        data, training, *_ = parse(path)
        num_ranks = data.num_ranks if stage_of(path) == "sft" else training.num_ranks
        prompts.add((num_ranks, data.prompt_template, data.max_prompt_length))
    assert len(stages) > 1
    assert len(prompts) == 1


def two_stage(name: str) -> Any:
    return parse(CONFIGS / "two_stage" / f"{name}.yaml")


def test_the_first_stage_learns_augmented_labels_and_the_second_what_users_chose() -> None:
    (one, _, _), (two, _, _) = two_stage("sft_stage_one"), two_stage("sft_stage_two")
    assert (one.imitate, one.anchor_weight) == ("augmented", 0.0)
    assert two.imitate == "auto"
    assert two.anchor_weight > 0
    (one, training, *_), (two, anchored, *_) = two_stage("rank_grpo_stage_one"), two_stage("rank_grpo_stage_two")
    assert (one.label_schedule, one.augmented_weight, training.scale_rewards) == ("augmented_only", 1.0, "batch")
    assert two.augmented_weight == 0.0
    assert anchored.beta > training.beta > 0


def test_blended_differs_from_the_general_config_in_the_labels_alone() -> None:
    (labels, training, *others), (plain, general, *plain_others) = (
        parse(CONFIGS / name / "rank_grpo.yaml") for name in ("blended", ".")
    )
    assert (labels.augmented_weight, labels.label_schedule, training.scale_rewards) == (0.1, "constant", "batch")
    assert replace(labels, augmented_weight=0.0) == plain
    training.scale_rewards = general.scale_rewards
    assert training.to_dict() | {"logging_dir": None} == general.to_dict() | {"logging_dir": None}
    assert others == plain_others


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_arm_of_a_grid_is_understood(path: Path) -> None:
    grid = Grid.load(path)
    base = REPOSITORY / grid.config
    assert base.is_file()
    for arm in grid.arms:
        reward, training, *_ = parse(base, **{**grid.settings, **arm.settings})
        own = {**vars(training), **vars(reward)}
        assert {name: own[name] for name in arm.settings} == arm.settings, arm.name
    assert path.read_text(encoding="utf-8").startswith("# "), "the first lines say what it asks"
    if grid.launch:
        words = shlex.split(grid.launch)
        launch = yaml.safe_load((REPOSITORY / words[words.index("--config_file") + 1]).read_text(encoding="utf-8"))
        assert launch["num_processes"] > 0 or "--num_processes" in words, "accelerate would refuse it"


def test_an_arm_that_several_grids_name_is_one_arm() -> None:
    """Grids may share an output folder; an arm of the same name there has to be the same run."""
    seen: dict[tuple[object, str], object] = {}
    for path in GRIDS:
        grid = Grid.load(path)
        for arm in grid.arms:
            run = (grid.config, {**grid.settings, **arm.settings}, arm.recipe)
            assert seen.setdefault((str(grid.start), arm.name), run) == run, f"{path.stem}: {arm.name}"
