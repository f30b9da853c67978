"""What stays on disk: the best, the newest and every n-th; the link to the best; how much room is needed."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback

from rankrl.run import checkpoints
from rankrl.run.checkpoints import (
    KeepCheckpoints,
    checkpoint_size,
    newest_checkpoint,
    where_to_find,
    whole_checkpoints,
)
from tests.tiny import gpt2_tokenizer, tiny_gpt2

STEPS = {"max_steps": 8, "save_strategy": "steps", "save_steps": 1, "num_train_epochs": 2}


class BestAt(TrainerCallback):
    """Names the best step as validation does, at those steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if 0 in self.steps and not state.global_step:
            state.best_global_step = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in self.steps:
            state.best_global_step = state.global_step
            control.should_save = True


Train = Callable[..., Trainer]


@pytest.fixture
def trained(make_trainer: Callable[..., Trainer]) -> Train:
    """Trains eight steps on the smallest trainer there is, with what is under test."""

    def train(
        *, best: tuple[int, ...] = (), keep_every: int | None = None, start: str = "hub/name", **args: Any
    ) -> Any:
        resume, looks = args.pop("resume", None), args.pop("validate_steps", None)
        trainer = make_trainer(callbacks=[BestAt(*best)], **{**STEPS, **args})
        KeepCheckpoints.install(trainer, start, keep_every, looks)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return train


def left(trainer: Trainer) -> list[int]:
    """The steps of all checkpoint folders, whole or not."""
    names = [path.name.removeprefix("checkpoint-") for path in Path(trainer.args.output_dir).glob("checkpoint-*")]
    return sorted(int(name) for name in names if name.isdigit())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"save_total_limit": 1}, [8]),
        ({"save_total_limit": 2}, [7, 8]),
        ({"save_total_limit": None}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"save_total_limit": 1, "best": (3,)}, [3, 8]),
        ({"save_total_limit": 1, "best": (0, 3, 5)}, [5, 8]),  # what was the best once goes
        ({"save_total_limit": 1, "best": (3,), "keep_every": 4}, [3, 4, 8]),
        ({"save_total_limit": 1, "keep_every": 3}, [3, 6, 8]),
        ({"save_total_limit": 1, "save_steps": 2, "best": (3,), "keep_every": 4}, [3, 4, 8]),  # saved out of turn
        ({"save_strategy": "no", "save_total_limit": 1, "best": (3,)}, [3]),
    ],
)
def test_best_newest_and_every_nth_stay(settings: dict[str, Any], expected: list[int], trained: Train) -> None:
    assert left(trained(**settings)) == expected


def test_the_link_leads_to_the_best_checkpoint(trained: Train) -> None:
    trainer = trained(best=(3, 6), save_total_limit=1)
    link = Path(trainer.args.output_dir) / "best"
    assert os.readlink(link) == "checkpoint-6", "relative, so that the run can be moved"
    assert (link / "model.safetensors").is_file()
    assert where_to_find(trainer.args, trainer.state, "x").endswith(f"the best on validation (step 6) in {link}")


def test_a_start_that_nothing_beats_is_the_best(trained: Train, tmp_path: Path) -> None:
    start = tmp_path / "sft"
    start.mkdir()
    trainer = trained(best=(0,), save_total_limit=1, start=str(start))
    link = Path(trainer.args.output_dir) / "best"
    assert link.resolve() == start
    assert f"none was surely better on validation than the start ({start}, {link})" in where_to_find(
        trainer.args, trainer.state, str(start)
    )


def test_a_start_on_the_hub_leaves_no_link_and_no_old_one(make_trainer: Callable[..., Trainer], trained: Train) -> None:
    trainer = trained(best=(3,), save_total_limit=1)
    assert (link := Path(trainer.args.output_dir) / "best").is_symlink()
    trainer = trained(best=(0,), save_total_limit=1)
    assert not link.is_symlink()
    assert "than the start (hub/name)" in where_to_find(trainer.args, trainer.state, "hub/name")


def test_resuming_repairs_the_link_and_keeps_the_best(trained: Train) -> None:
    trainer = trained(best=(3,), save_total_limit=4)
    folder = Path(trainer.args.output_dir)
    (folder / "best").unlink()
    for step in (7, 8):
        shutil.rmtree(folder / f"checkpoint-{step}")
    trainer = trained(save_total_limit=1, resume=str(folder / "checkpoint-6"))
    assert left(trainer) == [3, 8]
    assert os.readlink(folder / "best") == "checkpoint-3"


def test_an_unfinished_checkpoint_and_other_folders_are_left_alone(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer(**STEPS, save_total_limit=1)
    unfinished = Path(trainer.args.output_dir) / "checkpoint-2000"
    unfinished.mkdir(parents=True)
    persons = unfinished.with_name("checkpoint-old")  # no step, and so no checkpoint of the run
    persons.mkdir()
    (persons / "trainer_state.json").write_text("{}", encoding="utf-8")
    KeepCheckpoints.install(trainer, "hub/name")
    trainer.train()
    assert left(trainer) == [8, 2000]
    assert persons.is_dir()
    assert whole_checkpoints(trainer.args.output_dir) == [8]
    assert newest_checkpoint(trainer.args.output_dir) == unfinished.with_name("checkpoint-8")


def test_newest_means_written_last(make_trainer: Callable[..., Trainer]) -> None:
    """Checkpoints of an earlier, longer run in the same place are older than those of this one."""
    trainer = make_trainer(**{**STEPS, "max_steps": 2}, save_total_limit=2)
    old = Path(trainer.args.output_dir) / "checkpoint-90"
    old.mkdir(parents=True)
    (old / "trainer_state.json").write_text("{}", encoding="utf-8")
    os.utime(old / "trainer_state.json", (1, 1))
    KeepCheckpoints.install(trainer, "hub/name")
    trainer.train()
    assert left(trainer) == [1, 2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep_every": 4}, "without save_total_limit every checkpoint stays"),
        ({"keep_every": 3, "save_steps": 2, "save_total_limit": 1}, "keep_every is 3, .* every 2 steps"),
    ],
)
def test_an_nth_that_cannot_be_kept_is_refused(settings: dict[str, Any], said: str, trained: Train) -> None:
    with pytest.raises(ValueError, match=said):
        trained(**settings)


def test_what_stands_in_the_place_of_the_link_is_not_overwritten(trained: Train, tmp_path: Path) -> None:
    (tmp_path / "run" / "best").mkdir(parents=True)
    with pytest.raises(ValueError, match="is in the way of the link"):
        trained(save_total_limit=1)


# ---- Room ------------------------------------------------------------------------------------------------------------


def test_the_size_of_a_checkpoint_is_counted_from_its_numbers() -> None:
    tokenizer = gpt2_tokenizer()
    model = tiny_gpt2(tokenizer)
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert checkpoint_size(model) == 3 * weights  # Adam keeps two numbers for each
    assert checkpoint_size(model, optimizer=False) == weights
    assert checkpoint_size(model, reference=True) == 4 * weights  # one that moves is kept, too
    frozen = model.transformer.wpe.weight.requires_grad_(False)
    assert checkpoint_size(model) == 3 * weights - 2 * 4 * frozen.numel(), "saved, and without moments"
    frozen.requires_grad_(True)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    adapter = 4 * sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert checkpoint_size(adapted) == 3 * adapter < weights


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"save_total_limit": 2}, 3),  # two, and the next one while it is written
        ({"save_total_limit": 1, "keep_every": 4}, 4),  # 4 and 8 too
        ({"save_total_limit": 1, "validate_steps": 2}, 3),  # and the best
        ({"save_total_limit": None, "save_steps": 4, "validate_steps": 3}, 4),  # 4 and 8; 3 and 6, should they be best
        ({"save_total_limit": None, "save_strategy": "no", "validate_steps": 3}, 3),  # 3, 6 and the last
        ({"save_total_limit": 1, "save_strategy": "no", "validate_steps": 3}, 3),  # the newest, the next, an older best
        ({"save_total_limit": 5, "save_steps": 4, "validate_steps": 1}, 7),  # new bests are among the newest, too
        ({"save_total_limit": 2, "save_steps": 8, "validate_steps": 4}, 2),
        ({"save_total_limit": None}, 8),
        ({"save_total_limit": 20}, 8),
        ({"save_total_limit": None, "save_strategy": "epoch"}, 2),
    ],
)
def test_the_room_is_told_at_the_start(
    settings: dict[str, Any], most: int, trained: Train, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="rankrl.run.checkpoints"):
        trained(**settings)
    (message,) = (record.message for record in caplog.records if record.name == "rankrl.run.checkpoints")
    assert f"at most {most} at a time" in message
    assert "free in" in message


def test_a_disk_that_is_too_small_is_a_warning(
    trained: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    trained(save_total_limit=1)  # 2 weights and 4 numbers of Adam, 4 bytes each, twice
    (record,) = (record for record in caplog.records if record.name == "rankrl.run.checkpoints")
    assert record.levelno == logging.WARNING
    assert "Lower save_total_limit" in record.message


def test_half_a_state_is_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step, text in ((1, "{}"), (2, '{"best_global_step": null, "log_hi'), (3, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text, encoding="utf-8")
    assert whole_checkpoints(tmp_path) == [1]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    assert "checkpoint-2 was not written to its end" in caplog.text
    assert newest_checkpoint(tmp_path / "checkpoint-1") is None
