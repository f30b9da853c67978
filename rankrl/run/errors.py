"""An error that was raised to teach reaches the person as its message; every other one as the traceback it is."""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

TRACEBACK = "RANKRL_TRACEBACK"

_TEACHING = (ValueError, ImportError, OSError, RuntimeError)
_OURS = {"rankrl", "catalog", "recipes", "__main__"}
# What these refuse before training is a setting too, most of the time, and said in a sentence.
_LIBRARIES = {"trl", "transformers", "accelerate", "peft", "datasets"}


def explain_errors() -> None:
    """Print messages in the place of tracebacks where a message says it all; the exit status stays 1.

    That is where one of our functions raised it on purpose, or a library did while settings were read and the trainer
    was built. Of several processes that end of the same thing one speaks on each machine. `RANKRL_TRACEBACK=1` in the
    environment shows tracebacks again.

    Example:
        >>> def cli() -> None:
        ...     explain_errors()
        ...     main(*parser.parse_args_and_config())
    """
    sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    speaker = None if os.environ.get(TRACEBACK) else _who_refused(error, trace)
    if speaker is None:
        sys.__excepthook__(kind, error, trace)
    elif _is_first_to_say(str(error)):
        who = "" if speaker in _OURS else f" ({speaker})"
        print(f"\nerror{who}: {error}\n({TRACEBACK}=1 shows where it was raised)", file=sys.stderr, flush=True)


def _who_refused(error: BaseException, trace: TracebackType | None) -> str | None:
    """The package whose `raise` statement this comes from, if its message is all that a person needs."""
    frames = list(_frames(trace))
    if not frames or not isinstance(error, _TEACHING) or not str(error):
        return None
    frame, line = frames[-1]
    if not linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise"):
        return None  # something that failed inside, such as int("x")
    package = _module(frame).partition(".")[0]
    training = any(_module(frame) == "rankrl.run.interrupt" for frame, _ in frames)
    return package if package in (_OURS if training else _OURS | _LIBRARIES) else None


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_first_to_say(message: str) -> bool:
    """Has no other process of this launch, on this machine, said the same?

    torch's launcher gives each process a file for its errors, in a folder of the launch.
    """
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not own:
        return True
    name = f"said-{hashlib.sha256(message.encode()).hexdigest()[:16]}"
    try:
        (Path(own).parent.parent / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # a full disk
        return True
    return True
