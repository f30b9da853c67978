"""The planner's formulas: answers worked by hand, and what must hold for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.plan.arithmetic import (
    Shape,
    activation_bytes,
    bytes_a_weight,
    communication_bytes,
    decode_seconds,
    exchange_seconds,
    forward_flops,
    kv_cache_bytes,
    layer_activation_bytes,
    logits_bytes,
    lora_parameters,
    optimizer_steps,
    quantised_bytes,
    shards,
    tiled_logits_bytes,
    training_flops,
)

# Two layers, four wide, two heads of two; one linear layer of 4 x 6 in each.
TOY = Shape(
    name="toy",
    parameters=100,
    linears=((4, 6, 2),),
    adapted=((4, 6, 2),),
    layers=2,
    hidden=4,
    intermediate=8,
    heads=2,
    kv_heads=1,
    head_dim=2,
    vocabulary=10,
)


def shape(**fields: Any) -> Shape:
    return Shape(**{**vars(TOY), **fields})


# ---- By hand ---------------------------------------------------------------------------------------------------------


def test_whole_logits_of_sixteen_lists_are_five_gigabytes() -> None:
    assert logits_bytes(16, 1024, 151_936, 2) == 16 * 1024 * 151_936 * 2 == 4_978_638_848


def test_lora_of_a_square_layer() -> None:
    """A: rank x inputs, B: outputs x rank, for three layers of 5 x 7 with rank 2: 2 (5 + 7) 3."""
    assert lora_parameters([(5, 7, 3)], 2) == 72


def test_four_bits_hold_the_linear_layers_alone() -> None:
    """48 of 100 weights in 4 bits with a 32-bit scale for 64, the other 52 in two bytes."""
    assert quantised_bytes(TOY, 4, 2) == pytest.approx(48 * (0.5 + 1 / 16) + 52 * 2)
    assert quantised_bytes(TOY, 8, 2) == 48 + 104


def test_sixteen_bytes_a_weight_in_mixed_precision() -> None:
    """Table 1 of the ZeRO paper: 2 + 2 + 12; and the same sum in 32 bits, where AdamW keeps two moments."""
    assert bytes_a_weight("zero2", 4, 2) == (2, 2, 12)
    assert bytes_a_weight("zero3", 2, 2) == (2, 2, 12)
    assert bytes_a_weight("fsdp2", 2, 2) == (4, 4, 8)
    assert bytes_a_weight("ddp", 4, 2) == (4, 4, 8)
    assert bytes_a_weight("single", 2, 2) == (2, 2, 4), "rounded: no master copy"


def test_who_spreads_what() -> None:
    assert [shards(strategy, 8) for strategy in ("single", "ddp", "zero2", "zero3", "fsdp2")] == [
        *((1, 1), (1, 1), (1, 8), (8, 8), (8, 8))
    ]
    assert communication_bytes("ddp", 100, 4, 10) == 400
    assert communication_bytes("zero2", 10**10, 2, 10) == 2 * 500_000_000 * 2
    assert communication_bytes("zero3", 100, 2, 10) == 40
    assert communication_bytes("single", 100, 4, 10) == 0


def test_what_a_token_leaves_in_a_layer() -> None:
    """Norms: 2 x 4 x (4 + 2 x 2) = 64. Attention: q 4, k and v 4, both repeated 8, out 4: 20 numbers. MLP: 4 x 8."""
    assert layer_activation_bytes(TOY, 2) == 64 + 2 * 20 + 2 * 32
    assert layer_activation_bytes(shape(gated=False), 2) == layer_activation_bytes(TOY, 2) - 32
    # one adapted layer in each: its input in 32 bits, and `rank` inner values
    assert layer_activation_bytes(TOY, 2, lora_rank=3) - layer_activation_bytes(TOY, 2) == 4 * 4 + 2 * 3


def test_checkpointing_keeps_the_inputs_and_one_layer() -> None:
    layer = layer_activation_bytes(TOY, 2)
    assert activation_bytes(TOY, 5, 4, 2, checkpointing=False) == 2 * layer * 5
    assert activation_bytes(TOY, 5, 4, 2, checkpointing=True) == 5 * (2 * 4 * 4 + layer)


def test_a_tile_of_logits_however_many_there_are() -> None:
    tile = 4096 * 32_768 * 2
    assert tiled_logits_bytes(TOY, 10_000, 2, head_is_trained=False) == tile + 10_000 * 4 * 4
    assert tiled_logits_bytes(TOY, 10_000, 2, head_is_trained=True) == tile + 10_000 * 4 * 4 + 10 * 4 * 4
    assert tiled_logits_bytes(TOY, 1, 2, head_is_trained=False) == 32_768 * 2 + 16


def test_keys_and_values_of_qwen() -> None:
    """2 x 24 layers x 2 heads x 64 = 6,144 numbers, 12,288 bytes, for each token."""
    qwen = shape(layers=24, kv_heads=2, head_dim=64)
    assert kv_cache_bytes(qwen, 1, 1, 2) == 12_288
    assert kv_cache_bytes(qwen, 384, 1344, 2) == 384 * 1344 * 12_288


def test_work_is_six_operations_for_each_weight_and_token() -> None:
    """Two layers of 4 x 6, and a head of 4 x 10."""
    attention = 2 * 2 * 7 * 4  # 2 x layers x length x width, forward
    once = 2 * 48 + attention + 2 * 40
    assert forward_flops(TOY, 1, 7, scored=1) == once
    assert forward_flops(TOY, 3, 7, scored=1) == 3 * (2 * 48 + attention) + 2 * 40
    assert training_flops(TOY, 1, 7, checkpointing=False, all_weights=True) == 3 * once
    assert training_flops(TOY, 1, 7, checkpointing=True, all_weights=True) == 4 * once
    assert training_flops(TOY, 1, 7, checkpointing=False, all_weights=False) == 2 * once


def test_decoding_waits_for_memory_or_for_arithmetic() -> None:
    """200 bytes of weights and 2 x 2 x 1 x 2 x 2 = 16 of cache a token; 200 operations a list."""
    speed = {"flops": 1e9, "bandwidth": 100.0, "step_overhead": 0.5}
    assert decode_seconds(TOY, 1, 10, **speed) == pytest.approx((200 + 160) / 100 + 0.5)
    assert decode_seconds(TOY, 8, 0, **{**speed, "flops": 100.0}) == pytest.approx(16 + 0.5)


def test_what_is_sent_in_a_step() -> None:
    """10 trained weights of 100, 4 bytes each, three micro-batches, one byte a second."""
    sent = {name: exchange_seconds(name, 10, 100, 4, 3, 1.0) for name in ("single", "ddp", "zero2", "zero3", "fsdp2")}
    spread = (40 + 400) * 3
    assert sent == {"single": 0, "ddp": 80, "zero2": 240, "zero3": spread, "fsdp2": spread}


def test_the_steps_of_the_paper() -> None:
    """383,013 dialogues x 8 lists / 384 = 7,979.4: 7,980 steps an epoch; SFT: 95,753 / 384 = 250, six times."""
    assert optimizer_steps(383_013, 2, 384, 8) == 15_960
    assert optimizer_steps(95_753, 6, 384) == 1500
    assert optimizer_steps(383_013, 2, 384, 8, uses=2) == 2 * 15_959, "15,958.9 an epoch"


# ---- For all ---------------------------------------------------------------------------------------------------------

SIZES = st.integers(1, 5000)


@given(SIZES, SIZES, st.booleans(), st.sampled_from([0, 16]))
def test_more_tokens_never_take_less(tokens: int, more: int, checkpointing: bool, rank: int) -> None:
    few, many = (
        activation_bytes(TOY, number, 4, 2, checkpointing=checkpointing, lora_rank=rank)
        + tiled_logits_bytes(TOY, number, 2, head_is_trained=True)
        for number in (tokens, tokens + more)
    )
    assert few < many


@given(SIZES, SIZES, st.sampled_from(["layers", "hidden", "intermediate", "heads", "kv_heads"]))
def test_a_larger_model_never_takes_less(size: int, more: int, field: str) -> None:
    small, large = shape(**{field: size}), shape(**{field: size + more})
    for held in (
        lambda s: activation_bytes(s, 7, 4, 2, checkpointing=False),
        lambda s: activation_bytes(s, 7, 4, 2, checkpointing=True),
        lambda s: kv_cache_bytes(s, 3, 7, 2),
    ):
        assert held(small) <= held(large)


@given(st.integers(2, 60), st.integers(1, 100))
def test_checkpointing_never_takes_more_than_keeping_all(layers: int, tokens: int) -> None:
    deep = shape(layers=layers)
    kept = activation_bytes(deep, tokens, 2, 2, checkpointing=False)
    assert activation_bytes(deep, tokens, 2, 2, checkpointing=True) <= kept
