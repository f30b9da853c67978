"""What a training step needs, worked out on paper: every formula of the planner, each with its source.

Bytes are bytes (a GB is 10^9 of them), times are seconds. Nothing here reads a file or loads a library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["single", "ddp", "zero2", "zero3", "fsdp2"]

# TRL 1.16 projects hidden states onto the vocabulary tile by tile (trl/kernels/chunked_logprob.py).
TILE_TOKENS, TILE_VOCABULARY = 4096, 32_768
# What NF4 adds to its 4 bits: one 32-bit scale for 64 weights (QLoRA, arXiv 2305.14314, section 3).
NF4_BYTES = 0.5 + 4 / 64
# DeepSpeed's default reduce_bucket_size and allgather_bucket_size, in elements.
ZERO_BUCKET = 500_000_000


@dataclass(frozen=True)
class Shape:
    """What memory and work depend on in a decoder.

    Attributes:
        name: for people.
        parameters: all weights, tied ones once.
        linears: `(inputs, outputs, how often)` of the linear layers within the blocks: what 4 bits hold.
        adapted: those of them that LoRA adapts.
        layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary: as in the model's config.
        gated: does the feed-forward part multiply by a gate (Llama, Qwen)?
    """

    name: str
    parameters: int
    linears: tuple[tuple[int, int, int], ...]
    adapted: tuple[tuple[int, int, int], ...]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    gated: bool = True

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers within the blocks."""
        return sum(inputs * outputs * count for inputs, outputs, count in self.linears)


# ---- Weights and what follows them -----------------------------------------------------------------------------------


def lora_parameters(linears: Sequence[tuple[int, int, int]], rank: int) -> int:
    """Weights of LoRA adapters: `rank (inputs + outputs)` for each linear layer (arXiv 2106.09685, section 4.1)."""
    return sum(rank * (inputs + outputs) * count for inputs, outputs, count in linears)


def quantised_bytes(shape: Shape, bits: int, rest_bytes: int) -> float:
    """Weights with the linear layers of the blocks in 4 or 8 bits and everything else at `rest_bytes` each.

    bitsandbytes leaves the embeddings, the head and the norms alone. 4 bits: `NF4_BYTES` a weight; 8 bits: one byte.
    """
    each = {4: NF4_BYTES, 8: 1.0}[bits]
    return shape.linear_parameters * each + (shape.parameters - shape.linear_parameters) * rest_bytes


def bytes_a_weight(strategy: Strategy, weight_bytes: int, compute_bytes: int) -> tuple[int, int, int]:
    """What one trained weight takes: itself, its gradient, and a pair of Adam moments with any master copy, in bytes.

    - one GPU, DDP: weight, gradient and both moments in the precision of the weights (torch's AdamW).
    - ZeRO: 2 + 2 + 12 in mixed precision: 16-bit weight and gradient; master copy and moments in 32 bits
      (arXiv 1910.02054, section 3.1). Without mixed precision 4 + 4 + 8.
    - FSDP2: accelerate keeps what is trained in 32 bits under mixed precision (`fsdp2_prepare_model`): 4 + 4 + 8.
    """
    mixed = compute_bytes < 4
    if strategy in ("zero2", "zero3"):
        return (2, 2, 12) if mixed else (4, 4, 8)
    if strategy == "fsdp2" and mixed:
        return 4, 4, 8
    return weight_bytes, weight_bytes, 2 * weight_bytes


def shards(strategy: Strategy, processes: int) -> tuple[int, int]:
    """Over how many processes the weights are spread, and over how many gradients and optimizer state."""
    return {
        "single": (1, 1),
        "ddp": (1, 1),
        "zero2": (1, processes),
        "zero3": (processes, processes),
        "fsdp2": (processes, processes),
    }[strategy]


def communication_bytes(strategy: Strategy, trained: int, gradient_bytes: int, layer_parameters: float) -> float:
    """Buffers that the processes exchange through.

    DDP keeps the gradients a second time in buckets (`gradient_as_bucket_view` is off). ZeRO-2 has two buckets of
    `ZERO_BUCKET` elements at most. ZeRO-3 and FSDP2 gather one layer while they compute with another.
    """
    if strategy == "ddp":
        return trained * gradient_bytes
    if strategy == "zero2":
        return 2 * min(trained, ZERO_BUCKET) * gradient_bytes
    if strategy in ("zero3", "fsdp2"):
        return 2 * layer_parameters * gradient_bytes
    return 0.0


# ---- Activations, logits, caches -------------------------------------------------------------------------------------


def layer_activation_bytes(shape: Shape, compute_bytes: int, lora_rank: int = 0) -> float:
    """What the backward pass of one layer needs, for one token.

    The count of Korthikanti et al. (arXiv 2205.05198, section 4.1) for today's blocks: no dropout, attention in one
    fused kernel that keeps no matrix of scores. Two norms, each with its input in 32 bits, the normed values and the
    output; queries, keys and values, the keys and values repeated for every head, and the attention's output; gate,
    activation, up and their product (without a gate: input and output of the activation). LoRA adds a copy of the
    input in the adapter's precision (32 bits), and its own inner values, for every linear layer.
    """
    wide = shape.heads * shape.head_dim
    norms = 2 * shape.hidden * (4 + 2 * compute_bytes)
    attention = compute_bytes * (2 * wide + 2 * shape.kv_heads * shape.head_dim + 2 * wide)
    forward = compute_bytes * (4 if shape.gated else 2) * shape.intermediate
    adapters = (
        sum((4 * inputs + compute_bytes * lora_rank) * count for inputs, _, count in shape.adapted) / shape.layers
    )
    return norms + attention + forward + (adapters if lora_rank else 0)


def activation_bytes(
    shape: Shape, tokens: int, weight_bytes: int, compute_bytes: int, *, checkpointing: bool, lora_rank: int = 0
) -> float:
    """Activations of a micro-batch of `tokens` tokens.

    Without checkpointing those of all layers. With it the input of every layer, in the precision of the residual
    stream (that of the weights: autocast rounds products, not sums), and all of one layer, computed once more
    (arXiv 2205.05198, section 5).
    """
    layer = layer_activation_bytes(shape, compute_bytes, lora_rank) * tokens
    if not checkpointing:
        return layer * shape.layers
    return shape.layers * shape.hidden * max(weight_bytes, compute_bytes) * tokens + layer


def logits_bytes(lists: int, tokens: int, vocabulary: int, number_bytes: int) -> int:
    """Logits of whole lists, as a loss over all of the vocabulary would hold them.

    Example:
        >>> logits_bytes(16, 1024, 151_936, 2)  # 5 GB
        4978638848
    """
    return lists * tokens * vocabulary * number_bytes


def tiled_logits_bytes(shape: Shape, tokens: int, compute_bytes: int, *, head_is_trained: bool) -> float:
    """What TRL's loss holds of the vocabulary: one tile, and the gradients of hidden states and head in 32 bits.

    From trl/kernels/chunked_logprob.py: tiles of `TILE_TOKENS x TILE_VOCABULARY`, computed again for the backward pass.
    On a GPU a tile is worked on in place; the floats that a CPU makes of it are left out.
    """
    tile = min(tokens, TILE_TOKENS) * TILE_VOCABULARY * compute_bytes
    head = shape.vocabulary * shape.hidden * 4 if head_is_trained else 0
    return tile + tokens * shape.hidden * 4 + head


def kv_cache_bytes(shape: Shape, lists: int, tokens: int, number_bytes: int) -> int:
    """Keys and values of `lists` lists of `tokens` tokens: `2 layers kv_heads head_dim` numbers a token
    (arXiv 2211.05102, section 2)."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * lists * tokens * number_bytes


def prefill_bytes(shape: Shape, tokens: int, compute_bytes: int) -> float:
    """The prompts' one pass through a layer without gradients: the widest moment, that of gate, up and product, beside
    two residual streams in 32 bits. transformers' `generate` takes all prompts at once."""
    return tokens * (compute_bytes * (3 if shape.gated else 2) * shape.intermediate + 8 * shape.hidden)


# ---- Work and time ---------------------------------------------------------------------------------------------------


def forward_flops(shape: Shape, tokens: int, length: int, scored: int) -> float:
    """Floating point operations of a forward pass: two for each weight of a matrix and each token.

    Attention adds `2 layers length width` a token: it looks back at half of the sequence on average (PaLM, arXiv
    2204.02311, appendix B, with the causal half).

    Args:
        shape: of the model.
        tokens: of all sequences together.
        length: of one sequence, in tokens.
        scored: how many of the tokens are projected onto the vocabulary.
    """
    attention = 2.0 * shape.layers * length * shape.heads * shape.head_dim
    return tokens * (2.0 * shape.linear_parameters + attention) + scored * 2.0 * shape.hidden * shape.vocabulary


def training_flops(shape: Shape, tokens: int, length: int, *, checkpointing: bool, all_weights: bool) -> float:
    """Floating point operations of a forward and backward pass, all tokens scored.

    The backward pass is one forward pass for the gradients of activations, and one for those of weights where all are
    trained; the forward pass comes once more under checkpointing.
    """
    passes = 2 + all_weights + checkpointing
    return passes * forward_flops(shape, tokens, length, scored=tokens)


def decode_seconds(
    shape: Shape, lists: int, length: int, *, flops: float, bandwidth: float, step_overhead: float
) -> float:
    """Time of one more token for `lists` lists on one GPU.

    Weights and cache are read once, or the arithmetic takes longer (arXiv 2211.05102, section 2.1); then what the
    program around it costs a step. `flops` and `bandwidth` are those that are reached, a second.
    """
    read = (2 * shape.parameters + kv_cache_bytes(shape, lists, length, 2)) / bandwidth
    return max(read, 2 * shape.parameters * lists / flops) + step_overhead


def exchange_seconds(
    strategy: Strategy, trained: int, parameters: int, gradient_bytes: int, micro_batches: int, link: float
) -> float:
    """What the processes send each other in an optimizer step, at `link` bytes a second, if nothing hides behind it.

    Of each gradient twice its bytes are sent (ZeRO, arXiv 1910.02054, section 7): once a step under DDP, which waits
    for the last micro-batch, and for each of them under ZeRO and FSDP2. Where weights are spread, they are gathered for
    the forward and for the backward pass, and gradients sent once.
    """
    gradients = trained * gradient_bytes
    volume = {
        "single": 0,
        "ddp": 2 * gradients,
        "zero2": 2 * gradients * micro_batches,
        "zero3": (gradients + 2 * 2 * parameters) * micro_batches,
        "fsdp2": (gradients + 2 * 2 * parameters) * micro_batches,
    }[strategy]
    return volume / link


def optimizer_steps(dialogues: int, epochs: float, lists_a_step: int, lists_a_dialogue: int = 1, uses: int = 1) -> int:
    """Optimizer steps of a run: every dialogue is answered `lists_a_dialogue` times, and every list used `uses` times.

    Example:
        >>> optimizer_steps(383_013, 2, 384, 8)  # arXiv 2510.20150
        15960
    """
    return math.ceil(epochs * math.ceil(dialogues * lists_a_dialogue * uses / lists_a_step))
