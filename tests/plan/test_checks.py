"""What is known to go wrong is said, once, with what to change; what works is left alone."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rankrl.plan.arithmetic import Shape
from rankrl.plan.checks import findings, require_whole_groups
from rankrl.plan.estimate import DEVICES, Setup, memory, peak

QWEN = Shape(
    "qwen",
    494_032_768,
    ((896, 896, 48), (896, 128, 48), (896, 4864, 48), (4864, 896, 24)),
    ((896, 896, 48),),
    *(24, 896, 4864, 14, 2, 64, 151_936),
)
GOOD = Setup("rank_grpo", strategy="ddp", processes=8, batch=4, accumulation=12, rollout=48, generations=8)
H100 = DEVICES["h100"]


def said(setup: Setup, **settings: Any) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in findings(QWEN, setup, H100, **settings)]


def test_a_good_setup_is_left_alone() -> None:
    assert said(GOOD) == []
    assert said(replace(GOOD, engine="colocate"), engine_length=4096) == []


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({"strategy": "zero3", "gathers": False}, "stop", "step 0 of such a run took ten hours"),
        ({"strategy": "fsdp2"}, "stop", "under FSDP2 transformers' generate gathers every layer again"),
        ({"strategy": "zero3"}, "warning", "the model has to fit whole all the same"),
        ({"rounds": 9}, "warning", "a rollout takes up to 10 times as long as planned"),
        (
            {"strategy": "fsdp2", "engine": "colocate", "bits": 4, "lora_rank": 8},
            *("stop", "QLoRA + FSDP2 + vLLM: the adapter cannot be merged"),
        ),
        ({"engine": "server", "bits": 4, "lora_rank": 8}, "stop", "Set use_vllm: false, or take LoRA on dtype"),
        ({"engine": "colocate", "engine_share": 0.01}, "stop", "weights and the cache of one list take 1.0 GB"),
        ({"weight_bytes": 2}, "warning", "updates of a rate like 1e-6 are rounded away. Set dtype: float32"),
        ({"strategy": "zero3", "engine": "colocate"}, "warning", r"multi_gpu.yaml (DDP) exchanges gradients alone"),
    ],
)
def test_a_bad_combination_is_named(changes: dict[str, Any], level: str, text: str) -> None:
    matching = [found for found in said(replace(GOOD, **changes)) if text in found[1]]
    assert [found[0] for found in matching] == [level]


def test_sft_generates_nothing_that_could_crawl() -> None:
    assert said(replace(GOOD, stage="sft", strategy="zero3", gathers=False, completion=64))[0][0] == "warning"


def test_an_engine_that_is_too_short() -> None:
    ((level, text),) = said(replace(GOOD, engine="colocate"), engine_length=1000)
    assert level == "stop"
    assert "vllm_max_model_length is 1000, but a prompt of 1024 tokens and a list of 320 need 1344" in text


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"rollout": 4000}, "The largest part is prompts in one pass (148.9 GB): set steps_per_generation"),
        ({"batch": 800}, "halve per_device_train_batch_size (800) and double gradient_accumulation_steps"),
        ({"batch": 100, "checkpointing": False}, "set gradient_checkpointing: true"),
        ({"engine": "colocate", "engine_share": 0.95}, "lower vllm_gpu_memory_utilization"),
    ],
)
def test_what_does_not_fit_is_told_what_to_lower(changes: dict[str, Any], advice: str) -> None:
    (level, text), *_ = said(replace(GOOD, **changes))
    assert level == "stop"
    assert text.startswith("it does not fit: ")
    assert advice in text


def test_what_may_come_out_larger_than_planned_is_tight() -> None:
    """A GPU that holds the plan and an eighth more; vLLM's share stays what it is, and SFT was measured closer."""
    for setup in (GOOD, replace(GOOD, engine="colocate", engine_share=0.3)):
        parts = memory(QWEN, setup, H100)
        engine = sum(part.bytes for part in parts if part.name == "vLLM")
        needed = peak(parts) - engine
        for factor, expected in ((1.125, ["warning"]), (1.26, [])):
            gpu = replace(H100, memory=factor * needed + engine)
            share = replace(setup, engine_share=engine / gpu.memory)
            found = [finding for finding in findings(QWEN, share, gpu) if "it is tight" in finding.text]
            assert [finding.level for finding in found] == expected
    assert not [text for _, text in said(replace(GOOD, stage="sft")) if "it is tight" in text]


def test_states_that_do_not_fit_are_told_to_spread() -> None:
    small = replace(H100, memory=8e9)
    texts = [finding.text for finding in findings(QWEN, replace(GOOD, batch=1, rollout=1), small)]
    assert "train an adapter (use_peft: true), load the model in 16 bits or in 4, or spread it" in texts[0]


def test_logits_over_budget() -> None:
    anchored = replace(GOOD, stage="sft", whole_logits=True, batch=32)
    assert any("vocabulary logits take" in text and "151,936" in text for _, text in said(anchored))
    at_once = replace(GOOD, rollout=12_000, prompt=4, completion=4)  # 12,000 x 151,936 x 12 bytes: 21.9 GB
    ((level, text),) = said(at_once)
    assert level == "warning"
    assert text.startswith("next-token logits take 21.9 GB, more than a quarter of a GPU")
    assert text.endswith("Halve steps_per_generation.")


# ---- Groups ----------------------------------------------------------------------------------------------------------


def batch(**changes: int | None) -> SimpleNamespace:
    values = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "num_generations": 8}
    return SimpleNamespace(**{**values, "steps_per_generation": None, "generation_batch_size": None, **changes})


def test_whole_groups_pass() -> None:
    require_whole_groups(batch(), 4)  # 24 lists, 3 dialogues
    require_whole_groups(batch(steps_per_generation=8), 1)
    require_whole_groups(batch(generation_batch_size=24), 1)


def test_half_a_group_is_refused_with_numbers_that_would_do() -> None:
    """6 lists on one process: no group of 8; four times as many are 24."""
    with pytest.raises(ValueError, match=r"the 6 lists .*\(1 processes x .*_size 3 x 2 micro-batches\)"):
        require_whole_groups(batch(), 1)
    with pytest.raises(ValueError, match=r"among \[2, 3, 6\], or 4 times .*: gradient_accumulation_steps 8\."):
        require_whole_groups(batch(), 1)
    with pytest.raises(ValueError, match="generation_batch_size is 24, which 5 processes .* a multiple of 15"):
        require_whole_groups(batch(generation_batch_size=24), 5)
