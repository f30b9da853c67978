"""The GPU benchmark: shapes and operations counted by hand, and the whole of it on a tiny shape, without a GPU."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks import gpu, gpu_page
from benchmarks.grpo_step import SIDES
from benchmarks.synthetic import line_writing_tokenizer
from rankrl.grpo import LineTable, segment_ranks
from rankrl.plan.arithmetic import forward_flops
from rankrl.plan.shapes import shape_of

TINY = gpu.Sizes(size=8, prompt=16, line_tokens=2, micro_batch=8)
on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="what a GPU does takes minutes")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("qwen2.5-0.5b", 494_032_768), ("llama-3.2-1b", 1_235_814_400), ("llama-3.2-3b", 3_212_749_824)],
)
def test_a_shape_is_that_of_the_model_it_is_called_after(name: str, parameters: int) -> None:
    """The counts are those of the published models."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(gpu.shape(name))
    assert sum(weight.numel() for weight in model.parameters()) == parameters


def test_operations_are_counted_by_hand() -> None:
    """One layer, width 4, two heads of 2 and one for the keys, 8 inside, 10 words; 3 tokens of which 2 are a list.

    Weights: queries and output 2 x 4x4, keys and values 2 x 4x2, the rest 3 x 4x8: 32 + 16 + 96 = 144, twice for each
    token: 864. Attention: scores and their sum, 4 x 4 for each pair, and half of 9 pairs: 72. Logits: 2 x 4 x 10 for
    each token of the list: 160.
    """
    sizes = {"vocab_size": 10, "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1}
    config = Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1)
    shape = shape_of(config, "one layer")
    assert forward_flops(shape, 3, 3, scored=2) == 864 + 72 + 160

    sizes = gpu.Sizes(size=6, prompt=1, line_tokens=1)
    once = forward_flops(shape, 21, 21, scored=20)
    assert gpu.step_flops(shape, sizes, lora=False) == 6 * 5 * once, "written, scored, and learned from at three times"
    assert gpu.step_flops(shape, sizes, lora=True) == 6 * 4 * once


def test_random_tokens_write_lines() -> None:
    tokenizer = line_writing_tokenizer(5000, 10)
    assert len(tokenizer) == 5000
    assert tokenizer.decode(tokenizer.encode("Heat (1995)\nUp")) == "Heat (1995)\nUp"
    assert len(tokenizer.encode("Heat (1995)\nUp")) == len("Heat (1995)\nUp"), "one token a byte"
    torch.manual_seed(0)
    ids = torch.randint(1, 5000, (50, 200))
    units = segment_ranks(ids, torch.ones_like(ids), LineTable.from_tokenizer(tokenizer), 1000)
    assert units.amax(1).float().mean() == pytest.approx(20, abs=2)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading torch once more takes longer than all the steps."""
    monkeypatch.setattr(gpu, "in_own_process", lambda module, timeout, **settings: gpu.measure(**settings))


@on_cpu
@pytest.mark.usefixtures("in_this_process")
def test_it_runs_on_a_tiny_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "Sizes", lambda *_, **__: TINY)
    gpu.main(["--shape", "tiny", "--steps", "1", "--output", str(tmp_path)])

    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [(run["lora"], run["trainer"]) for run in found["runs"]] == [*product((True, False), SIDES)]
    for run in found["runs"]:
        assert sum(run[part] for part in gpu_page.PARTS) == pytest.approx(run["step"])
        assert all(run[part] > 0 for part in (*gpu_page.PARTS, "peak_memory", "flops"))
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert page == gpu_page.page(found)
    assert "no GPU, all in float32" in page
    assert "8 lists of 40 tokens after prompts of 16 tokens" in page


@on_cpu
def test_what_there_was_no_time_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--shape", "tiny", "--minutes", "-1"])
    assert capsys.readouterr().out.count("not run: the time was over") == 2 * len(gpu.arms(False)) * len(SIDES)


@on_cpu
def test_a_run_that_does_not_fit_is_said_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(side: str, policy: Path, clock: Any, *_: Any, **__: Any) -> None:
        if side == "GRPOTrainer":
            raise torch.OutOfMemoryError
        clock.steps.append({"step": 2.0, "generate": 1.0, "log-probabilities": 0.25, "reward": 0.25, "update": 0.5})

    monkeypatch.setattr(gpu, "timed_run", full)
    line_writing_tokenizer(600, 2).save_pretrained(tmp_path)
    figures = gpu.measure(str(tmp_path), 1, {"lora": True, "paged": False}, vars(TINY))
    assert figures["GRPOTrainer"] == {"failed": "out of memory"}
    assert figures["RankGRPOTrainer"]["step"] == 2.0


def test_the_page_compares_the_trainers_where_both_ran() -> None:
    parts = {"generate": 6.0, "log-probabilities": 1.0, "reward": 0.5, "update": 2.5, "peak_memory": 11.5}
    way = {"shape": "qwen2.5-0.5b", "lora": True, "paged": False, "memory": None, "flops": 4e15, **parts}
    other = {**way, "lora": False, "memory": 24}
    runs = [
        {**way, "trainer": "GRPOTrainer", "step": 10.0},
        {**way, "trainer": "RankGRPOTrainer", "step": 10.2},
        {**other, "trainer": "GRPOTrainer", "failed": "out of memory"},
        {**other, "trainer": "RankGRPOTrainer", "step": 9.0},
    ]
    protocol = {**vars(gpu.Sizes()), "completion": 200, "group": 8, "steps": 3}
    versions = {"torch": "2", "transformers": "5", "trl": "1"}
    report = {
        "command": "c",
        "machine": {"gpus": ["A GPU"]},
        "versions": versions,
        "protocol": protocol,
        "matmul_flops": 8e14,
    }
    page = gpu_page.page({**report, "runs": runs})

    lines = {line.strip("| ").split(" | ")[3].strip(): line for line in page.splitlines() if "| `" in line}
    assert lines["`RankGRPOTrainer`"].count("|") == lines["`GRPOTrainer`"].count("|") == 13
    trl = next(line for line in page.splitlines() if "`GRPOTrainer`" in line and "10.0" in line)
    # 128 lists of 200 tokens in 10 s; 4e15 operations in 10 s are 4e14 a second, half of what a product does.
    assert [cell.strip() for cell in trl.split("|")][5:13] == "10.0 2,560 6.000 1.000 0.500 2.500 11.5 50.0%".split()
    assert "out of memory" in page
    assert "LoRA, `generate`, no limit | 1.020 x | at most 1.05 | yes" in " ".join(page.split())
    assert "all, `generate`, 24 GiB |" not in page.split("A step of `RankGRPOTrainer`")[1]
