"""How far a run of requests is: a bar on a terminal, a line every so often elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rankrl.teachers.budget import Budget


class AskProgress:
    """Shows answered requests, calls, cache hits and cost so far, from the ledger of a budget.

    Args:
        total: requests in all.
        budget: the ledger.
        description: what is being asked, for instance the teacher's name.
        console: where to write; the standard error by default.
        every: seconds between two lines where there is no terminal. A run that is shorter writes nothing.
        quiet: write nothing at all.
    """

    def __init__(
        self,
        total: int,
        budget: Budget,
        description: str,
        *,
        console: Console | None = None,
        every: float = 30.0,
        quiet: bool = False,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._budget, self._description, self._total, self._every = budget, description, total, every
        self._quiet = quiet
        self._done = 0
        self._last_line = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[spent]}"),
        )
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=self._console, disable=quiet or not self._console.is_terminal
        )
        self._task = self._bar.add_task(description, total=total, spent="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, requests: int = 1) -> None:
        """So many more requests are answered."""
        self._done += requests
        self._bar.update(self._task, advance=requests, spent=str(self._budget))
        if self._quiet or self._console.is_terminal or time.monotonic() - self._last_line < self._every:
            return
        self._last_line = time.monotonic()
        self._console.print(f"{self._description}: {self._done:,} of {self._total:,} · {self._budget}", highlight=False)
