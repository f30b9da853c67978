"""The page about the runs of `benchmarks.gpu`, made from what it writes as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.grpo_step import TARGET
from benchmarks.measure import Row, Table, markdown, number

PARTS = ("generate", "log-probabilities", "reward", "update")
HEAD = ("weights", "lists by", "memory", "trainer", "step, s", "tokens/s", *(f"{part}, s" for part in PARTS))
HEAD += ("peak, GiB", "MFU")

WHAT = """\
A step: {size} lists of {completion} tokens after prompts of {prompt} tokens, {group} lists of each prompt. Forward and
backward passes take {micro_batch} lists at a time, with gradient checkpointing and a KL reference. Random weights end
no list, so the end token is switched off and every list has its full length; one token in {line_tokens} of the made-up
vocabulary ends a line, 20 lines on average. The learning rate is 0. Medians of {steps} steps, after one
that warms up; `tokens/s` counts written tokens over the whole step.

- LoRA: rank 64 on all linear layers, above weights in bfloat16. All: weights and Adam's moments in float32, computed
  with in bfloat16. With continuous batching TRL casts the weights that learn to bfloat16, in place.
- `generate`: writing the lists. `log-probabilities`: from then to the reward, above all the pass of the reference.
  `reward`: `RankReward`. `update`: the rest; forward and backward passes, optimizer, what the trainers do themselves.
- Peak: the most that PyTorch had allocated (on a CPU: that the process held). 24 GiB: PyTorch was held to that much.
- MFU: the operations that the model needs for a step, over those that a plain product of two matrices does in that time
  on this machine, {speed} TFLOP/s. What is computed twice to save memory counts once.
"""


NO_GPU = "no GPU, all in float32, without continuous batching: this shows that the script runs, and nothing else"


def page(report: dict[str, Any]) -> str:
    """Markdown: machine, what was measured, a table for each shape, and how the two trainers compare."""
    device = " + ".join(report["machine"]["gpus"]) or NO_GPU
    versions = ", ".join(f"{name} {report['versions'][name]}" for name in ("torch", "transformers", "trl"))
    text = ["# GPU", "", "Made by", "", f"    {report['command']}", "", f"on {device}; {versions}.", ""]
    text.append(WHAT.format(**report["protocol"], speed=number(report["matmul_flops"] / 1e12)))
    for shape in dict.fromkeys(run["shape"] for run in report["runs"]):
        found = [run for run in report["runs"] if run["shape"] == shape]
        lines = [HEAD, *(cells(run, report) for run in found)]
        text += [f"## {shape}", "", markdown(lines, right=set(range(4, len(HEAD)))), "", str(compared(found))]
    return "\n".join(text)


def way(run: dict[str, Any]) -> tuple[str, str, str]:
    """How a run trained, in words: weights, who wrote the lists, memory."""
    memory = f"{run['memory']} GiB" if run["memory"] else "no limit"
    return "LoRA" if run["lora"] else "all", "continuous batching" if run["paged"] else "`generate`", memory


def cells(run: dict[str, Any], report: dict[str, Any]) -> Sequence[str]:
    """One line of the table."""
    what = (*way(run), f"`{run['trainer']}`")
    if "failed" in run:
        return (*what, run["failed"], *[""] * (len(HEAD) - len(what) - 1))
    tokens = report["protocol"]["size"] * report["protocol"]["completion"] / run["step"]
    share = run["flops"] / run["step"] / report["matmul_flops"]
    parts = [number(run[part]) for part in PARTS]
    return (*what, number(run["step"]), number(tokens), *parts, number(run["peak_memory"]), f"{share:.1%}")


def compared(found: Sequence[dict[str, Any]]) -> Table:
    """How much longer a step of `RankGRPOTrainer` takes than one of TRL's trainer, in each way of training."""
    steps = {(way(run), run["trainer"]): run["step"] for run in found if "step" in run}
    ways = dict.fromkeys(way(run) for run in found)
    both = [w for w in ways if (w, "GRPOTrainer") in steps and (w, "RankGRPOTrainer") in steps]
    ratios = [(w, steps[w, "RankGRPOTrainer"] / steps[w, "GRPOTrainer"]) for w in both]
    rows = [Row(", ".join(w), ratio, "x", at_most=TARGET) for w, ratio in ratios]
    return Table("A step of `RankGRPOTrainer` over one of `GRPOTrainer`", rows)


def line(run: dict[str, Any]) -> str:
    """What is shown while the runs go on."""
    done = run.get("failed") or f"{run['step']:.2f} s a step"
    return f"{run['shape']}, {', '.join(way(run))}, {run['trainer']}: {done}"
