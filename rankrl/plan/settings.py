"""What is planned: a recipe's YAML and flags, an accelerate config and a cluster, as one `Setup`."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from rankrl.grpo import RankGRPOConfig
from rankrl.plan.arithmetic import Strategy
from rankrl.plan.checks import require_whole_groups
from rankrl.plan.estimate import Setup
from rankrl.run.stages import Stage, stage_parser

LINE_TOKENS = 16  # of a title with its year; the recipe itself counts those of the catalogue
_NEEDED = {"catalog": "CATALOG", "dialogues": "DIALOGUES", "output_dir": "runs/planned"}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Cluster:
    """Where a run is to take place.

    Args:
        processes: one for each GPU, over all machines.
        strategy: how they share the model.
        offload: is the optimizer in the host's memory?
        mixed: what the accelerate config computes in: `no`, `fp16`, `bf16`, or `None`, left to the recipe.
        nodes: machines.
    """

    processes: int = 1
    strategy: Strategy = "single"
    offload: bool = False
    mixed: str | None = None
    nodes: int = 1


def read_cluster(path: str | None, gpus: int | None = None, nodes: int | None = None) -> Cluster:
    """An accelerate config, with the number of GPUs where it leaves that to the command line.

    Args:
        path: of the file; without one, DDP where there are several GPUs.
        gpus: of each machine.
        nodes: machines.

    Raises:
        ValueError: for an engine that is not known here, an unknown number of GPUs, or several for one process.
    """
    config = load_config_from_file(path) if path else ClusterConfig("LOCAL_MACHINE", "NO", None, False, False)  # type: ignore[arg-type]
    nodes = nodes or config.num_machines
    if gpus is None and config.num_processes < 1 and path:
        raise ValueError(f"{path} leaves the number of GPUs to the command line: say --gpus.")
    each = gpus or max(config.num_processes // config.num_machines, 1)
    kind = str(getattr(config.distributed_type, "value", config.distributed_type))
    zero = int(config.deepspeed_config.get("zero_stage", 0))
    version = int(config.fsdp_config.get("fsdp_version", 1))
    strategy = strategy_of(kind, zero, version)
    if strategy is None:
        raise ValueError(
            f"{path} starts {kind} (zero_stage {zero}, fsdp_version {version}); a plan knows one process, DDP, ZeRO-2, "
            "ZeRO-3 and FSDP2: take one of accelerate_configs/."
        )
    if strategy == "single" and each * nodes > 1:
        if path:
            raise ValueError(f"{path} starts one process, but {each * nodes} GPUs are planned: take multi_gpu.yaml.")
        strategy = "ddp"
    offload = config.deepspeed_config.get("offload_optimizer_device", "none") not in ("none", None)
    return Cluster(each * nodes, strategy, offload, config.mixed_precision, nodes)


def strategy_of(kind: str, zero_stage: int, fsdp_version: int) -> Strategy | None:
    """How processes share the model, by what accelerate calls it; `None` for an engine that is not known here."""
    if kind == "DEEPSPEED":
        return {2: "zero2", 3: "zero3"}.get(zero_stage)  # type: ignore[return-value]
    if kind == "FSDP":
        return "fsdp2" if fsdp_version == 2 else None
    return {"NO": "single", "MULTI_GPU": "ddp", "MULTI_CPU": "ddp"}.get(kind)  # type: ignore[return-value]


def stage_of(path: str) -> Stage:
    """The recipe that a file is for, by its name: `rank_grpo` for `rank_grpo.yaml` and `rank_grpo_stage_one.yaml`."""
    for stage in get_args(Stage):
        if Path(path).stem.startswith(stage):
            return stage
    raise ValueError(f"cannot tell from its name what {path} trains; say --stage sft or --stage rank_grpo.")


def parse(stage: Stage, config: str, flags: Sequence[str], cluster: Cluster) -> Namespace:
    """All settings of a recipe, checked as the recipe would check them.

    The recipe's own checks see one process that does the work of all: they read the number of processes from the
    launcher, and refuse bf16 where there is no GPU.

    Args:
        stage: whose arguments they are.
        config: the YAML file.
        flags: further flags of the recipe, which win.
        cluster: how many processes there are.

    Returns:
        Every setting by its name; in `checked` the recipe's own objects.

    Raises:
        ValueError: for a setting that the recipe would refuse.
    """
    parser = stage_parser(stage)
    parser.take_defaults(config)
    for action in parser._actions:
        if action.required and action.dest in _NEEDED:
            action.required, action.default = False, _NEEDED[action.dest]
    settings = parser.parse_args(list(flags))
    batch = int(settings.per_device_train_batch_size)
    if stage == "rank_grpo":
        require_whole_groups(settings, cluster.processes)
    of_all = ["--per_device_train_batch_size", str(batch * cluster.processes), "--use_cpu", "true"]
    before = os.environ.pop("WORLD_SIZE", None)
    try:
        settings.checked = parser.parse_args_into_dataclasses([*flags, *of_all], look_for_args_file=False)
    finally:
        if before is not None:
            os.environ["WORLD_SIZE"] = before
    return settings


def make_setup(stage: Stage, settings: Namespace, cluster: Cluster, context: int) -> Setup:
    """The part of a recipe's settings that memory, work and time depend on.

    Args:
        stage: of the run.
        settings: from `parse`.
        cluster: where it takes place.
        context: the longest input of the model, in tokens.

    Raises:
        ValueError: if the list leaves no room for a dialogue.
    """
    training: Any = settings.checked[1]
    completion = _longest_list(settings, context)
    prompt = min(settings.max_prompt_length or context, context - completion)
    half = bool(training.bf16 or training.fp16 or cluster.mixed in ("bf16", "fp16"))
    weight = _BYTES.get(settings.dtype, 2)
    bits = 4 if settings.load_in_4bit else 8 if settings.load_in_8bit else None
    return Setup(
        stage=stage,
        strategy=cluster.strategy,
        processes=cluster.processes,
        nodes=cluster.nodes,
        offload=cluster.offload,
        weight_bytes=weight,
        compute_bytes=2 if half else weight,
        bits=bits,
        lora_rank=int(settings.lora_r) if settings.use_peft else 0,
        moment_bytes=moment_bytes(str(getattr(training.optim, "value", training.optim))),
        kl=(training.beta if stage == "rank_grpo" else settings.anchor_weight) > 0,
        batch=int(settings.per_device_train_batch_size),
        accumulation=int(training.gradient_accumulation_steps),
        prompt=prompt,
        completion=completion,
        checkpointing=bool(training.gradient_checkpointing),
        whole_logits=stage == "sft" and settings.anchor_weight > 0,
        **(_rollout(training, cluster) if stage == "rank_grpo" else {}),
    )


def _longest_list(settings: Namespace, context: int) -> int:
    """Tokens that a list may take, as far as the settings tell; refused as the recipe would refuse it."""
    given = getattr(settings, "max_completion_length", None)
    completion = given or LINE_TOKENS * settings.num_ranks
    if completion >= context:
        source = "max_completion_length" if given else f"{LINE_TOKENS} a line, roughly"
        raise ValueError(
            f"a list of {settings.num_ranks} lines may take {completion} tokens ({source}), which leaves no room for "
            f"a dialogue in the model's context of {context}. Ask for fewer ranks (num_ranks), or take a model with a "
            "longer context."
        )
    return completion


def usual_lengths(setup: Setup, num_ranks: int, prompt: int | None = None, completion: int | None = None) -> Setup:
    """A setup with the tokens that prompts and lists usually have, for times: memory is planned for the longest.

    Args:
        setup: with the longest.
        num_ranks: K.
        prompt: tokens of a prompt; by default the most.
        completion: tokens of a list; by default `LINE_TOKENS` for each item.
    """
    usual = min(completion or LINE_TOKENS * num_ranks, setup.completion)
    return replace(setup, prompt=min(prompt or setup.prompt, setup.prompt), completion=usual)


def moment_bytes(optimizer: str) -> float | None:
    """Bytes of a weight's optimizer state, by the optimizer's name; `None` for AdamW in the precision of the weights.

    8 bits: two moments of a byte, each with a 32-bit scale for 256 (bitsandbytes' blocks). SGD and Adafactor keep
    (next to) nothing.
    """
    if "8bit" in optimizer:
        return 2 + 2 * 4 / 256
    return 0.0 if optimizer in ("sgd", "adafactor") else None


def _rollout(training: RankGRPOConfig, cluster: Cluster) -> dict[str, Any]:
    engine = training.vllm_mode if training.use_vllm else "generate"
    if training.use_transformers_continuous_batching:
        engine = "batching"
    return {
        "rollout": int(training.generation_batch_size) // cluster.processes,
        "generations": training.num_generations,
        "uses": training.num_iterations,
        "rounds": training.dynamic_sampling_rounds,
        "engine": engine,
        "engine_share": training.vllm_gpu_memory_utilization,
        "engine_sleeps": training.vllm_enable_sleep_mode,
        "gathers": training.ds3_gather_for_generation,
    }
