"""Commands that are run once: what has finished is not run again, and what was made by other settings is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from rankrl.run.parser import load_yaml

# glibc gives large blocks back to the system at once; a step on the CPU then spends half of its time on page faults.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "2000000000"}


def run_once(root: Path, name: str, command: Sequence[str], *, made_from: Path | None = None) -> None:
    """Run a command, on one thread unless told otherwise; its output goes to `ROOT/NAME.log`.

    A mark in `ROOT/started` says how it was begun, one in `ROOT/finished` that it has ended. If another process is
    running it, this one waits for that, and uses its result.

    Args:
        root: where it writes: into a folder or to files of that name.
        name: what it makes.
        command: the program and its arguments.
        made_from: the mark of what it reads. If that was made anew since, this is, too.

    Raises:
        RuntimeError: if the command fails, naming the log; or for what `require_same` refuses.
    """
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        require_same(root, name, command, made_from=made_from)
        if not is_made(root, name, made_from=made_from):
            _run(root, name, command)


def _run(root: Path, name: str, command: Sequence[str]) -> None:
    started, finished = (root / state / name for state in ("started", "finished"))
    for mark in (started, finished):
        mark.parent.mkdir(parents=True, exist_ok=True)
    finished.unlink(missing_ok=True)
    if not started.is_file():
        started.write_text(_line(command), encoding="utf-8")
    print(f"{root.name}: {name}", flush=True)
    environment = {**KEEP_MEMORY, "OMP_NUM_THREADS": "1", **os.environ}
    with (root / f"{name}.log").open("w", encoding="utf-8") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment).returncode
    if status:
        raise RuntimeError(f"{' '.join(command)} stopped with {status}: see {root / f'{name}.log'}")
    finished.write_text(_line(command), encoding="utf-8")


def is_made(root: Path, name: str, *, made_from: Path | None = None) -> bool:
    """Has it finished, and not before what it reads?"""
    finished = root / "finished" / name
    return finished.is_file() and not _is_older(finished, made_from)


def require_same(root: Path, name: str, command: Sequence[str], *, made_from: Path | None = None) -> None:
    """Refuse to take what another command has begun or finished for what this one makes.

    Raises:
        RuntimeError: if it was made by other settings, by a config that was edited since, or from something that was
            made anew since and cannot simply be replaced: a run would go on from weights that came of something else.
    """
    marks = [mark for state in ("finished", "started") if (mark := root / state / name).is_file()]
    for mark in marks:
        if (before := mark.read_text(encoding="utf-8")) != _line(command):
            raise RuntimeError(
                f"{root / name} was made by other settings:\n  then: {before}\n  now:  {_line(command)}\n"
                f"Name the arm or the output folder differently, or {_anew(root, name)}."
            )
    if marks and (root / name).is_dir() and _is_older(marks[-1], made_from):
        raise RuntimeError(f"{root / name} was made from an earlier {made_from}. To go on, {_anew(root, name)}.")


def _line(command: Sequence[str]) -> str:
    """The command, whatever Python runs it; with what its config says by now, and the files that this builds on."""
    line = shlex.join(command[1:])
    if "--config" not in command:
        return line
    values = load_yaml(command[list(command).index("--config") + 1])
    text = json.dumps(values, sort_keys=True, default=str)
    return f"{line}  # config {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _is_older(mark: Path, source: Path | None) -> bool:
    return source is not None and source.is_file() and mark.stat().st_mtime_ns < source.stat().st_mtime_ns


def _anew(root: Path, name: str) -> str:
    return f"delete {root / name}, {root / 'started' / name} and {root / 'finished' / name} to make it anew"
