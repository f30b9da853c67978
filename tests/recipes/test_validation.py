"""Rank-GRPO with validation: the numbers are those of evaluation, resuming is exact, and stopping leaves the best."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog import Catalog
from rankrl.data import load_dialogues, save_dialogues
from rankrl.run.arguments import RewardArguments, ValidationArguments
from rankrl.run.models import load_policy
from rankrl.run.validation import Validation, ValidationSample
from recipes import evaluate, rank_grpo, sft
from tests.launch.launcher import MULTI_CPU, finished, launch_command
from tests.recipes.runs import (
    LORA,
    NUM_RANKS,
    PAIRS,
    SMALL,
    Files,
    flags,
    installed,
    logits,
    run,
)

SAVING = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}
SETTINGS = {**SMALL, **PAIRS, **SAVING, "max_steps": 4, "learning_rate": 1e-3, "validate_steps": 1}
METRIC = f"ndcg@{NUM_RANKS}"


@pytest.fixture(scope="module")
def able(files: Files, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows what some users of the training dialogues want: others score 0 whatever happens."""
    output = tmp_path_factory.mktemp("able") / "sft"
    settings = {**SMALL, "max_steps": 60, "per_device_train_batch_size": 13, "learning_rate": 1e-2}
    settings |= {"imitate": "truth", "logging_steps": 50, "model_name_or_path": policy}
    run(sft, **files.training, **settings, output_dir=output)
    return output


def record(output: Path) -> dict[str, Any]:
    return json.loads((output / "validation.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def history(output: Path, key: str = "kl/all") -> list[dict[str, float]]:
    """The lines of the training log that have a key."""
    state = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))
    return [entry for entry in state["log_history"] if key in entry]


def logged(output: Path) -> list[dict[str, float]]:
    """What the training log says of validations."""
    return history(output, f"valid/{METRIC}")


@pytest.fixture(scope="module")
def validated(files: Files, able: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that was validated on all dialogues after each, with every checkpoint kept."""
    output = tmp_path_factory.mktemp("validated") / "rl"
    settings = {**SETTINGS, "save_steps": 1, "save_total_limit": 9, "model_name_or_path": able}
    run(rank_grpo, **files.training, **settings, validation=files.train, output_dir=output)
    return output


# ---- Numbers ---------------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_evaluation(validated: Path, able: Path, files: Files, tmp_path: Path) -> None:
    looks = {look["step"]: look for look in record(validated)["validations"]}
    assert list(looks) == [0, 1, 2, 3, 4]
    assert looks[0]["mean"] > 0
    assert looks[4]["mean"] != looks[0]["mean"], "nothing to compare: choose another learning rate"
    for step, model in ((0, able), (2, validated / "checkpoint-2"), (4, validated)):
        data = {"catalog": files.catalog, "dialogues": files.train, "output": tmp_path / "scores.json"}
        run(evaluate, **data, model_name_or_path=model)
        metrics = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["metrics"][model.name]
        assert looks[step]["mean"] == pytest.approx(metrics[METRIC]["mean"])
        for name, value in looks[step]["measures"].items():
            assert value == pytest.approx(metrics[name]["mean"]), name


def test_log_and_record_say_the_same(validated: Path) -> None:
    for entry, look in zip(logged(validated), record(validated)["validations"], strict=True):
        assert entry["step"] == look["step"]
        assert entry[f"valid/{METRIC}"] == look["mean"]
        assert entry[f"valid/{METRIC}_se"] == look["standard_error"]
        assert entry.get(f"valid/{METRIC}_gain") == look["gain"]
        assert entry.get(f"valid/{METRIC}_gain_se") == look["gain_standard_error"]
        assert entry["valid/in_catalog"] == look["measures"]["in_catalog"]
    manifest = json.loads((validated / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["validation"] == record(validated)["sample"]
    assert manifest["validation"]["rows"] == 13


def test_training_is_not_touched(validated: Path, able: Path, files: Files, tmp_path: Path) -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != "validate_steps"}
    run(rank_grpo, **files.training, **settings, model_name_or_path=able, output_dir=tmp_path)
    steps, same = history(tmp_path), history(validated)
    assert [entry["kl/all"] for entry in steps] == [entry["kl/all"] for entry in same]
    assert len(steps) == 4
    assert torch.equal(logits(load_policy(tmp_path)), logits(load_policy(validated)))


# ---- Going on --------------------------------------------------------------------------------------------------------


def test_going_on_decides_as_if_it_had_never_stopped(validated: Path, able: Path, files: Files, tmp_path: Path) -> None:
    shutil.copytree(validated, tmp_path / "rl", symlinks=True)
    for step in (3, 4):
        shutil.rmtree(tmp_path / "rl" / f"checkpoint-{step}")
    settings = {**SETTINGS, "save_steps": 1, "save_total_limit": 9, "model_name_or_path": able}
    settings |= {"validation": files.train, "output_dir": tmp_path / "rl", "resume_from_checkpoint": "latest"}
    run(rank_grpo, **files.training, **settings)

    assert record(tmp_path / "rl") == record(validated)
    assert logged(tmp_path / "rl") == logged(validated)
    assert torch.equal(logits(load_policy(tmp_path / "rl")), logits(load_policy(validated)))
    assert os.readlink(tmp_path / "rl" / "best") == os.readlink(validated / "best")


def test_going_on_with_another_sample_is_refused(validated: Path, able: Path, files: Files, tmp_path: Path) -> None:
    shutil.copytree(validated, tmp_path / "rl", symlinks=True)
    settings = {**SETTINGS, "model_name_or_path": able, "output_dir": tmp_path / "rl", "validation_size": 5}
    with pytest.raises(ValueError, match="the checkpoint was validated on another sample"):
        run(rank_grpo, **files.training, **settings, validation=files.train, resume_from_checkpoint="latest")


# ---- Choosing and stopping, with lists as they are wanted ------------------------------------------------------------


@pytest.fixture
def scripted(files: Files, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the policy answer so many of the six dialogues right, look by look."""
    catalog, dialogues = Catalog.load(files.catalog), load_dialogues(files.test)
    right = ["\n".join(catalog.lines[catalog.resolve(item)] for item in d.ground_truth) for d in dialogues]

    def script(*counts: int) -> None:
        remaining = iter(counts)

        def answer(self: Validation) -> list[str]:
            count = next(remaining)
            return [text if row < count else "" for row, text in enumerate(right)]

        monkeypatch.setattr(Validation, "lists", answer)

    return script


@pytest.mark.parametrize("start", ["sft_model", "sft_adapter"])
def test_the_best_checkpoint_can_be_evaluated(
    start: str,
    files: Files,
    scripted: Callable[..., None],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    scripted(1, 5, 2, 2, 5)  # the best after the first step, which save_steps would not save
    model = request.getfixturevalue(start)
    run(
        rank_grpo,
        **files.training,
        **{**SETTINGS, **(LORA if start == "sft_adapter" else {})},
        **{"model_name_or_path": model, "validation": files.test, "output_dir": tmp_path / "rl"},
    )
    assert sorted(path.name for path in (tmp_path / "rl").glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-4"]
    best = tmp_path / "rl" / "best"
    assert torch.equal(logits(load_policy(best)), logits(load_policy(tmp_path / "rl" / "checkpoint-1")))
    assert not torch.equal(logits(load_policy(best)), logits(load_policy(tmp_path / "rl")))
    assert f"the best on validation (step 1) in {best}" in caplog.text

    data = {"catalog": files.catalog, "dialogues": files.test, "output": tmp_path / "scores.json"}
    run(evaluate, **data, model_name_or_path=best)
    written = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert written["validation"]["checkpoints_looked_at"] == 5
    assert written["validation"]["best_step"] == 1
    assert set(written["metrics"]) == {"best"}
    assert f"{METRIC}" in written["metrics"]["best"], "it wrote lists of the K of its prompt"
    assert "5 checkpoints were looked at" in capsys.readouterr().out
    assert "are the dialogues that the checkpoint was chosen on" in caplog.text


def test_patience_stops_and_saves(
    files: Files, sft_model: Path, scripted: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(1, 5, 5, 4)  # one look more is an error
    settings = {**SETTINGS, "patience": 2, "max_steps": 9, "model_name_or_path": sft_model}
    with caplog.at_level(logging.INFO):
        run(rank_grpo, **files.training, **settings, validation=files.test, output_dir=tmp_path)
    assert "stopping: no new best in 2 validations" in caplog.text
    assert [entry["step"] for entry in logged(tmp_path)] == [0, 1, 2, 3]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-3"]
    assert record(tmp_path)["patience_ran_out"]
    assert torch.equal(logits(load_policy(tmp_path)), logits(load_policy(tmp_path / "checkpoint-3")))

    with caplog.at_level(logging.INFO):
        settings |= {"validation": files.test, "output_dir": tmp_path, "resume_from_checkpoint": "latest"}
        run(rank_grpo, **files.training, **settings)
    assert "nothing is left to train" in caplog.text
    assert [entry["step"] for entry in logged(tmp_path)] == [0, 1, 2, 3], "resumed at its end it stays there"


def test_the_last_step_of_a_budget_of_lists_is_looked_at(files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "max_steps": 9, "max_lists": 12, "validate_steps": 2, "model_name_or_path": sft_model}
    run(rank_grpo, **files.training, **settings, validation=files.test, output_dir=tmp_path)
    assert [entry["step"] for entry in logged(tmp_path)] == [0, 2, 3], "four lists a step"


def test_where_nothing_is_better_the_best_is_the_start(
    files: Files, sft_adapter: Path, scripted: Callable[..., None], tmp_path: Path
) -> None:
    scripted(2, 2, 3, 1, 0)  # 3 instead of 2 right: as large as its error
    settings = {**SETTINGS, **LORA, "model_name_or_path": sft_adapter, "output_dir": tmp_path}
    run(rank_grpo, **files.training, **settings, validation=files.test)
    assert record(tmp_path)["best_step"] == 0
    assert torch.equal(logits(load_policy(tmp_path / "best")), logits(load_policy(sft_adapter)))


def test_alarms_are_installed(files: Files, sft_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A ceiling that no run can keep: it stops after the third line of the log, saved."""
    settings = {**SETTINGS, "max_steps": 9, "kl_ceiling": 0, "stop_on_alarm": True, "model_name_or_path": sft_model}
    run(rank_grpo, **files.training, **settings, num_iterations=2, output_dir=tmp_path)
    state = json.loads((tmp_path / "trainer_state.json").read_text(encoding="utf-8"))
    assert 3 <= state["global_step"] < 9
    assert (tmp_path / f"checkpoint-{state['global_step']}").is_dir()
    assert "in the last 3 lines of the log. Healthy is at most 0; it began at" in caplog.text


# ---- The sample ------------------------------------------------------------------------------------------------------


def sample(files: Files, source: Path, **settings: Any) -> ValidationSample:
    args = RewardArguments(catalog=str(files.catalog), dialogues="", limit=1)
    drawing = ValidationArguments(validation=str(source), **settings)
    return ValidationSample.load(drawing, args, Catalog.load(files.catalog), NUM_RANKS)


def test_the_same_seed_draws_the_same_sample(files: Files) -> None:
    drawn = [sample(files, files.train, validation_size=5, validation_seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].dialogues == drawn[1].dialogues != drawn[2].dialogues
    assert drawn[0].hash == drawn[1].hash != drawn[2].hash
    ids = [row.id for row in load_dialogues(files.train)]
    assert [row.id for row in drawn[0].dialogues] == sorted((row.id for row in drawn[0].dialogues), key=ids.index)
    assert len(sample(files, files.train).dialogues) == len(ids), "no more than there are"


def test_only_dialogues_that_want_something_of_the_catalogue_are_drawn(files: Files, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in files.test.read_text(encoding="utf-8").splitlines()]
    rows[0]["ground_truth"] = [["A Film That Nobody Made", 1990]]
    (tmp_path / "valid.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [row.id for row in sample(files, tmp_path / "valid.jsonl").dialogues] == [row["id"] for row in rows[1:]]


def test_one_dialogue_is_too_few(files: Files, tmp_path: Path) -> None:
    save_dialogues(tmp_path / "one.jsonl", load_dialogues(files.test)[:1])
    with pytest.raises(ValueError, match="of the 1 rows in .*one.jsonl 1 can be validated on"):
        sample(files, tmp_path / "one.jsonl")


def test_training_dialogues_in_the_sample_are_mentioned(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    training = load_dialogues(files.train)
    sample(files, files.test).warn_of_training(training)
    assert "training dialogues too" not in caplog.text
    sample(files, files.train, validation_size=5).warn_of_training(training)
    assert "5 of the 5 validation dialogues are training dialogues too" in caplog.text


# ---- Several processes, memory ---------------------------------------------------------------------------------------


@pytest.mark.launch
def test_two_processes_see_what_one_sees(validated: Path, able: Path, files: Files, tmp_path: Path) -> None:
    """Without learning, all that differs is who writes which of the nine lists. One process saves for both."""
    settings = {**SETTINGS, "model_name_or_path": able, "learning_rate": 0, "max_steps": 2, "save_steps": 1}
    settings |= {**files.training, "validation": files.train, "validation_size": 9}
    run(rank_grpo, **settings, output_dir=tmp_path / "one")
    training = flags(**settings, ddp_backend="gloo", output_dir=tmp_path / "two")
    finished([*launch_command(MULTI_CPU), "recipes/rank_grpo.py", *training], installed(tmp_path / "packages"))
    one = record(tmp_path / "one")
    assert [look["step"] for look in one["validations"]] == [0, 1, 2]
    assert one["validations"][0]["mean"] > 0
    assert record(tmp_path / "two") == one
    for name in ("one", "two"):
        assert [path.name for path in (tmp_path / name).glob("checkpoint-*")] == ["checkpoint-2"]
        assert (tmp_path / name / "best").resolve() == able


def test_gradient_checkpointing_changes_nothing(validated: Path, able: Path, files: Files, tmp_path: Path) -> None:
    settings = {**SETTINGS, **LORA, "gradient_checkpointing": True, "max_steps": 2, "model_name_or_path": able}
    run(rank_grpo, **files.training, **settings, validation=files.train, output_dir=tmp_path)
    assert record(tmp_path)["validations"][0] == record(validated)["validations"][0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"patience": 2}, "patience is 2, but nothing is validated"), ({"validate_steps": 0}, "validate_steps is 0")],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ValidationArguments(**settings)
