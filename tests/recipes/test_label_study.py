"""The study of augmented labels, shrunk to seconds: all of its arms train, and its tables and pictures are written."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest

from rankrl.data import load_dialogues
from recipes import label_study, worlds
from tests.recipes.runs import run_command

SHORT = {
    "demonstrations": ("--num_rated", "12", "--num_orders", "1"),
    "sft": ("--max_steps", "2", "--per_device_train_batch_size", "4", "--logging_steps", "1"),
    "rank_grpo": ("--per_device_train_batch_size", "4", "--num_generations", "2", "--logging_steps", "1"),
}
ARMS = [label_study.BASELINE, "two-stage"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a finished study of one seed, and the stages that ran, in their order."""
    folder, ran = tmp_path_factory.mktemp("study"), []

    def run_here(root: Path, name: str, command: Sequence[str]) -> None:
        mark = root / "finished" / name
        if mark.is_file():
            return
        ran.append(name)
        run_command(command, SHORT)
        mark.parent.mkdir(exist_ok=True)
        mark.touch()

    args = Namespace(train=40, test=30, labelled=20, logged=1, steps=3, arms=ARMS)
    with pytest.MonkeyPatch.context() as patch:
        for module in (label_study, worlds):
            patch.setattr(module, "run_once", run_here)
        for _ in range(2):  # the second time nothing is left to do
            label_study.run_seed(folder / "seed0", 0, args)
    return folder, ran


def test_every_stage_runs_once(study: tuple[Path, list[str]]) -> None:
    assert study[1] == [
        *("demonstrations", "sft", "labels", "labels_wrong"),
        *("true", "true.lists", "two_stage_first", "two_stage", "two_stage.lists", "sft.lists"),
    ]


def test_the_log_keeps_one_true_label(study: tuple[Path, list[str]]) -> None:
    logged = load_dialogues(study[0] / "seed0" / "data" / "logged_1_of_20.jsonl")
    full = load_dialogues(study[0] / "seed0" / "data" / "train.jsonl", limit=20)
    assert [dialogue.ground_truth for dialogue in logged] == [dialogue.ground_truth[:1] for dialogue in full]


def test_a_world_of_another_size_is_not_taken_for_this_one(study: tuple[Path, list[str]]) -> None:
    with pytest.raises(RuntimeError, match="holds 40 dialogues to train on and 30 to test on, not 41 and 30"):
        label_study.require_size(study[0] / "seed0" / "data", 41, 30)


def test_tables_and_pictures(study: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    label_study.report(Namespace(output=study[0], seeds=[0], arms=ARMS))
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == [
        *("labels", "---", "labels", "labels_wrong"),
        *("arm", "---", *ARMS),
        *(f"against {label_study.BASELINE}", "---", "SFT", *ARMS),
        *("against SFT", "---", "SFT", *ARMS),
    ]
    assert "<br>" in rows[-1], "the difference to the baseline stands beside the mean"
    assert (study[0] / "ranks_at_which_lists_differ_in_what_they_earn.png").is_file()
    assert (study[0] / "final_scores.png").is_file()


def test_labels_are_right_by_the_hidden_tastes(study: tuple[Path, list[str]]) -> None:
    right, wrong = (
        dict(zip(("number", "precision", "recall", "recovered", "trust"), quality, strict=True))
        for quality in (label_study.label_quality(study[0] / "seed0", 0, name) for name in ("labels", "labels_wrong"))
    )
    assert right["precision"] > 0.9
    assert wrong["precision"] == pytest.approx(right["precision"] / 2, abs=0.2)
    assert wrong["trust"] < right["trust"]
