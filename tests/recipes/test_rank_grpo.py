"""Rank-GRPO sees the prompts of SFT, is rewarded by the data's truth, and starts from the very policy it is given."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer
from transformers.utils import is_bitsandbytes_available

from catalog import Catalog, ItemReference
from rankrl.data import Dialogue, PromptRenderer, load_dialogues, save_dialogues
from rankrl.grpo.step_clock import PHASES
from rankrl.run.arguments import RewardArguments
from rankrl.run.models import load_policy
from recipes import rank_grpo, sft
from tests.recipes.runs import LORA, NUM_RANKS, PAIRS, SMALL, Files, logits, run, tokenizer_asked_for, trainer_of

SMALL = {**SMALL, **PAIRS}


def prompts_sampled_from(trainer: Any) -> set[tuple[int, ...]]:
    """The prompt ids that lists are sampled from, over one epoch."""
    prompts = set()
    trainer.model.train()
    for batch in trainer.get_train_dataloader():
        inputs = trainer._prepare_inputs(batch)
        rows = zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)
        prompts |= {tuple(ids[mask == 1].tolist()) for ids, mask in rows}
    return prompts


def history(output: Path) -> list[dict[str, float]]:
    """What was logged at each step."""
    state = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))
    return [entry for entry in state["log_history"] if "kl/all" in entry]


def test_lists_are_sampled_from_the_prompts_of_sft(files: Files, sft_model: Path, tmp_path: Path) -> None:
    # 12 of the 13 dialogues: the longest is left out of the epoch, whose batches hold two prompts.
    dialogues = load_dialogues(files.train)[1:]
    save_dialogues(tmp_path / "even.jsonl", dialogues)
    data = {"catalog": files.catalog, "dialogues": tmp_path / "even.jsonl"}
    trainer = trainer_of(rank_grpo, **data, **SMALL, model_name_or_path=sft_model, output_dir=tmp_path / "rl")

    renderer = PromptRenderer.load(sft_model, AutoTokenizer.from_pretrained(sft_model))
    expected = {tuple(renderer.render(dialogue.messages).token_ids) for dialogue in dialogues}
    assert prompts_sampled_from(trainer) == expected


def test_the_reward_reads_truth_and_seen_of_the_dialogue(files: Files, sft_model: Path, tmp_path: Path) -> None:
    trainer = trainer_of(rank_grpo, **files.training, **SMALL, model_name_or_path=sft_model, output_dir=tmp_path)
    catalog = Catalog.load(files.catalog)
    number, dialogue = next((n, d) for n, d in enumerate(load_dialogues(files.train)) if d.seen)
    wanted, seen = (catalog.lines[catalog.resolve(item[0])] for item in (dialogue.ground_truth, dialogue.seen))
    row = trainer.train_dataset[number]

    def hits(truth: list[dict[str, Any]]) -> list[float]:
        (rewards,) = trainer.reward_funcs[0].function(
            completions=[f"{seen}\n{wanted}\n{wanted}"], ground_truth=[truth], seen=[row["seen"]]
        )
        return rewards

    assert hits(row["ground_truth"]) == [0.0, 1.0, 0.0]
    assert hits([*row["ground_truth"], *row["seen"]]) == [0.0, 1.0, 0.0], "what the user has seen earns nothing"


@pytest.mark.parametrize(("reward", "expected"), [("exp", [0.5, 1.0, 0.0]), ("log", None)])
def test_the_reward_is_the_one_asked_for(
    reward: str, expected: list[float] | None, files: Files, sft_model: Path, tmp_path: Path
) -> None:
    settings = {"model_name_or_path": sft_model, "output_dir": tmp_path, "reward": reward}
    settings |= {"gamma": 2} if reward == "exp" else {}
    trainer = trainer_of(rank_grpo, **files.training, **SMALL, **settings)
    dialogue = load_dialogues(files.train)[0]
    catalog = Catalog.load(files.catalog)
    wanted = catalog.lines[catalog.resolve(dialogue.ground_truth[0])]
    discount = 1 / torch.log2(torch.tensor(3.0)).item()

    one = {"completions": [f"?\n{wanted}\n?"], "ground_truth": [trainer.train_dataset[0]["ground_truth"]]}
    (values,) = trainer.reward_funcs[0].function(**one)
    assert values == pytest.approx(expected or [discount, discount, 0.0])
    assert trainer.reward_funcs[0](**one) == pytest.approx([discount if reward == "log" else 1.0]), (
        "the list as a whole"
    )


@pytest.mark.parametrize("preset", ["rank_grpo", "grpo"])
def test_dcg_trains_ranks_and_lists(preset: str, files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {**files.training, **SMALL, "model_name_or_path": sft_model, "learning_rate": 1e-2}
    run(rank_grpo, **settings, reward="log", preset=preset, output_dir=tmp_path)
    assert len(history(tmp_path)) == SMALL["max_steps"]


# ---- Three starts: each is the given policy, and the KL is measured from it ------------------------------------------


STARTS = {
    "all weights": ("sft_model", {}),
    "a new adapter on a full model": ("sft_model", LORA),
    "the adapter itself": ("sft_adapter", {}),
    "a new adapter on the merged one": ("sft_adapter", LORA),
}


@pytest.mark.parametrize("start", STARTS)
def test_without_learning_what_is_saved_is_the_policy_it_started_from(
    start: str, files: Files, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fixture, settings = STARTS[start]
    given = request.getfixturevalue(fixture)
    settings = {**SMALL, **settings, "model_name_or_path": given, "output_dir": tmp_path, "learning_rate": 0}
    run(rank_grpo, **files.training, **settings)

    before, after = logits(load_policy(given)), logits(load_policy(tmp_path))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("start", STARTS)
def test_learning_begins_at_the_reference(
    start: str, files: Files, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fixture, settings = STARTS[start]
    given = request.getfixturevalue(fixture)
    settings = {**SMALL, **settings, "model_name_or_path": given, "output_dir": tmp_path, "learning_rate": 1e-2}
    run(rank_grpo, **files.training, **settings)

    first, second = (entry["kl/all"] for entry in history(tmp_path))
    assert first == pytest.approx(0.0, abs=1e-6)
    assert second > 1e-6
    assert not torch.allclose(logits(load_policy(tmp_path)), logits(load_policy(given)))
    assert isinstance(load_policy(tmp_path), PeftModel) == (start != "all weights")


# ---- Augmented and popular items -------------------------------------------------------------------------------------


@pytest.fixture
def labelled(files: Files, tmp_path: Path) -> dict[str, Path]:
    """The training data with the first film that a dialogue neither wants nor has seen as its augmented label."""
    catalog, dialogues = Catalog.load(files.catalog), load_dialogues(files.train)
    free = [
        min(set(range(len(catalog))) - {catalog.resolve(item) for item in (*d.ground_truth, *d.seen)})
        for d in dialogues
    ]
    rows = [
        replace(dialogue, augmented=[{"title": catalog[item].title, "year": catalog[item].year, "gain": 0.5}])
        for dialogue, item in zip(dialogues, free, strict=True)
    ]
    save_dialogues(tmp_path / "labelled.jsonl", rows)
    return {"catalog": files.catalog, "dialogues": tmp_path / "labelled.jsonl"}


def test_augmented_labels_of_the_dialogues_pay_as_asked(
    labelled: dict[str, Path], sft_model: Path, tmp_path: Path
) -> None:
    settings = {"augmented_weight": 0.5, "label_schedule": "two_stage", "stage_one_share": 0.25}
    trainer = trainer_of(rank_grpo, **labelled, **SMALL, **settings, model_name_or_path=sft_model, output_dir=tmp_path)
    catalog, row = Catalog.load(labelled["catalog"]), trainer.train_dataset[0]
    wanted, fitting = (catalog.lines[catalog.resolve(row[name][0])] for name in ("ground_truth", "augmented"))
    columns = {name: [row[name]] for name in ("ground_truth", "seen", "augmented")}

    def paid(step: int) -> list[float]:
        state = SimpleNamespace(global_step=step, max_steps=100)
        return trainer.reward_funcs[0].function(completions=[f"{fitting}\n{wanted}"], **columns, trainer_state=state)[0]

    assert paid(24) == [0.25, 0.0, 0.0]
    assert paid(25) == [0.0, 1.0, 0.0]


def test_labels_that_should_count_must_be_there(files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "augmented_weight": 0.5, "model_name_or_path": sft_model, "output_dir": tmp_path}
    with pytest.raises(ValueError, match="none of the 13 rows has any"):
        trainer_of(rank_grpo, **files.training, **settings)


def test_labels_that_do_not_count_change_no_bit_and_are_mentioned(
    files: Files, labelled: dict[str, Path], sft_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**SMALL, "model_name_or_path": sft_model, "learning_rate": 1e-2}
    run(rank_grpo, **files.training, **settings, output_dir=tmp_path / "without")
    assert "augmented" not in caplog.text
    run(rank_grpo, **labelled, **settings, output_dir=tmp_path / "with")

    assert "augmented_weight is 0" in caplog.text
    without, given = (logits(load_policy(model)) for model in (tmp_path / "without", sft_model))
    assert torch.equal(logits(load_policy(tmp_path / "with")), without)
    assert not torch.equal(without, given)


def test_popular_items_pay_less_when_asked(files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {"popularity_power": 1.0, "popularity_cap": 4.0}
    trainer = trainer_of(
        rank_grpo, **files.training, **SMALL, **settings, model_name_or_path=sft_model, output_dir=tmp_path
    )
    catalog, row = Catalog.load(files.catalog), trainer.train_dataset[0]
    wanted = Counter(catalog.resolve(item) for d in load_dialogues(files.train) for item in d.ground_truth)
    item = catalog.resolve(row["ground_truth"][0])
    propensity = wanted[item] / max(wanted.values())
    largest = min(max(wanted.values()), 4.0)  # of an item that was wanted once or never

    (rewards,) = trainer.reward_funcs[0].function(
        completions=[catalog.lines[item]], ground_truth=[row["ground_truth"]], seen=[row["seen"]]
    )
    assert rewards == pytest.approx([min(1 / propensity, 4.0) / largest, 0, 0])
    assert len(set(trainer.reward_funcs[0].function.item_weights)) > 1


def test_what_the_catalogue_lacks_is_reported_once(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Popularity is counted on the labels that the reward has resolved, within the share that may be unknown."""
    catalog, dialogues = Catalog.load(files.catalog), load_dialogues(files.train)
    dialogues[0] = replace(dialogues[0], ground_truth=[*dialogues[0].ground_truth, ItemReference(title="Nowhere")])
    args = RewardArguments(catalog=str(files.catalog), dialogues=str(files.train), popularity_power=1.0)
    reward = rank_grpo.make_reward(args, catalog, dialogues, NUM_RANKS)
    assert reward.item_weights is not None
    assert len([message for message in caplog.messages if "are not in the catalogue" in message]) == 1
    with pytest.raises(ValueError, match="more than unknown_limit=0 allows"):
        rank_grpo.make_reward(replace(args, unknown_limit=0.0), catalog, dialogues, NUM_RANKS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"popularity_power": 1.0}, "popularity_power grades what a hit pays"),
        ({"popularity_power": 0.5, "scale_rewards": "batch"}, ""),
        ({}, ""),
    ],
)
def test_grades_that_scaling_would_undo_are_mentioned(
    settings: dict[str, Any],
    said: str,
    files: Files,
    sft_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer_of(rank_grpo, **files.training, **SMALL, **settings, model_name_or_path=sft_model, output_dir=tmp_path)
    warnings = [message for message in caplog.messages if "scale_rewards" in message]
    assert [said in message for message in warnings] == ([True] if said else [])


# ---- The prompt ------------------------------------------------------------------------------------------------------


def test_a_model_of_another_prompt_is_refused_unless_told(files: Files, sft_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jinja"
    other.write_text("{% block user %}{{ turns[-1].content }} Name {{ num_ranks }}!{% endblock %}", encoding="utf-8")
    settings = {**SMALL, "prompt_template": other, "model_name_or_path": sft_model, "output_dir": tmp_path / "rl"}

    with pytest.raises(ValueError, match=r"trained on another prompt.*different: template"):
        trainer_of(rank_grpo, **files.training, **settings)
    with pytest.warns(UserWarning, match="trained on another prompt"):
        trainer = trainer_of(rank_grpo, **files.training, **settings, allow_prompt_mismatch=True)
    assert "Name 3!" in trainer.train_dataset[0]["prompt"]


def test_other_ranks_are_another_prompt(files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "num_ranks": NUM_RANKS - 1, "model_name_or_path": sft_model, "output_dir": tmp_path}
    with pytest.raises(ValueError, match=r"different: num_ranks"):
        trainer_of(rank_grpo, **files.training, **settings)


def test_a_checkpoint_has_the_prompt_of_its_run(files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "num_ranks": NUM_RANKS - 1, "output_dir": tmp_path}
    with pytest.raises(ValueError, match="trained on another prompt"):
        trainer_of(rank_grpo, **files.training, **settings, model_name_or_path=sft_model / "checkpoint-1")


def test_sft_refuses_another_prompt_too(files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {name: value for name, value in SMALL.items() if name not in PAIRS}
    settings |= {"num_ranks": NUM_RANKS - 1, "model_name_or_path": sft_model, "output_dir": tmp_path}
    with pytest.raises(ValueError, match=r"different: num_ranks"):
        trainer_of(sft, **files.training, **settings)


# ---- Truth that the catalogue lacks ----------------------------------------------------------------------------------


def unknown_truth(dialogue: Dialogue) -> Dialogue:
    return replace(dialogue, ground_truth=[("A Film That Nobody Made", 1990)])


def test_a_few_unknown_titles_do_not_stop_the_run_wherever_they_stand(
    files: Files, sft_model: Path, tmp_path: Path
) -> None:
    first, *others = load_dialogues(files.train)
    save_dialogues(tmp_path / "some.jsonl", [unknown_truth(first), *others])
    # The first step sees the first dialogue alone, and nothing that is in the catalogue.
    settings = {**SMALL, "num_generations": 4, "shuffle_dataset": False, "model_name_or_path": sft_model}
    data = {"catalog": files.catalog, "dialogues": tmp_path / "some.jsonl"}

    run(rank_grpo, **data, **settings, output_dir=tmp_path / "rl")

    assert len(history(tmp_path / "rl")) == 2


def test_more_unknown_titles_than_the_limit_are_an_error_before_training(
    files: Files, sft_model: Path, tmp_path: Path
) -> None:
    *others, last = load_dialogues(files.train)
    save_dialogues(tmp_path / "some.jsonl", [*others, unknown_truth(last)])
    settings = {**SMALL, "unknown_limit": 0.0, "shuffle_dataset": False, "model_name_or_path": sft_model}
    data = {"catalog": files.catalog, "dialogues": tmp_path / "some.jsonl"}

    with pytest.raises(ValueError, match="A Film That Nobody Made.*unknown_limit"):
        trainer_of(rank_grpo, **data, **settings, output_dir=tmp_path / "rl")


# ---- Saving memory, and slowing down ---------------------------------------------------------------------------------


def test_lora_in_bfloat16_with_checkpointing_and_a_rate_that_steps_down(
    files: Files, sft_adapter: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("learning_rate_steps: {1: 1e-3}\n", encoding="utf-8")
    settings = {**SMALL, **LORA, "bf16": True, "gradient_checkpointing": True, "lr_scheduler_type": "constant"}
    settings |= {"config": tmp_path / "run.yaml", "learning_rate": 1e-2, "model_name_or_path": sft_adapter}
    run(rank_grpo, **files.training, **settings, output_dir=tmp_path / "rl")

    assert [entry["learning_rate"] for entry in history(tmp_path / "rl")] == pytest.approx([1e-2, 1e-3])
    manifest = json.loads((tmp_path / "rl" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["ScheduleArguments"] == {"learning_rate_steps": {"1.0": 1e-3}}
    assert manifest["config"]["RankGRPOConfig"]["bf16"] is True


@pytest.mark.parametrize("recipe", [rank_grpo, sft])
@pytest.mark.skipif(is_bitsandbytes_available(), reason="bitsandbytes is installed")
def test_qlora_without_its_package_is_refused_before_anything_is_read(recipe: ModuleType, tmp_path: Path) -> None:
    settings = {name: value for name, value in SMALL.items() if name not in PAIRS or recipe is rank_grpo}
    nowhere = dict.fromkeys(("catalog", "dialogues", "model_name_or_path"), tmp_path / "missing")
    with pytest.raises(ImportError, match="load_in_4bit needs bitsandbytes"):
        run(recipe, **settings, **nowhere, output_dir=tmp_path, use_peft=True, load_in_4bit=True)


# ---- Going on --------------------------------------------------------------------------------------------------------


def test_going_on_from_a_checkpoint_ends_with_the_same_adapter(files: Files, sft_adapter: Path, tmp_path: Path) -> None:
    settings = {**SMALL, **LORA, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2}
    settings |= {"model_name_or_path": sft_adapter, "output_dir": tmp_path}
    run(rank_grpo, **files.training, **settings)
    straight = logits(load_policy(tmp_path))

    shutil.rmtree(tmp_path / "checkpoint-4")
    torch.manual_seed(1)
    run(rank_grpo, **files.training, **settings, resume_from_checkpoint="latest")

    assert [entry["step"] for entry in history(tmp_path)] == [1, 2, 3, 4]
    assert torch.equal(logits(load_policy(tmp_path)), straight)


# ---- What a run leaves -----------------------------------------------------------------------------------------------


def test_a_finished_run_says_what_it_was(
    files: Files, sft_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(rank_grpo, **files.training, **SMALL, model_name_or_path=sft_model, output_dir=tmp_path, beta=0.5)

    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    settings = manifest["config"]["RankGRPOConfig"]
    assert (settings["preset"], settings["ratio"], settings["epsilon"]) == ("rank_grpo", "rank", 0.06)
    assert settings["beta"] == 0.5, "a flag wins over the preset"
    assert manifest["config"]["RewardArguments"]["reward"] == "exp"
    assert manifest["generation"]["do_sample"] is True
    vectors = [json.loads(line) for line in (tmp_path / "ranks_train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in vectors] == [1, 2]
    assert {len(row["hit"]) for row in vectors} == {NUM_RANKS}
    printed = capsys.readouterr().out.splitlines()
    row = next(line for line in printed if line.strip().startswith("1/2")).split()
    assert len(row) == 1 + 8 + 1, "step, the eight numbers that matter, time left"
    (split,) = (line for line in printed if line.startswith("a step took"))
    assert [part.split()[-3] for part in split.split(":")[1].split(",")] == [name.split("_")[-1] for name in PHASES]


def test_its_tokenizer_comes_from_the_commit_of_its_model(files: Files, policy: Path, tmp_path: Path) -> None:
    settings = {"model_name_or_path": policy, "model_revision": "v2", "trust_remote_code": True}
    asked = tokenizer_asked_for(rank_grpo, **files.training, **SMALL, **settings, output_dir=tmp_path)
    assert asked == {"revision": "v2", "trust_remote_code": True}
