"""What goes wrong with a setup, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from rankrl.plan.arithmetic import Shape, kv_cache_bytes
from rankrl.plan.estimate import Device, Part, Setup, memory, peak

LOGITS_BUDGET = 0.25  # share of a GPU's memory
# A step of Rank-GRPO took up to 1.23 times the memory that was planned (docs/scaling.md): so much has to fit, too.
RANK_GRPO_ROOM = 1.25


@dataclass(frozen=True)
class Finding:
    """One thing to know: `stop` if the run would fail or crawl, `warning` if it would run, but not as intended."""

    level: Literal["stop", "warning"]
    text: str


def require_whole_groups(settings: Any, processes: int) -> None:
    """The lists of a dialogue have to be generated together.

    Args:
        settings: of Rank-GRPO, as parsed.
        processes: over all machines.

    Raises:
        ValueError: if `num_generations` does not divide what is generated at once, with the numbers that would do.
    """
    steps = settings.steps_per_generation or settings.gradient_accumulation_steps
    at_once = settings.generation_batch_size or settings.per_device_train_batch_size * processes * steps
    of_all = settings.per_device_train_batch_size * processes
    if settings.generation_batch_size and at_once % of_all:
        raise ValueError(
            f"generation_batch_size is {at_once}, which {processes} processes with per_device_train_batch_size "
            f"{settings.per_device_train_batch_size} cannot share: expected a multiple of {of_all}."
        )
    groups = settings.num_generations
    if groups and at_once % groups:
        fitting = [n for n in range(2, at_once + 1) if at_once % n == 0]
        factor = next(n for n in range(1, groups + 1) if at_once * n % groups == 0)
        raise ValueError(
            f"num_generations is {groups}, which does not divide the {at_once} lists that are generated at once "
            f"({processes} processes x per_device_train_batch_size {settings.per_device_train_batch_size} x {steps} "
            f"micro-batches): some dialogue would be left with an incomplete group. Choose num_generations among "
            f"{fitting[:8]}, or {factor} times as many micro-batches: gradient_accumulation_steps {steps * factor}."
        )


def findings(shape: Shape, setup: Setup, device: Device, *, engine_length: int | None = None) -> list[Finding]:
    """All that is known to go wrong with a setup, the worst first.

    Args:
        shape: of the model.
        setup: of the run.
        device: of each process.
        engine_length: `vllm_max_model_length`.
    """
    found = [*_engines(shape, setup, device, engine_length), *_sizes(shape, setup, device)]
    if setup.weight_bytes == 2 and not setup.lora_rank and setup.strategy in ("single", "ddp"):
        found.append(
            Finding(
                "warning",
                "all weights are trained in 16 bits without a master copy in 32: updates of a rate like 1e-6 are "
                "rounded away. Set dtype: float32, or train an adapter (use_peft: true).",
            )
        )
    return sorted(found, key=lambda finding: finding.level != "stop")


def _engines(shape: Shape, setup: Setup, device: Device, engine_length: int | None) -> Iterator[Finding]:
    if setup.stage == "sft":
        return
    vllm = setup.engine in ("colocate", "server")
    if setup.rounds:
        yield Finding(
            "warning",
            f"dynamic_sampling_rounds is {setup.rounds}: while dialogues without signal are many, a rollout takes up "
            f"to {setup.rounds + 1} times as long as planned here. --probe sees what the first steps need.",
        )
    if setup.strategy == "zero3" and not setup.gathers:
        yield Finding(
            "stop",
            "ZeRO-3 with ds3_gather_for_generation: false gathers every layer again for every token of a list: step 0 "
            "of such a run took ten hours (TRL issue 3858), and vLLM does not work with it. Set it to true, or take "
            "ZeRO-2.",
        )
    if setup.strategy == "fsdp2" and not vllm:
        yield Finding(
            "stop",
            "under FSDP2 transformers' generate gathers every layer again for every token of a list (TRL 1.16 gathers "
            "weights for ZeRO-3 and FSDP1 alone). Set use_vllm: true, or take multi_gpu.yaml or zero2.yaml.",
        )
    if setup.strategy == "zero3" and setup.gathers and not vllm:
        yield Finding(
            "warning",
            "ZeRO-3 gathers all weights on every GPU for each rollout, so the model has to fit whole all the same. "
            "ZeRO-2 then generates without gathering; use_vllm: true is faster than both.",
        )
    if setup.bits and vllm and setup.strategy == "fsdp2":
        yield Finding(
            "stop",
            "QLoRA + FSDP2 + vLLM: the adapter cannot be merged into quantised weights that are spread over processes, "
            "and TRL 1.16 merges it to bring vLLM up to date (TRL issue 5975). Take multi_gpu.yaml, or LoRA on "
            "dtype: bfloat16 instead of load_in_4bit.",
        )
    elif setup.bits and vllm:
        yield Finding(
            "stop",
            "QLoRA + vLLM: TRL 1.16 merges the adapter into the quantised weights for every rollout, which rounds it "
            "(TRL issue 3466) or fails (4973). Set use_vllm: false, or take LoRA on dtype: bfloat16.",
        )
    if vllm and engine_length is not None and engine_length < setup.length:
        yield Finding(
            "stop",
            f"vllm_max_model_length is {engine_length}, but a prompt of {setup.prompt} tokens and a list of "
            f"{setup.completion} need {setup.length}: set it to {setup.length} or more.",
        )
    needed = 2 * shape.parameters + kv_cache_bytes(shape, 1, setup.length, 2)
    if setup.engine == "colocate" and needed > 0.9 * setup.engine_share * device.memory:
        yield Finding(
            "stop",
            f"vllm_gpu_memory_utilization {setup.engine_share:g} gives vLLM {_gb(setup.engine_share * device.memory)}, "
            f"but weights and the cache of one list take {_gb(needed)}: set it to at least "
            f"{needed / 0.8 / device.memory:.2f}.",
        )


def _sizes(shape: Shape, setup: Setup, device: Device) -> Iterator[Finding]:
    parts = memory(shape, setup, device)
    needed = peak(parts)
    held = {part.name: part.bytes for part in parts}
    if needed > device.memory:
        yield Finding(
            "stop",
            f"it does not fit: {_gb(needed)} are needed, a GPU has {_gb(device.memory)}. {advice(setup, parts)}",
        )
    elif setup.stage == "rank_grpo" and (more := peak(_with_room(parts))) > device.memory:
        yield Finding(
            "warning",
            f"it is tight: {_gb(needed)} are planned, but Rank-GRPO was seen to take up to a quarter more than its "
            f"plan, which would be {_gb(more)} of {_gb(device.memory)}. {advice(setup, parts)}",
        )
    for name in ("vocabulary logits", "next-token logits"):
        if held.get(name, 0) > LOGITS_BUDGET * device.memory:
            lower = "per_device_train_batch_size" if name == "vocabulary logits" else "steps_per_generation"
            yield Finding(
                "warning",
                f"{name} take {_gb(held[name])}, more than a quarter of a GPU: the vocabulary has {shape.vocabulary:,} "
                f"tokens. Halve {lower}.",
            )
    if setup.strategy in ("zero3", "fsdp2") and needed <= device.memory:
        whole = replace(setup, strategy="ddp")
        if peak(memory(shape, whole, device)) <= device.memory:
            yield Finding(
                "warning",
                "the whole model would fit on each GPU: multi_gpu.yaml (DDP) exchanges gradients alone and is faster.",
            )


def _with_room(parts: list[Part]) -> list[Part]:
    """All parts as large as they may come out. vLLM's share is what it is told to take."""
    return [part if part.name == "vLLM" else replace(part, bytes=RANK_GRPO_ROOM * part.bytes) for part in parts]


def advice(setup: Setup, parts: list[Part]) -> str:
    """What to change first, by what is largest at the worst moment."""
    held = {when: sum(p.bytes for p in parts if p.when == when) for when in ("update", "rollout")}
    worst = "update" if held["update"] >= held["rollout"] else "rollout"
    largest = max((p for p in parts if p.when in ("always", worst)), key=lambda part: part.bytes)
    batch = f"halve per_device_train_batch_size ({setup.batch}) and double gradient_accumulation_steps"
    fewer = f"set steps_per_generation so that fewer than {setup.rollout} lists are generated at once, or use vLLM"
    smaller = "train an adapter (use_peft: true), load the model in 16 bits or in 4, or spread it (zero2, zero3, fsdp2)"
    lower = {
        "activations": batch if setup.checkpointing else "set gradient_checkpointing: true",
        "vocabulary logits": batch,
        "KV cache": fewer,
        "prompts in one pass": fewer,
        "next-token logits": fewer,
        "weights gathered": "use vLLM, or ZeRO-2",
        "vLLM": "lower vllm_gpu_memory_utilization, or set vllm_enable_sleep_mode: true",
    }
    return f"The largest part is {largest.name} ({_gb(largest.bytes)}): {lower.get(largest.name, smaller)}."


def _gb(number: float) -> str:
    return f"{number / 1e9:.1f} GB"
