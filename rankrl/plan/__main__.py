"""Will it fit, how long will it take, and what is known to go wrong? Asked of the settings alone, before they are run.

    python -m rankrl.plan --config recipes/configs/reddit_v2_llama3.2_3b/8x80gb/rank_grpo.yaml \\
        --accelerate accelerate_configs/zero2.yaml --gpus 8 --gpu h100 --num_dialogues 383013 \\
        --model_name_or_path meta-llama/Llama-3.2-3B-Instruct

All further flags are those of the recipe, and win over the file. Nothing is loaded: a model's config is enough, and
those of the paper's models are known without a network. The exit status is 1 where the run would not fit or fail.
`--probe 3` runs three steps of the recipe with these settings and this data on this machine, by `accelerate launch`
where several processes are planned, and says how long the run would take; the folder it writes to is deleted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console
from rich.markup import escape

from rankrl.data.prompts import context_length
from rankrl.plan.checks import findings
from rankrl.plan.estimate import DEVICES, Setup, count_steps, memory, step_time
from rankrl.plan.probe import RunLength, launcher, require_planned, rollout_cycle, run_probe, steps_to_run
from rankrl.plan.report import memory_table, run_table, show
from rankrl.plan.scaling import scaling_table
from rankrl.plan.settings import Cluster, make_setup, parse, read_cluster, stage_of, usual_lengths
from rankrl.plan.shapes import load_config, shape_of
from rankrl.plan.stand_in import stand_in


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """How argparse reads a number that says how much there is of something."""

    def number(text: str) -> float:
        if not (value := kind(text)) > 0:
            raise argparse.ArgumentTypeError(f"{text} is given, and a number above 0 is expected")
        return value

    return number


_PARSER = argparse.ArgumentParser("rankrl.plan", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
_PARSER.add_argument("--config", required=True, help="YAML of the recipe sft or rank_grpo")
_PARSER.add_argument("--stage", choices=["sft", "rank_grpo"], help="whose YAML it is; by default by its name")
_PARSER.add_argument("--accelerate", metavar="FILE", help="accelerate config of the launch")
_PARSER.add_argument(
    "--gpus", type=positive(int), help="GPUs of each machine; by default those of the accelerate config"
)
_PARSER.add_argument("--nodes", type=positive(int), help="machines")
_PARSER.add_argument("--gpu", choices=sorted(DEVICES), default="h100", help="which GPU (default h100)")
_PARSER.add_argument("--gpu_memory", type=positive(float), metavar="GB", help="and its memory, where it differs")
_PARSER.add_argument("--num_dialogues", type=positive(int), help="training dialogues, for the length of the run")
_PARSER.add_argument(
    "--mean_prompt", type=positive(int), metavar="TOKENS", help="of a prompt, for time; by default the longest"
)
_PARSER.add_argument(
    "--mean_list", type=positive(int), metavar="TOKENS", help="and of a list; by default 16 for each item"
)
_PARSER.add_argument(
    "--scale", type=positive(int), nargs="+", metavar="GPUS", help="the same steps on so many GPUs each"
)
_PARSER.add_argument("--probe", type=positive(int), metavar="STEPS", help="run so many steps of the recipe here")


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan a run, print it, and return the exit status."""
    options, flags = _PARSER.parse_known_args(arguments)
    console = Console(width=110)
    try:
        return plan(options, flags, console)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        console.print(f"[bold red]stop[/]: {escape(str(error))}", highlight=False)
        return 1


def _limits(settings: argparse.Namespace) -> tuple[float, int, int | None]:
    """Epochs, steps and lists after which a run ends; SFT writes none."""
    return settings.num_train_epochs, settings.max_steps, getattr(settings, "max_lists", None)


def plan(options: argparse.Namespace, flags: list[str], console: Console) -> int:
    """Print the plan that the command line asks for; 1 if something in it would stop the run."""
    stage = options.stage or stage_of(options.config)
    cluster = read_cluster(options.accelerate, options.gpus, options.nodes)
    settings = parse(stage, options.config, flags, cluster)
    config = load_config(settings.model_name_or_path)
    shape = shape_of(config, settings.model_name_or_path, settings.lora_target_modules)
    setup = make_setup(stage, settings, cluster, context_length(config))
    device = DEVICES[options.gpu]
    if options.gpu_memory:
        device = replace(device, memory=options.gpu_memory * 1e9)
    parts = memory(shape, setup, device)
    steps = count_steps(setup, options.num_dialogues, *_limits(settings))
    found = findings(shape, setup, device, engine_length=getattr(settings, "vllm_max_model_length", None))
    usual = usual_lengths(setup, settings.num_ranks, options.mean_prompt, options.mean_list)
    tables = [memory_table(parts, device), run_table(shape, setup, usual, step_time(shape, usual, device), steps)]
    if options.scale:
        tables.append(scaling_table(shape, setup, usual, device, steps, options.scale))
    show(console, tables, found)
    if options.probe:
        console.print(measured(options, flags, settings, setup, cluster), highlight=False)
    return int(any(finding.level == "stop" for finding in found))


def measured(
    options: argparse.Namespace, flags: list[str], settings: argparse.Namespace, setup: Setup, cluster: Cluster
) -> str:
    """Probe what is planned, and say in words what it took and what the whole run would take."""
    cycle = rollout_cycle(setup)
    launch = launcher(options.accelerate, cluster, use_cpu=settings.use_cpu)
    with stand_in(settings) as model:
        probe = run_probe(setup.stage, options.config, [*flags, *model], steps_to_run(options.probe, cycle), launch)
    require_planned(probe, cluster)
    dialogues = options.num_dialogues or probe.dialogues
    steps = count_steps(setup, dialogues, *_limits(settings))
    an_epoch = count_steps(setup, dialogues, 1.0)
    assert steps is not None  # the dialogues are known
    assert an_epoch is not None
    return probe.in_words(RunLength.of(settings, steps, an_epoch), cycle)


if __name__ == "__main__":
    warnings.simplefilter("ignore", FutureWarning)  # what transformers will rename is nothing to plan by
    sys.exit(main())
