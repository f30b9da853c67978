"""A plan as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rankrl.plan.arithmetic import Shape
from rankrl.plan.checks import Finding
from rankrl.plan.estimate import Device, Part, Setup, StepTime, peak, trained_weights

WHEN = {"always": "always", "update": "while it trains", "rollout": "while it writes lists"}


def memory_table(parts: list[Part], device: Device) -> Table:
    """Every part of a GPU's memory, and whether the worst moment fits."""
    needed = peak(parts)
    verdict = "fits" if needed <= device.memory else "DOES NOT FIT"
    table = Table("memory of each GPU", "GB", "held", show_footer=True)
    table.columns[0].footer, table.columns[1].footer = "at the worst moment", f"{needed / 1e9:.1f}"
    table.columns[2].footer = f"{verdict} in {device.memory / 1e9:.0f} GB"
    table.columns[1].justify = "right"
    for part in parts:
        table.add_row(part.name, f"{part.bytes / 1e9:.2f}", WHEN[part.when])
    return table


def run_table(shape: Shape, setup: Setup, usual: Setup, time: StepTime, steps: int | None) -> Table:
    """Tokens and time of the run; of one step alone where nobody says how many there are (`None`).

    Args:
        shape: of the model.
        setup: of the run, with the most tokens that a prompt and a list may have.
        usual: the same with the tokens that they usually have.
        time: of a step of the usual length.
        steps: of the run.
    """
    table = Table("the run", "", show_header=False)
    table.add_row("model", f"{shape.name}: {shape.parameters:,} weights, {trained_weights(shape, setup):,} trained")
    table.add_row("GPUs", f"{setup.processes}, {setup.strategy}")
    table.add_row("a step", step_in_words(setup))
    tokens = usual.lists_a_step * usual.length
    table.add_row("usual tokens", f"{usual.prompt:,} + {usual.completion:,}; {tokens:,} a step")
    table.add_row("seconds a step", seconds_in_words(time))
    if steps is None:
        table.add_row("steps", "unknown: say how many dialogues there are (--num_dialogues)")
        return table
    table.add_row("steps", f"{steps:,}")
    table.add_row("tokens", f"{steps * tokens / 1e9:.2f} billion")
    table.add_row("hours", f"{steps * time.total / 3600:.1f}, on paper")
    return table


def step_in_words(setup: Setup) -> str:
    """What an optimizer step works through."""
    size = f"{setup.processes} x {setup.batch} x {setup.accumulation} = {setup.lists_a_step}"
    if setup.stage == "sft":
        return f"{size} dialogues of {setup.length:,} tokens at most"
    lists = f"{size} lists, {setup.generations} for each of {setup.lists_a_step // setup.generations}"
    return f"{lists}; {setup.prompt:,} + {setup.completion:,} tokens at most"


def seconds_in_words(time: StepTime) -> str:
    """The parts of a step that take any time."""
    parts = {"rollout": time.rollout, "scoring": time.scoring, "update": time.update, "sync": time.sync}
    return f"{time.total:.1f} ({', '.join(f'{name} {seconds:.1f}' for name, seconds in parts.items() if seconds)})"


def show(console: Console, tables: list[Table], found: list[Finding]) -> None:
    """Print tables and findings."""
    for table in tables:
        console.print(table)
    for finding in found:
        colour = "bold red" if finding.level == "stop" else "yellow"
        console.print(f"[{colour}]{finding.level}[/]: {escape(finding.text)}", highlight=False)
