"""Commands are run once, and what another command made is never taken for what this one makes."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rankrl.run.once import is_made, run_once


def writes(text: str, file: Path) -> list[str]:
    return [sys.executable, "-c", f"open({str(file)!r}, 'a').write({text!r})"]


def test_what_has_finished_is_not_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        run_once(tmp_path, "run", writes("once", tmp_path / "out"))
    assert (tmp_path / "out").read_text(encoding="utf-8") == "once"
    with pytest.raises(RuntimeError, match="run was made by other settings"):
        run_once(tmp_path, "run", writes("twice", tmp_path / "out"))


def test_what_another_is_running_is_waited_for(tmp_path: Path) -> None:
    """Two at the same moment, each in a thread of its own: the command takes a second and is run by one of them."""
    command = [sys.executable, "-c", f"import time; time.sleep(1); open({str(tmp_path / 'out')!r}, 'a').write('once')"]
    with ThreadPoolExecutor(2) as pool:
        for run in [pool.submit(run_once, tmp_path, "run", command) for _ in range(2)]:
            run.result()
    assert (tmp_path / "out").read_text(encoding="utf-8") == "once"


def test_a_run_that_fails_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped with 2: see .*broken.log"):
        run_once(tmp_path, "broken", [sys.executable, "-c", "raise SystemExit(2)"])
    assert not is_made(tmp_path, "broken")


def test_what_was_begun_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped with 2"):
        run_once(tmp_path, "run", [sys.executable, "-c", "raise SystemExit(2)"])
    with pytest.raises(RuntimeError, match="was made by other settings"):
        run_once(tmp_path, "run", writes("other", tmp_path / "out"))
    (tmp_path / "started" / "run").unlink()
    run_once(tmp_path, "run", writes("other", tmp_path / "out"))


def test_a_config_that_was_edited_is_noticed(tmp_path: Path) -> None:
    base, config = tmp_path / "base.yaml", tmp_path / "config.yaml"
    base.write_text("beta: 0.1\n", encoding="utf-8")
    config.write_text("base: base.yaml\nlearning_rate: 0.5\n", encoding="utf-8")
    command = [sys.executable, "-c", "pass", "--config", str(config)]
    run_once(tmp_path, "run", command)
    config.write_text("# the same\nbase: base.yaml\nlearning_rate: 0.5\n", encoding="utf-8")
    run_once(tmp_path, "run", command)
    base.write_text("beta: 0.2\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="was made by other settings"):
        run_once(tmp_path, "run", command)


def test_what_was_made_from_something_older_is_made_anew(tmp_path: Path) -> None:
    mark, command = tmp_path / "finished" / "model", writes("lists", tmp_path / "out")
    run_once(tmp_path, "model", [sys.executable, "-c", "pass"])
    for _ in range(2):
        run_once(tmp_path, "lists", command, made_from=mark)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "lists"
    later = mark.stat().st_mtime_ns + 10**12
    os.utime(mark, ns=(later, later))
    assert not is_made(tmp_path, "lists", made_from=mark)
    run_once(tmp_path, "lists", command, made_from=mark)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "listslists"
    (tmp_path / "lists").mkdir()  # a run, which would go on from weights that came of the older model
    with pytest.raises(RuntimeError, match="lists was made from an earlier .*model. To go on, delete"):
        run_once(tmp_path, "lists", command, made_from=mark)
