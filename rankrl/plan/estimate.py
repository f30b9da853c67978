"""Memory, work and time of a run, put together from `rankrl.plan.arithmetic`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rankrl.plan import arithmetic as on_paper
from rankrl.plan.arithmetic import Shape, Strategy

# Assumptions, all of them rough. Only a probe on the machine itself knows better.
CONTEXT = 1.5e9  # bytes of a CUDA context, NCCL and cuBLAS workspaces
FRAGMENTATION = 0.1  # share of the rest that the allocator holds and nothing uses
TRAINING_EFFICIENCY = 0.35  # of a GPU's peak, reached in training
DECODING_EFFICIENCY = 0.6  # of its bandwidth, reached in decoding
GENERATE_OVERHEAD = 1e-3  # seconds a layer that Python takes for each token step of transformers' generate
ENGINE_OVERHEAD = 5e-3  # seconds a token step of vLLM, whose graphs are recorded
NVLINK, NETWORK = 300e9, 25e9  # bytes a second between the GPUs of a machine, and between machines


@dataclass(frozen=True)
class Device:
    """A GPU: memory in bytes, dense bf16 operations a second, bytes a second."""

    memory: float
    flops: float
    bandwidth: float


# Peak figures of NVIDIA's data sheets, bf16 with 32-bit accumulation, no sparsity.
DEVICES = {
    "rtx4090": Device(24e9, 165e12, 1.008e12),
    "a100-40gb": Device(40e9, 312e12, 1.555e12),
    "l40s": Device(48e9, 362e12, 0.864e12),
    "a100": Device(80e9, 312e12, 2.039e12),
    "h100": Device(80e9, 989e12, 3.35e12),
    "h200": Device(141e9, 989e12, 4.8e12),
}


@dataclass(frozen=True)
class Setup:
    """All of a run's settings that memory, work and time depend on.

    Attributes:
        stage: `sft` or `rank_grpo`.
        strategy: how the processes share the model.
        processes: one for each GPU, over all machines.
        nodes: machines.
        offload: are optimizer state and gradients kept in the host's memory (DeepSpeed)?
        weight_bytes: of a weight at rest (`dtype`).
        compute_bytes: of the numbers that are multiplied (2 under `bf16` or `fp16`).
        bits: 4 or 8 for a quantised model (QLoRA), else `None`.
        lora_rank: of the adapters; 0 trains all weights.
        moment_bytes: of both Adam moments of a weight where the optimizer sets them (8 bits: 2); `None`: AdamW.
        kl: is there a KL to the policy at the start? Where all weights are trained, that is a second model.
        batch: lists, or dialogues, of a process at once in training.
        accumulation: micro-batches of an optimizer step.
        rollout: lists that a process generates at once.
        generations: lists of a dialogue, G.
        uses: how often a batch of lists is trained on, mu.
        rounds: further rounds of dialogues that dynamic sampling may draw for a generation; not in the times.
        prompt, completion: tokens, at most.
        checkpointing: are activations computed again?
        whole_logits: does the loss hold the logits of all tokens (an anchored SFT)?
        engine: who writes lists: `generate`, `batching` (transformers' continuous batching), `colocate` or `server`
            (vLLM).
        engine_share: of a GPU's memory, vLLM's.
        engine_sleeps: does vLLM give its memory back while the model trains?
        gathers: are all weights gathered before lists are generated (ZeRO-3)?
    """

    stage: Literal["sft", "rank_grpo"]
    strategy: Strategy = "single"
    processes: int = 1
    nodes: int = 1
    offload: bool = False
    weight_bytes: int = 4
    compute_bytes: int = 2
    bits: int | None = None
    lora_rank: int = 0
    moment_bytes: float | None = None
    kl: bool = False
    batch: int = 1
    accumulation: int = 1
    rollout: int = 1
    generations: int = 1
    uses: int = 1
    rounds: int = 0
    prompt: int = 1024
    completion: int = 320
    checkpointing: bool = True
    whole_logits: bool = False
    engine: Literal["generate", "batching", "colocate", "server"] = "generate"
    engine_share: float = 0.3
    engine_sleeps: bool = False
    gathers: bool = True

    @property
    def length(self) -> int:
        """Tokens of a prompt and its list."""
        return self.prompt + self.completion

    @property
    def lists_a_step(self) -> int:
        """Lists, or dialogues, of an optimizer step, over all processes."""
        return self.batch * self.accumulation * self.processes


@dataclass(frozen=True)
class Part:
    """What one thing takes on each GPU, in bytes, and when: `always`, in the `update`, or in the `rollout`."""

    name: str
    bytes: float
    when: Literal["always", "update", "rollout"]


def states(shape: Shape, setup: Setup) -> list[Part]:
    """Weights, gradients and optimizer state: what is there whatever the batch is."""
    over, state_over = on_paper.shards(setup.strategy, setup.processes)
    trained = trained_weights(shape, setup)
    moments: float
    weight, gradient, moments = on_paper.bytes_a_weight(setup.strategy, setup.weight_bytes, setup.compute_bytes)
    if setup.lora_rank and setup.strategy in ("single", "ddp"):
        # PEFT keeps adapters in 32 bits; TRL rounds those on a quantised model to 16.
        weight, gradient, moments = (2, 2, 4) if setup.bits else (4, 4, 8)
    if setup.moment_bytes is not None:
        moments = moments - 8 + setup.moment_bytes if setup.strategy.startswith("zero") else setup.moment_bytes
    layer = shape.linear_parameters / shape.layers
    exchanged = on_paper.communication_bytes(setup.strategy, trained, gradient, layer)
    host = 0 if setup.offload else 1
    parts = [
        Part("weights", (frozen_bytes(shape, setup) if setup.lora_rank else trained * weight) / over, "always"),
        Part("adapters", trained * weight / over if setup.lora_rank else 0, "always"),
        Part("KL reference", frozen_bytes(shape, setup) / over if setup.kl and not setup.lora_rank else 0, "always"),
        Part("optimizer", trained * moments * host / state_over, "always"),
        Part("gradients", trained * gradient * (host or setup.strategy == "zero2") / state_over, "update"),
        Part("exchange buffers", exchanged, "update"),
    ]
    return [part for part in parts if part.bytes]


def trained_weights(shape: Shape, setup: Setup) -> int:
    """How many weights the optimizer moves: all of them, or those of the adapters."""
    return on_paper.lora_parameters(shape.adapted, setup.lora_rank) if setup.lora_rank else shape.parameters


def frozen_bytes(shape: Shape, setup: Setup) -> float:
    """The weights of a whole model that is not trained."""
    at_rest = setup.compute_bytes if setup.strategy.startswith("zero") else setup.weight_bytes
    if setup.bits:
        return on_paper.quantised_bytes(shape, setup.bits, at_rest)
    return shape.parameters * at_rest


def update_parts(shape: Shape, setup: Setup) -> list[Part]:
    """What a micro-batch adds while the model trains."""
    tokens, scored = setup.batch * setup.length, setup.batch * setup.completion
    autocast = setup.strategy in ("single", "ddp")  # the others compute with rounded weights
    activations = on_paper.activation_bytes(
        shape,
        tokens,
        setup.weight_bytes if autocast else setup.compute_bytes,
        setup.compute_bytes,
        checkpointing=setup.checkpointing,
        lora_rank=setup.lora_rank,
    )
    held: float
    if setup.whole_logits:  # of policy and anchor: logits, and two log-softmaxes in 32 bits with their gradient
        held = on_paper.logits_bytes(setup.batch, setup.completion, shape.vocabulary, 2 * setup.compute_bytes + 12)
    else:
        held = on_paper.tiled_logits_bytes(shape, scored, setup.compute_bytes, head_is_trained=not setup.lora_rank)
    rounded = 0.0
    if setup.weight_bytes > setup.compute_bytes and autocast and not setup.bits:
        # Autocast keeps the rounded copy of what is trained, and the backward pass that of what is not.
        one_layer = setup.checkpointing and setup.lora_rank
        rounded = shape.linear_parameters * setup.compute_bytes / (shape.layers if one_layer else 1)
    unpacked = shape.linear_parameters / shape.layers * setup.compute_bytes if setup.bits else 0.0
    return [
        Part("activations", activations, "update"),
        Part("vocabulary logits", held, "update"),
        *([Part("weights rounded for bf16", rounded, "update")] if rounded else []),
        *([Part("a layer out of its few bits", unpacked, "update")] if unpacked else []),
    ]


def rollout_parts(shape: Shape, setup: Setup, device: Device) -> list[Part]:
    """What the writing of lists takes, beside the states."""
    if setup.stage == "sft" or setup.engine == "server":
        return []
    if setup.engine == "colocate":
        when: Literal["always", "rollout"] = "rollout" if setup.engine_sleeps else "always"
        return [Part("vLLM", setup.engine_share * device.memory, when)]
    cache = on_paper.kv_cache_bytes(shape, setup.rollout, setup.length, setup.compute_bytes)
    prefill = on_paper.prefill_bytes(shape, setup.rollout * setup.prompt, setup.compute_bytes)
    parts = [Part("KV cache", cache, "rollout"), Part("prompts in one pass", prefill, "rollout")]
    # 32-bit logits of the next token, their probabilities and one more copy to draw from.
    parts += [Part("next-token logits", setup.rollout * shape.vocabulary * 12, "rollout")]
    if setup.strategy == "zero3" and setup.gathers:
        parts += [Part("weights gathered", shape.parameters * setup.compute_bytes, "rollout")]
    return parts


def memory(shape: Shape, setup: Setup, device: Device) -> list[Part]:
    """All parts of a GPU's memory at the worst moment, with what the driver and the allocator take."""
    parts = [*states(shape, setup), *update_parts(shape, setup), *rollout_parts(shape, setup, device)]
    kept = peak(parts) - sum(part.bytes for part in parts if part.name == "vLLM")
    return [*parts, Part("CUDA and fragmentation", CONTEXT + FRAGMENTATION * max(kept, 0.0), "always")]


def peak(parts: list[Part]) -> float:
    """The most bytes held at once: what is always there, and the greater of update and rollout."""
    held = {when: sum(part.bytes for part in parts if part.when == when) for when in ("always", "update", "rollout")}
    return held["always"] + max(held["update"], held["rollout"])


def count_steps(
    setup: Setup, dialogues: int | None, epochs: float, max_steps: int = 0, max_lists: int | None = None
) -> int | None:
    """Optimizer steps of the run; `None` where nothing says how long it is: no limit, and no number of dialogues.

    `max_lists` may end it before; that dynamic sampling comes there sooner is not foreseen.
    """
    steps = max_steps if max_steps > 0 else None
    if steps is None and dialogues is not None:
        steps = on_paper.optimizer_steps(dialogues, epochs, setup.lists_a_step, setup.generations, setup.uses)
    by_lists = math.ceil(max_lists * setup.uses / setup.lists_a_step) if max_lists else None
    return min((limit for limit in (steps, by_lists) if limit is not None), default=None)


# ---- Time ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step: rollout, scoring (reference, engine), update, and what is sent (gradients, weights
    that are spread, weights for a vLLM server)."""

    rollout: float
    scoring: float
    update: float
    sync: float

    @property
    def total(self) -> float:
        return self.rollout + self.scoring + self.update + self.sync


def step_time(shape: Shape, setup: Setup, device: Device) -> StepTime:
    """How long an optimizer step takes, if a GPU reaches the shares of its peak that stand at the top of this file.

    Args:
        shape: of the model.
        setup: of the run; `prompt` and `completion` are taken for all dialogues and lists.
        device: of each process.
    """
    flops, bandwidth = device.flops * TRAINING_EFFICIENCY, device.bandwidth * DECODING_EFFICIENCY
    lists = setup.batch * setup.accumulation  # of this process
    work = on_paper.training_flops(
        shape,
        lists * setup.length,
        setup.length,
        checkpointing=setup.checkpointing,
        all_weights=not setup.lora_rank,
    )
    forward = 2.0 * shape.parameters * setup.length * lists / flops / setup.uses
    trained = trained_weights(shape, setup)
    link = NVLINK if setup.nodes == 1 else NETWORK
    _, gradient, _ = on_paper.bytes_a_weight(setup.strategy, setup.weight_bytes, setup.compute_bytes)
    sync = on_paper.exchange_seconds(setup.strategy, trained, shape.parameters, gradient, setup.accumulation, link)
    if setup.stage == "sft":
        return StepTime(0.0, forward * setup.kl, work / flops, sync)
    engine = setup.engine in ("colocate", "server")
    overhead = ENGINE_OVERHEAD if engine else GENERATE_OVERHEAD * shape.layers
    at_once = lists if engine else min(setup.rollout, lists)
    token = on_paper.decode_seconds(
        shape, at_once, setup.length, flops=flops, bandwidth=bandwidth, step_overhead=overhead
    )
    prefill = 2.0 * shape.parameters * setup.prompt * lists / flops
    rollout = (token * setup.completion * lists / at_once + prefill) / setup.uses
    passes = setup.kl + engine  # of the reference, and to compare with vLLM's own probabilities
    if setup.engine == "server":
        sync += 2 * shape.parameters / NETWORK / setup.uses
    return StepTime(rollout, forward * passes, work / flops, sync)
