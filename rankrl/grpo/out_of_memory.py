"""In which phase of a step the memory of a GPU ran out, and what to lower there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def explain_out_of_memory(phase: str, args: Any) -> Iterator[None]:
    """Say of memory that runs out inside what was being done, and what to lower; what an inner phase said stays.

    Args:
        phase: one of `StepClock`, "validate", or "step" for all of it. What needs no memory to speak of is left to the
            phase around it.
        args: settings of the training, as in force.

    Raises:
        torch.OutOfMemoryError: the device's own is its cause.

    Example:
        >>> with explain_out_of_memory("generate", trainer.args):
        ...     lists = model.generate(**prompts)
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if phase not in _EXPLAINED or isinstance(error.__cause__, torch.OutOfMemoryError):
            raise
        raise torch.OutOfMemoryError(
            f"GPU memory ran out {_EXPLAINED[phase](args)} `python -m rankrl.plan` with these settings says what "
            f"takes how much. The device said: {first_line(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says, without what follows (a stack of C++, advice); its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _generate(args: Any) -> str:
    shorter = f"allow shorter lists (max_completion_length {args.max_completion_length})"
    if args.use_vllm:
        return (
            f"while vLLM wrote the lists. It takes vllm_gpu_memory_utilization {args.vllm_gpu_memory_utilization} of "
            f"each GPU beside the training: lower that, set vllm_enable_sleep_mode: true, or {shorter}."
        )
    batch, steps, parts = args.per_device_train_batch_size, args.steps_per_generation, args.gradient_accumulation_steps
    if args.num_iterations > 1 or steps > parts:  # fewer lists at once would be fewer updates on them
        fewer = f"spread them over more processes, with a smaller per_device_train_batch_size ({batch})"
    elif steps > 1:
        fewer = f"lower steps_per_generation ({steps}) to a divisor of it, which leaves the step as it is"
    else:
        fewer = (
            f"halve per_device_train_batch_size and double gradient_accumulation_steps ({parts}), with "
            "steps_per_generation: 1"
        )
    return (
        f"while lists were written, {batch * steps} at once (per_device_train_batch_size {batch} x "
        f"steps_per_generation {steps}): {fewer}; num_generations ({args.num_generations}) must still divide the lists "
        f"of all processes. Or {shorter}, or let vLLM write them (use_vllm: true)."
    )


def _log_probs(args: Any) -> str:
    return (
        f"while log-probabilities of the lists were computed, {_batch(args)} Or allow shorter prompts and lists "
        f"(max_prompt_length, max_completion_length {args.max_completion_length})."
    )


def _step(args: Any) -> str:
    checkpointing = "" if args.gradient_checkpointing else " Or set gradient_checkpointing: true."
    return (
        f"in the step. Most of it is taken by the update, from {_batch(args)}{checkpointing} Or train an adapter "
        "(use_peft: true), load the model in fewer bits (dtype: bfloat16, load_in_4bit: true), or spread it over GPUs "
        "(accelerate_configs/)."
    )


def _validate(args: Any) -> str:
    return (
        "while lists were written for validation: lower validate_batch_size, or allow shorter lists "
        f"(max_completion_length {args.max_completion_length})."
    )


def _batch(args: Any) -> str:
    return (
        f"{args.per_device_train_batch_size} texts at once: halve per_device_train_batch_size "
        f"({args.per_device_train_batch_size}) and double both gradient_accumulation_steps "
        f"({args.gradient_accumulation_steps}) and steps_per_generation ({args.steps_per_generation}), which leaves "
        "the step as it is."
    )


_EXPLAINED: dict[str, Callable[[Any], str]] = {
    "generate": _generate,
    "log_probs": _log_probs,
    "step": _step,
    "validate": _validate,
}
