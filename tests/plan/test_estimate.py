"""Parts of a GPU's memory and of a step's time, put together: hand-worked cases, and what holds for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.plan.arithmetic import Shape
from rankrl.plan.estimate import DEVICES, Part, Setup, count_steps, memory, peak, states, step_time

SMALL = Shape("small", 10_000, ((40, 50, 4),), ((40, 50, 4),), 2, 40, 80, 4, 2, 10, 100)
H100 = DEVICES["h100"]
STRATEGIES = st.sampled_from(["single", "ddp", "zero2", "zero3", "fsdp2"])


def held(parts: list[Part]) -> dict[str, float]:
    return {part.name: part.bytes for part in parts}


def bytes_of_states(**settings: Any) -> float:
    """Weights, gradients and optimizer; not the buffers of an exchange."""
    parts = held(states(SMALL, Setup("rank_grpo", **settings)))
    return sum(parts.values()) - parts.get("exchange buffers", 0)


# ---- By hand ---------------------------------------------------------------------------------------------------------


def test_sixteen_bytes_for_each_weight_and_four_for_the_reference() -> None:
    parts = held(states(SMALL, Setup("rank_grpo", kl=True)))
    assert parts == {"weights": 40_000, "KL reference": 40_000, "optimizer": 80_000, "gradients": 40_000}


def test_lora_trains_few_and_needs_no_second_model() -> None:
    """Rank 2 on four layers of 40 x 50: 720 weights, 16 bytes each."""
    parts = held(states(SMALL, Setup("rank_grpo", kl=True, lora_rank=2, weight_bytes=2)))
    assert parts == {"weights": 20_000, "adapters": 2880, "optimizer": 5760, "gradients": 2880}


def test_machines_exchange_over_the_network() -> None:
    """As many GPUs, on one machine and on two: 25 GB a second instead of 300."""
    setup = Setup("sft", strategy="ddp", processes=8)
    near, far = (step_time(SMALL, replace(setup, nodes=nodes), H100).sync for nodes in (1, 2))
    assert far == pytest.approx(12 * near)


def test_qlora_rounds_the_model_and_the_adapters() -> None:
    """8,000 weights in 4 bits and 2,000 in two bytes; TRL keeps the adapters on them in two bytes."""
    parts = held(states(SMALL, Setup("rank_grpo", lora_rank=2, weight_bytes=2, bits=4)))
    assert parts == {"weights": 8000 * 0.5625 + 4000, "adapters": 1440, "optimizer": 2880, "gradients": 1440}


def test_what_eight_processes_share() -> None:
    spread = {"processes": 8}
    assert bytes_of_states(strategy="ddp", **spread) == 160_000
    assert bytes_of_states(strategy="zero2", **spread) == 20_000 + 140_000 / 8
    assert bytes_of_states(strategy="zero3", **spread) == 160_000 / 8
    assert bytes_of_states(strategy="fsdp2", **spread) == 160_000 / 8
    assert bytes_of_states(strategy="zero3", offload=True, **spread) == 20_000 / 8


def test_moments_of_eight_bits() -> None:
    assert bytes_of_states(moment_bytes=2.0) == 100_000
    assert bytes_of_states(moment_bytes=2.0, strategy="zero2") == 100_000, "the master copy stays"


def test_vllm_takes_its_share_and_a_server_nothing() -> None:
    for sleeps, when in ((False, "always"), (True, "rollout")):
        setup = Setup("rank_grpo", engine="colocate", engine_share=0.5, engine_sleeps=sleeps)
        (part,) = (part for part in memory(SMALL, setup, H100) if part.name == "vLLM")
        assert (part.bytes, part.when) == (40e9, when)
    server = held(memory(SMALL, Setup("rank_grpo", engine="server"), H100))
    assert not {"vLLM", "KV cache"} & server.keys()


def test_what_vllm_takes_is_its_own_to_fragment() -> None:
    colocated, server = (
        held(memory(SMALL, Setup("rank_grpo", engine=engine), H100)) for engine in ("colocate", "server")
    )
    assert colocated["CUDA and fragmentation"] == pytest.approx(server["CUDA and fragmentation"], abs=1)


def test_autocast_keeps_rounded_weights_of_what_is_computed() -> None:
    """8,000 weights in two bytes; frozen ones under checkpointing only of the layer at hand, one of two."""
    setup = Setup("rank_grpo", weight_bytes=4, compute_bytes=2)
    for changes, expected in (
        ({}, 16_000),
        ({"lora_rank": 2, "checkpointing": False}, 16_000),
        ({"lora_rank": 2, "checkpointing": True}, 8000),
    ):
        assert held(memory(SMALL, replace(setup, **changes), H100))["weights rounded for bf16"] == expected


def test_zero3_gathers_the_weights_for_a_rollout_unless_told_not_to() -> None:
    setup = Setup("rank_grpo", strategy="zero3", processes=8, compute_bytes=2)
    assert held(memory(SMALL, setup, H100))["weights gathered"] == 20_000
    for other in (replace(setup, gathers=False), replace(setup, strategy="zero2"), replace(setup, engine="server")):
        assert "weights gathered" not in held(memory(SMALL, other, H100))


def test_the_worst_moment_is_an_update_or_a_rollout() -> None:
    assert peak([Part("a", 1, "always"), Part("b", 5, "update"), Part("c", 2, "rollout"), Part("d", 4, "rollout")]) == 7


def test_sft_writes_no_lists() -> None:
    time = step_time(SMALL, Setup("sft"), H100)
    assert (time.rollout, time.scoring, time.sync) == (0, 0, 0)
    assert time.update > 0
    assert not {"KV cache", "next-token logits"} & held(memory(SMALL, Setup("sft"), H100)).keys()


def test_a_run_is_as_long_as_it_says() -> None:
    setup = Setup("rank_grpo", batch=16, accumulation=6, processes=4, generations=8)
    assert count_steps(setup, 383_013, 2) == 15_960
    assert count_steps(setup, 383_013, 2, max_steps=3) == 3
    assert count_steps(replace(setup, uses=2), 383_013, 2) == 2 * 15_959, "every list is trained on twice"
    assert count_steps(setup, None, 2) is None
    assert count_steps(setup, 383_013, 2, max_lists=3841) == 11  # 384 lists a step
    assert count_steps(replace(setup, uses=2), None, 2, max_lists=3840) == 20, "each trained on twice"
    assert count_steps(setup, None, 2, max_steps=3, max_lists=3840) == 3


def test_a_step_at_once_decodes_faster_than_in_parts() -> None:
    """Weights are read once for each token step, however many lists there are."""
    setup = Setup("rank_grpo", batch=4, accumulation=8, rollout=32)
    parts, whole = (step_time(SMALL, replace(setup, rollout=rollout), H100).rollout for rollout in (4, 32))
    assert 4 < parts / whole < 8.01


# ---- For all ---------------------------------------------------------------------------------------------------------


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    engine = draw(st.sampled_from(["generate", "batching", "server"]))
    return Setup(
        draw(st.sampled_from(["sft", "rank_grpo"])),
        strategy=draw(STRATEGIES),
        processes=draw(st.integers(1, 64)),
        lora_rank=draw(st.sampled_from([0, 8])),
        weight_bytes=draw(st.sampled_from([2, 4])),
        kl=draw(st.booleans()),
        batch=draw(st.integers(1, 32)),
        rollout=draw(st.integers(1, 400)),
        prompt=draw(st.integers(1, 2048)),
        completion=draw(st.integers(1, 1024)),
        checkpointing=draw(st.booleans()),
        whole_logits=draw(st.booleans()),
        engine=engine,
    )


@given(setups(), st.sampled_from(["batch", "rollout", "prompt", "completion", "lora_rank"]), st.integers(1, 100))
def test_more_of_anything_never_needs_less(setup: Setup, field: str, more: int) -> None:
    if field == "lora_rank" and not setup.lora_rank:
        return
    larger = replace(setup, **{field: getattr(setup, field) + more})
    assert peak(memory(SMALL, setup, H100)) <= peak(memory(SMALL, larger, H100))


@given(setups(), st.integers(2, 10))
def test_a_larger_model_never_needs_less(setup: Setup, times: int) -> None:
    sizes = {"parameters": SMALL.parameters * times, "linears": ((40, 50, 4 * times),)}
    larger = replace(SMALL, **sizes, intermediate=SMALL.intermediate * times)
    assert peak(memory(SMALL, setup, H100)) <= peak(memory(larger, setup, H100))
    assert step_time(SMALL, setup, H100).total < step_time(larger, setup, H100).total


@given(st.integers(1, 64), st.sampled_from([0, 8]), st.booleans())
def test_spreading_never_needs_more_for_states(processes: int, rank: int, kl: bool) -> None:
    """With weights in 32 bits at rest. In 16 bits DDP rounds what ZeRO keeps a master copy of: see the next test."""
    of = {
        strategy: bytes_of_states(strategy=strategy, processes=processes, lora_rank=rank, kl=kl)
        for strategy in ("ddp", "zero2", "zero3", "fsdp2")
    }
    for less, more in (("zero3", "zero2"), ("zero2", "ddp"), ("zero3", "fsdp2"), ("fsdp2", "ddp")):
        assert of[less] <= of[more] * (1 + 1e-9), f"{less} against {more}"


def test_rounding_everything_needs_less_than_one_share_of_zero() -> None:
    assert bytes_of_states(weight_bytes=2) == 80_000
    assert bytes_of_states(weight_bytes=2, strategy="zero3") == 160_000


@given(setups(), st.integers(1, 8))
def test_a_batch_twice_as_large_takes_no_longer_for_each_list(setup: Setup, times: int) -> None:
    larger = replace(setup, accumulation=times, rollout=setup.rollout)
    assert step_time(SMALL, larger, H100).total <= times * step_time(SMALL, setup, H100).total * (1 + 1e-9)


def test_a_tenth_of_the_worst_moment_is_left_to_the_allocator() -> None:
    assert {part.when for part in memory(SMALL, Setup("rank_grpo"), H100)} == {"always", "update", "rollout"}
    assert memory(SMALL, Setup("rank_grpo"), H100)[-1].bytes == pytest.approx(
        1.5e9 + 0.1 * peak(memory(SMALL, Setup("rank_grpo"), H100)[:-1])
    )
