"""A run that is about to start, held against what a plan of it would say."""

from __future__ import annotations

import logging
import math
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.state import AcceleratorState
from peft import LoraConfig

from rankrl.data.prompts import context_length
from rankrl.plan.arithmetic import Shape, Strategy
from rankrl.plan.checks import findings
from rankrl.plan.estimate import Device, Setup
from rankrl.plan.settings import Cluster, make_setup, strategy_of
from rankrl.plan.shapes import shape_of_model
from rankrl.run.stages import Stage

logger = logging.getLogger(__name__)


def warn_of_findings(stage: Stage, model: Any, *settings: Any, device: Device | None = None) -> None:
    """Log what is known to go wrong, before the first list is sampled and the first hour is paid.

    A plan is made of the same settings by `python -m rankrl.plan`, which knows more (times, what takes how much) and
    ends with status 1. Here its findings are warnings: an estimate of memory should not keep anybody from trying.

    Args:
        stage: of the run.
        model: that is trained, with its adapter if it has one.
        *settings: the recipe's arguments, the trainer's and the model's, in this order, as parsed by this process;
            accelerate has joined the processes.
        device: what each process runs on; by default the GPU at hand, or a CPU, whose memory is left out.
    """
    joined = AcceleratorState()
    cluster = joined_cluster(joined)
    if cluster is None or not joined.is_main_process:
        return  # what follows is the first process's alone: nothing in it may wait for the others
    try:
        shape, setup = what_is_trained(stage, model, settings, cluster)
    except ValueError as error:
        logger.warning("no plan was made of this run: %s", error)
        return
    engine_length = getattr(settings[1], "vllm_max_model_length", None)
    for finding in findings(shape, setup, device or this_device(), engine_length=engine_length):
        logger.warning("%s (python -m rankrl.plan says more)", finding.text)


def what_is_trained(stage: Stage, model: Any, settings: Sequence[Any], cluster: Cluster) -> tuple[Shape, Setup]:
    """The shape and the setup of a run, as `warn_of_findings` has them.

    Raises:
        ValueError: if the model or its adapter cannot be planned.
    """
    values = {name: value for arguments in settings for name, value in vars(arguments).items()}
    for adapter in getattr(model, "peft_config", {}).values():  # also one that training goes on with
        if not isinstance(adapter, LoraConfig):
            raise ValueError(f"the adapter is {adapter.peft_type.value}, and a plan knows LoRA alone. It may train.")
        values |= {"use_peft": True, "lora_r": adapter.r}
    shape = shape_of_model(model, str(values["model_name_or_path"]))
    given = Namespace(**values, checked=settings)
    return shape, make_setup(stage, given, cluster, context_length(model.config))


def joined_cluster(joined: AcceleratorState) -> Cluster | None:
    """Where this run takes place, as its processes have joined; `None` for an engine that a plan does not know."""
    strategy = joined_strategy(joined)
    if strategy is None:
        return None
    engine = joined.deepspeed_plugin
    device = engine.hf_ds_config.get_value("zero_optimization.offload_optimizer.device") if engine else None
    return Cluster(joined.num_processes, strategy, device not in ("none", None), joined.mixed_precision)


def joined_strategy(joined: AcceleratorState) -> Strategy | None:
    """How the processes of this run share the model; `None` for an engine that a plan does not know."""
    zero = joined.deepspeed_plugin.zero_stage if joined.deepspeed_plugin is not None else 0
    plugin = getattr(joined, "fsdp_plugin", None)
    return strategy_of(str(joined.distributed_type.value), zero, plugin.fsdp_version if plugin is not None else 0)


def this_device() -> Device:
    """The GPU of this process. Only its memory is known."""
    memory = torch.cuda.get_device_properties().total_memory if torch.cuda.is_available() else math.inf
    return Device(memory, math.nan, math.nan)
