"""Measures what is meant to be fast and prints each figure beside its target.

python -m benchmarks                          all but those that take minutes
python -m benchmarks segments reward          some
python -m benchmarks remap adjust retrieve plan_memory    those that take minutes, on two cores
python -m benchmarks --markdown speed.md      and writes the tables to a file
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import shlex
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
import transformers

from benchmarks.measure import Table
from rankrl.run.once import KEEP_MEMORY

BENCHMARKS = ("segments", "reward", "lookup", "grpo_step")
LONG = ("remap", "adjust", "retrieve", "plan_memory")  # run only when named


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmarks that the command line names."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)} (default: these); {', '.join(LONG)}"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to this file too")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {*BENCHMARKS, *LONG}:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS + LONG)}")
    tables = []
    for name in options.names or BENCHMARKS:
        for table in import_module(f"benchmarks.{name}").run():
            print(table, flush=True)
            tables.append(table)
    print(summary(tables))
    if options.markdown:
        command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
        options.markdown.write_text(page(tables, command), encoding="utf-8")


def only_tables() -> None:
    """Keeps what libraries say of themselves out of the tables."""
    warnings.simplefilter("ignore")
    transformers.logging.disable_progress_bar()
    for library in ("catalog", "rankrl", "transformers", "trl"):
        logging.getLogger(library).setLevel(logging.ERROR)


def summary(tables: Iterable[Table]) -> str:
    """How many targets are met."""
    verdicts = [row.met for table in tables for row in table.rows if row.met is not None]
    return f"{verdicts.count(True)} of {len(verdicts)} targets are met."


def page(tables: Sequence[Table], command: str) -> str:
    """The Markdown page with the command, the machine and the tables."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = f"{os.cpu_count()} cores (torch on {torch.get_num_threads()})"
    machine = f"{platform.system()} {platform.machine()}, {cores}, {device}"
    if kept := " ".join(f"{name}={value}" for name in KEEP_MEMORY if (value := os.environ.get(name))):
        machine += f", {kept}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "rapidfuzz"))
    head = f"# Speed\n\nMade by\n\n    {command}\n\n"
    head += f"on {machine}; Python {platform.python_version()}, {versions}. {summary(tables)}\n\n"
    return head + "\n".join(map(str, tables))


if __name__ == "__main__":
    only_tables()  # of this process alone: a test that calls main() keeps its warnings and logs
    main()
