"""How figures are taken and shown: rows of a table, each beside its target."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rankrl.plan.host_memory import host_peak

Batch = TypeVar("Batch")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """One measured figure, and the limit it has to keep, if there is one."""

    what: str
    figure: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.figure <= self.at_most) and (
            self.at_least is None or self.figure >= self.at_least
        )

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """What is written: the thing, its figure, its target, and whether that is met."""
        limits = [("at most", self.at_most), ("at least", self.at_least)]
        target = ", ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        return self.what, f"{number(self.figure)} {self.unit}", target, met


@dataclass(frozen=True)
class Table:
    """What one benchmark found out."""

    title: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        """Markdown, aligned so that a terminal can show it too."""
        lines = [("", "measured", "target", "met"), *(row.cells for row in self.rows)]
        return "\n".join([f"## {self.title}", "", markdown(lines, right={1}), ""])


def markdown(lines: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A Markdown table whose first line is the head; the columns numbered in `right` hold figures."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = [[f"{c:{'>' if i in right else '<'}{widths[i]}}" for i, c in enumerate(line)] for line in lines]
    rule = ["-" * (width - 1) + ":" if i in right else "-" * width for i, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [body[0], rule, *body[1:]])


def number(figure: float) -> str:
    """Four digits or so: 1.049, 23.4, 1,220."""
    digits = 3 if abs(figure) < 10 else 1 if abs(figure) < 100 else 0
    return f"{figure:,.{digits}f}"


def best_of(work: Callable[[Batch], Result], batches: Iterable[Batch]) -> tuple[float, Result]:
    """The shortest time, in milliseconds, that `work` takes over the batches, and its last result.

    Batches come from a generator where nothing may be remembered between them: making one is not timed.
    """
    best = float("inf")
    for batch in batches:
        start = time.perf_counter()
        result = work(batch)
        best = min(best, 1000 * (time.perf_counter() - start))
    return best, result


def in_own_process(module: str, timeout: float | None = None, **settings: Any) -> dict[str, Any]:
    """What `module.measure(**settings)` returns in a fresh process, so that `peak_memory` there is its own.

    Args:
        module: where `measure` is.
        timeout: seconds after which it is stopped.
        **settings: plain values, as Python writes them.

    Raises:
        RuntimeError: if it fails.
        subprocess.TimeoutExpired: if it takes longer.
    """
    call = f"import json, {module}; print(json.dumps({module}.measure(**{settings})))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{module}.measure({settings}) failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # libraries may have talked before


def peak_memory() -> float:
    """The most memory, in MiB, that this process has ever held."""
    return host_peak() / 2**20
