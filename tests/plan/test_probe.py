"""A probe runs the recipe as a user would, says how long the whole run would take, and leaves nothing behind."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rankrl.data import save_dialogues
from rankrl.data.simulation import simulate
from rankrl.grpo.step_clock import PHASES
from rankrl.plan import timed
from rankrl.plan.estimate import Setup
from rankrl.plan.probe import (
    Probe,
    RunLength,
    launcher,
    require_planned,
    rollout_cycle,
    run_probe,
    steps_to_run,
)
from rankrl.plan.settings import Cluster
from rankrl.plan.stand_in import stand_in
from rankrl.run.models import load_policy, load_tokenizer
from rankrl.run.tiny_gpt2 import build_tiny_gpt2
from tests import tiny
from tests.launch.launcher import environment, finished

REPOSITORY = Path(__file__).resolve().parents[2]
SFT, RANK_GRPO = (str(REPOSITORY / "recipes" / "configs" / "demo" / f"{stage}.yaml") for stage in ("sft", "rank_grpo"))
SMALL = (
    "--num_ranks 3 --num_generations 2 --per_device_train_batch_size 4 --use_peft false --learning_rate 1e-3".split()
)


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Catalogue and training dialogues on disk, as flags; four further dialogues lie beside them."""
    data = simulate(6, 0, 4, seed=0, num_ranks=3, num_items=50)
    data.catalog.save(tmp_path / "catalog.jsonl")
    save_dialogues(tmp_path / "train.jsonl", data.train)
    save_dialogues(tmp_path / "test.jsonl", data.test)
    return ["--catalog", str(tmp_path / "catalog.jsonl"), "--dialogues", str(tmp_path / "train.jsonl")]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


# ---- Real runs -------------------------------------------------------------------------------------------------------


def test_two_steps_of_stage_one(data: list[str], temporary: Path, tmp_path: Path) -> None:
    before = sorted(REPOSITORY.iterdir())
    output = ["--output_dir", str(tmp_path / "run")]
    probe = run_probe("sft", SFT, [*data, *output, "--num_ranks", "3"], 2, root=REPOSITORY)
    assert len(probe.steps) == 2
    assert min(probe.steps) > 0
    assert probe.saving > 0
    assert (probe.phases, probe.dialogues, probe.gpu_peak) == ([], 6, 0)
    assert (probe.processes, probe.strategy, probe.device) == (1, "single", "CPU")
    assert 1e8 < probe.host_peak < 1e11
    assert sorted(REPOSITORY.iterdir()) == before
    assert not (tmp_path / "run").exists()
    assert list(temporary.iterdir()) == []


def test_three_steps_of_stage_two(data: list[str], temporary: Path, tmp_path: Path) -> None:
    """Two updates on each rollout: the first step and the third write lists, the second writes none."""
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("catalog.jsonl", "train.jsonl")]
    build_tiny_gpt2(tmp_path / "tiny", texts, vocab_size=600, context=256, layers=2, width=32, heads=2)
    flags = ["--model_name_or_path", str(tmp_path / "tiny"), "--output_dir", str(tmp_path / "run"), "--keep_every", "7"]
    flags += ["--save_total_limit", "1", "--save_strategy", "steps", "--save_steps", "7", "--num_iterations", "2"]
    probe = run_probe("rank_grpo", RANK_GRPO, [*data, *SMALL, *flags], 3, root=REPOSITORY)
    assert len(probe.steps) == len(probe.phases) == 3
    assert [set(phases) for phases in probe.phases] == [set(PHASES)] * 3
    for step, phases in zip(probe.steps, probe.phases, strict=True):
        assert sum(phases.values()) == pytest.approx(step, rel=0.05, abs=0.02)
    assert probe.phases[1]["generate"] < 0.2 * min(probe.phases[0]["generate"], probe.phases[2]["generate"])
    assert not (tmp_path / "run").exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.launch
def test_random_weights_in_two_processes(data: list[str], temporary: Path, tmp_path: Path) -> None:
    """No weights, no tokenizer: a config is enough, and what joined is what the accelerate config starts."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 512}
    config = LlamaConfig(vocab_size=600, num_attention_heads=2, num_key_value_heads=1, **sizes)
    config.save_pretrained(tmp_path / "config_alone")
    flags = ["--model_name_or_path", str(tmp_path / "config_alone"), "--validation", str(tmp_path / "test.jsonl")]
    flags += ["--use_cpu", "true", "--bf16", "false", "--output_dir", str(tmp_path / "run"), "--max_steps", "90"]
    flags += ["--validate_steps", "10", "--save_strategy", "steps", "--save_steps", "30", "--num_iterations", "1"]
    launch = ["--accelerate", "accelerate_configs/multi_cpu.yaml", "--probe", "2"]
    command = [sys.executable, "-m", "rankrl.plan", "--config", RANK_GRPO, *launch, *data, *SMALL, *flags]
    printed = " ".join(finished(command, environment()).split())
    assert "probe: 2 steps on 2 x CPU (ddp). The first took" in printed
    assert "generate" in printed
    assert ", a validation " in printed
    assert "90 steps would take" in printed
    assert " 10 validations " in printed
    assert " 3 checkpoints " in printed
    assert not (tmp_path / "run").exists()
    assert list(temporary.iterdir()) == []


def test_a_recipe_that_fails_says_why(tmp_path: Path) -> None:
    flags = ["--catalog", str(tmp_path / "none.jsonl"), "--dialogues", "none"]
    with pytest.raises(RuntimeError, match=r"(?s)the probe ended with status 1:.*none\.jsonl"):
        run_probe("sft", SFT, flags, 1, root=REPOSITORY)


# ---- What is measured, and what is made of it ------------------------------------------------------------------------


def test_a_step_is_told_from_what_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 1 and 2 s; then a validation of 3 s, logging, and a checkpoint of 5 s, which the clock asks for."""
    times = iter([0.0, 1.0, 1.5, 2.0, 10.0, 12.0, 15.0, 16.0, 21.0])
    monkeypatch.setattr(timed, "_now", lambda: next(times))
    clock, control = timed.RunClock(Path("unused")), SimpleNamespace(should_save=False)
    for step in (1, 2):
        assert not control.should_save
        clock.on_step_begin()
        clock.on_optimizer_step()
        clock.on_step_end(None, SimpleNamespace(global_step=step, max_steps=2), control)
        clock.on_log()
    assert control.should_save
    clock.on_save()
    assert (clock._steps, clock._after_step, clock._saving) == ([1.0, 2.0], 3.0, 5.0)


def measured(*steps: float, **seen: float) -> Probe:
    values = {"after_step": 0.0, "saving": 0.0, "dialogues": 8, "host_peak": 2_500_000_000, **seen}
    return Probe(steps, [], **values, processes=1, strategy="single", device="CPU")  # type: ignore[arg-type]


def test_the_first_step_is_left_out_of_the_mean() -> None:
    """10 s to warm up, then 4 and 6: 10 + 1,799 x 5 s; ten validations of 36 s, five checkpoints of 72 s."""
    probe = measured(10.0, 4.0, 6.0, after_step=36.0, saving=72.0)
    hours = probe.hours(RunLength(1800, 10, 5), cycle=1)
    assert hours["training"] == pytest.approx((10 + 1799 * 5) / 3600)
    assert (hours["fastest"], hours["slowest"]) == pytest.approx(((10 + 1799 * 4) / 3600, (10 + 1799 * 6) / 3600))
    assert (hours["validation"], hours["saving"]) == pytest.approx((0.1, 0.1))
    words = probe.in_words(RunLength(1800, 10, 5))
    assert "3 steps on 1 x CPU (single). The first took 10 s, then 5 s a step, from 4 to 6." in words
    assert "A checkpoint took 72 s, a validation 36 s. Peak memory of a process: host 2.50 GB." in words
    assert "1,800 steps would take 2.50 hours (2.00 to 3.00 if" in words
    assert words.endswith("10 validations 0.10, 5 checkpoints 0.10: 2.70 hours in all, loading apart.")


def test_a_rollout_is_spread_over_the_steps_that_use_it() -> None:
    """Two updates on each rollout: 1 s without one, 5 s with one, in whichever order: 3 s a step, and no spread."""
    probe = measured(20.0, 1.0, 5.0, 1.0, 5.0)
    assert probe.rounds(2) == [3.0, 3.0]
    assert "then 3 s a step, from 3 to 3, means of 2 rounds of 2 steps with one rollout." in probe.in_words(
        RunLength(9), 2
    )


def test_a_probe_that_was_stopped_early_says_so() -> None:
    with pytest.raises(
        RuntimeError, match=r"stopped after 1 steps; one that warms up and 1 more are needed\. An alarm"
    ):
        measured(3.0).in_words(RunLength(9))
    with pytest.raises(RuntimeError, match="stopped after 2 steps; one that warms up and 2 more"):
        measured(3.0, 1.0).in_words(RunLength(9), cycle=2)


@pytest.mark.parametrize(
    ("sizes", "cycle", "steps"),
    [
        ({"rollout": 8}, 1, 3),  # 4 lists, two micro-batches a step: all of a step at once
        ({"rollout": 4}, 1, 3),  # twice a step
        ({"rollout": 8, "uses": 2}, 2, 3),
        ({"rollout": 8, "uses": 4}, 4, 5),
        ({"rollout": 12}, 3, 4),  # three micro-batches at once, two in a step: in step only every third step
    ],
)
def test_whole_rounds_are_probed(sizes: dict[str, int], cycle: int, steps: int) -> None:
    setup = Setup("rank_grpo", batch=4, accumulation=2, **sizes)  # type: ignore[arg-type]
    assert rollout_cycle(setup) == cycle
    assert steps_to_run(3, cycle) == steps
    assert steps_to_run(1, cycle) == 1 + cycle, "a first step alone says nothing"
    assert rollout_cycle(Setup("sft", batch=4, accumulation=2)) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"save_strategy": "steps", "save_steps": 30}, RunLength(100, 0, 4)),  # the last one too
        ({"save_strategy": "steps", "save_steps": 0.1}, RunLength(100, 0, 10)),
        ({"save_strategy": "epoch"}, RunLength(100, 0, 2)),
        ({"save_strategy": "no"}, RunLength(100, 0, 0)),
        ({"save_strategy": "no", "validation": "v.jsonl", "validate_steps": 30}, RunLength(100, 5, 0)),
    ],
)
def test_what_a_run_consists_of(settings: dict[str, object], expected: RunLength) -> None:
    given = {"save_steps": 500, "num_train_epochs": 2.0, **settings}
    settings = Namespace(**given, checked=[None, SimpleNamespace(**given)])
    assert RunLength.of(settings, 100, steps_an_epoch=60) == expected


def test_a_tokenizer_beside_the_config_is_the_model_s_own(tmp_path: Path, tiny_llama: LlamaForCausalLM) -> None:
    """Both without weights: prompts are as long as the model's own."""
    own = tiny.gpt2_tokenizer()
    own.save_pretrained(tmp_path)
    tiny_llama.config.save_pretrained(tmp_path)
    with stand_in(Namespace(model_name_or_path=str(tmp_path))) as (flag, folder):
        assert flag == "--model_name_or_path"
        assert load_tokenizer(folder).get_vocab() == own.get_vocab()
        assert load_policy(folder).config.vocab_size == tiny_llama.config.vocab_size
    assert not Path(folder).exists()


# ---- Where it runs ---------------------------------------------------------------------------------------------------


def test_outside_the_repository(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="from the root of the repository"):
        run_probe("sft", "sft.yaml", [], 1, root=tmp_path)


def test_how_processes_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert launcher(None, Cluster()) == []
    words = launcher("accelerate_configs/zero2.yaml", Cluster(8, "zero2"))
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert words[3:7] == ["--config_file", "accelerate_configs/zero2.yaml", "--num_processes", "8"]


def test_what_cannot_be_probed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"runs on one machine, and 2 are planned\. Probe one of them \(--nodes 1"):
        launcher("multi_node.yaml", Cluster(16, "ddp", nodes=2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"8 processes are planned, and this machine has 1 GPUs.*Say --gpus 1"):
        launcher("zero2.yaml", Cluster(8, "zero2"))
    assert launcher("multi_cpu.yaml", Cluster(2, "ddp"), use_cpu=True)


def test_what_joined_has_to_be_what_was_planned() -> None:
    require_planned(measured(1.0), Cluster())
    with pytest.raises(RuntimeError, match="2 processes that share the model by ddp, but what joined were 1 by single"):
        require_planned(measured(1.0), Cluster(2, "ddp"))
