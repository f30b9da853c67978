"""Which checkpoint a run goes on from, and what is refused because it would mix two runs."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rankrl.run.manifest import file_hash
from rankrl.run.resume import checkpoint_to_resume


@dataclass
class Settings:
    """Of a trainer, as far as it matters here."""

    output_dir: str
    resume_from_checkpoint: str | None
    learning_rate: float = 1e-3


def resume(wanted: str | None, directory: Path, model: str = "m", dialogues: str = "d.jsonl") -> str | None:
    return checkpoint_to_resume(Settings(str(directory), wanted), model, dialogues)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """The folder of a run that started from `MODEL` on `train.jsonl`, stopped after two steps."""
    (tmp_path / "train.jsonl").write_text("{}")
    folder = tmp_path / "run"
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "checkpoint-2" / "trainer_state.json").write_text("{}")
    manifest: dict[str, Any] = {
        "data": {"train.jsonl": file_hash(str(tmp_path / "train.jsonl"))},
        "config": {
            "ModelConfig": {"model_name_or_path": str(tmp_path / "model")},
            "Settings": {"learning_rate": 1e-3},
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_latest_is_the_newest_checkpoint_or_a_new_start(tmp_path: Path) -> None:
    assert resume("latest", tmp_path / "nowhere") is None
    assert resume("latest", tmp_path) is None
    for step in (2, 10, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}", encoding="utf-8")
    (tmp_path / "checkpoint-11").mkdir()  # killed while it was written
    assert resume("latest", tmp_path) == str(tmp_path / "checkpoint-10")
    assert resume(str(tmp_path / "checkpoint-2"), tmp_path / "elsewhere") == str(tmp_path / "checkpoint-2")
    for missing in ("checkpoint-11", "checkpoint-3"):
        with pytest.raises(
            FileNotFoundError, match=rf"{missing}, which is no checkpoint.* is .*/checkpoint-10\. `latest`"
        ):
            resume(str(tmp_path / missing), tmp_path)


@pytest.mark.parametrize("left", ["checkpoint-3", "trainer_state.json"])
def test_a_new_run_does_not_begin_among_the_files_of_another(left: str, tmp_path: Path) -> None:
    """Its interruption would advise `latest`, and that be the other run's."""
    assert resume(None, tmp_path) is None
    if left.startswith("checkpoint"):
        (tmp_path / left).mkdir()
    else:
        (tmp_path / left).write_text("{}")
    with pytest.raises(FileExistsError, match=r"holds a run already.*resume_from_checkpoint: latest"):
        resume(None, tmp_path)


def test_a_file_is_no_folder_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(NotADirectoryError, match="output_dir is .*run, a file; expected a folder"):
        resume("latest", tmp_path / "run")


def test_a_checkpoint_belongs_to_the_model_that_it_started_from(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(interrupted.parent)
    assert resume("latest", interrupted, "model") is not None, "the same place, told from here"
    with pytest.raises(ValueError, match=r"started from .*model, and model_name_or_path is other"):
        resume("latest", interrupted, "other")


def test_other_dialogues_are_warned_of(interrupted: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, train = str(interrupted.parent / "model"), interrupted.parent / "train.jsonl"
    with caplog.at_level(logging.WARNING, logger="rankrl"):
        resume("latest", interrupted, model, str(train))
        assert not caplog.records
        train.write_text("{ }")
        resume("latest", interrupted, model, str(train))
    assert "are other dialogues than" in caplog.text


def test_the_learning_rate_of_the_checkpoint_goes_on_and_is_what_is_written_down(
    interrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(str(interrupted), "latest", learning_rate=5e-2)
    with caplog.at_level(logging.WARNING, logger="rankrl"):
        checkpoint_to_resume(settings, str(interrupted.parent / "model"), str(interrupted.parent / "train.jsonl"))
    assert "learning_rate is 0.05, but" in caplog.text
    assert settings.learning_rate == 1e-3
