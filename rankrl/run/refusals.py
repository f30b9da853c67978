"""What cannot run is refused before anything is loaded, with what to change."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from accelerate.utils import DistributedType
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, SFTConfig

from rankrl.run.models import is_adapter


def require_joined_processes(training_args: Any) -> None:
    """Refuse a launch whose processes would train apart, or without the engine that they were launched for, in silence.

    Raises:
        RuntimeError: if the launcher started several processes and this one knows of no other, or if the accelerate
            config says FSDP or DeepSpeed and this is plain data parallelism.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != training_args.world_size:
        raise RuntimeError(
            f"the launcher started {launched} processes, but this one sees {training_args.world_size}: they would "
            "train apart. On CPUs add --use_cpu; otherwise check the accelerate config and the visible GPUs."
        )
    engines = [name for name in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{name}") == "true"]
    if engines and training_args.distributed_state.distributed_type == DistributedType.MULTI_CPU:
        raise RuntimeError(
            f"the accelerate config asks for {engines[0]}, but with --use_cpu accelerate would spread nothing: every "
            "process would hold the whole model. Take accelerate_configs/multi_cpu.yaml to try a run out on CPUs. "
            "DeepSpeed runs there too: without --use_cpu, with --ddp_backend gloo and DS_ACCELERATOR=cpu."
        )


def require_packages(model_args: ModelConfig, training_args: Any) -> None:
    """Refuse settings whose package is missing, before anything is loaded.

    Args:
        model_args: quantisation (QLoRA) and LoRA.
        training_args: of SFT or Rank-GRPO.

    Raises:
        ImportError: for 4 or 8 bits without bitsandbytes, `use_vllm` without vLLM, `report_to` without its package.
        ValueError: for 4 or 8 bits without an adapter to train.
    """
    bits = next((name for name in ("load_in_4bit", "load_in_8bit") if getattr(model_args, name)), None)
    if bits and not is_bitsandbytes_available():
        raise ImportError(
            f"{bits} needs bitsandbytes 0.46.1 or newer, which is not installed: pip install 'rankrl[train,qlora]'. Or "
            f"leave {bits} out: LoRA on weights in bfloat16 (dtype: bfloat16) is the next smallest."
        )
    if bits and not model_args.use_peft and not is_adapter(model_args.model_name_or_path or ""):
        raise ValueError(
            f"{bits} is set, but there is no adapter to train, and weights of so few bits cannot be trained. Set "
            "use_peft: true (QLoRA), or name an adapter directory as model_name_or_path."
        )
    if getattr(training_args, "use_vllm", False) and find_spec("vllm") is None:
        where = " where training runs, beside the server" if training_args.vllm_mode == "server" else ""
        raise ImportError(
            f"use_vllm (vllm_mode: {training_args.vllm_mode}) needs the package vllm{where}, and it is not installed: "
            "pip install -c constraints-vllm.txt 'rankrl[train,vllm]'. Or set use_vllm: false; transformers then "
            "writes the lists."
        )
    available = get_available_reporting_integrations()
    if missing := [name for name in training_args.report_to if name not in (*available, "all", "none")]:
        raise ImportError(
            f"report_to names {', '.join(missing)}, which is not installed or unknown; here there is "
            f"{', '.join(available) or 'nothing to report to'}. Install its package, or set report_to: none."
        )


def refuse_what_the_prompt_decides(training_args: SFTConfig) -> None:
    """Refuse settings of SFT that the recipe would overrule: prompts are fitted, and lists alone are learned.

    Raises:
        ValueError: for another `max_length` than TRL's default, loss on the prompt, or packing, which would cut lists.
    """
    length = training_args.max_length
    if length not in (None, SFTConfig.max_length):
        raise ValueError(
            f"max_length is {length}, but TRL would cut lists at it. Every prompt is fitted to the model's context "
            "before; to make prompts shorter, set max_prompt_length."
        )
    if training_args.completion_only_loss is False:
        raise ValueError("completion_only_loss is false, but prompts are not to be learned: leave it out.")
    if training_args.packing:
        raise ValueError(
            "packing is true, but it cuts lists to fill a length. Leave it out; group rows of like length instead "
            "(train_sampling_strategy: group_by_length)."
        )


def refuse_no_step(training_args: Any) -> None:
    """Refuse `max_steps: 0`, for which transformers takes one step.

    Raises:
        ValueError: if no step is asked for.
    """
    if training_args.max_steps == 0:
        raise ValueError("max_steps is 0; expected the number of optimizer steps, or -1 to count by num_train_epochs.")


def refuse_eval_set(training_args: Any) -> None:
    """Refuse transformers' own evaluation, which has no data in the recipes.

    Raises:
        ValueError: if `eval_strategy` asks for it, or `save_strategy` for the best by it.
    """
    if training_args.eval_strategy != "no":
        raise ValueError(
            f"eval_strategy is {training_args.eval_strategy.value!r}, but the recipes have no eval set. Leave it out; "
            "rank_grpo.py scores held-out dialogues while it trains (--validation FILE.jsonl)."
        )
    if training_args.save_strategy == "best":
        raise ValueError(
            "save_strategy is 'best', by transformers' own evaluation, but the recipes have no eval set. Set it to "
            "'steps'; with --validation FILE.jsonl rank_grpo.py keeps the best checkpoint in `best`."
        )
