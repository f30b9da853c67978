"""A YAML, flags and an accelerate config become the numbers that a plan is made of."""

from __future__ import annotations

from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from rankrl.plan.estimate import Setup
from rankrl.plan.settings import Cluster, make_setup, moment_bytes, parse, read_cluster, stage_of, usual_lengths
from rankrl.run.stages import STAGES
from recipes import rank_grpo, sft

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "recipes" / "configs"
ENGINES = REPOSITORY / "accelerate_configs"


def setup_of(name: str, *flags: str, cluster: Cluster | None = None) -> Setup:
    cluster = cluster or Cluster()
    stage = stage_of(name)
    return make_setup(stage, parse(stage, str(CONFIGS / name), flags, cluster), cluster, context=32_768)


@pytest.mark.parametrize(("stage", "recipe"), [("sft", sft), ("rank_grpo", rank_grpo)])
def test_a_stage_has_the_arguments_that_its_recipe_takes(stage: Any, recipe: Any) -> None:
    """A recipe with one more group of arguments has to be followed by its parser, and so by the plan."""
    taken = [
        parameter
        for parameter in signature(recipe.main).parameters.values()
        if parameter.kind != Parameter.KEYWORD_ONLY
    ]
    hints = get_type_hints(recipe.main)
    assert tuple(hints[parameter.name] for parameter in taken) == STAGES[stage]


def test_the_general_config_of_stage_two() -> None:
    assert setup_of("rank_grpo.yaml") == Setup(
        "rank_grpo",
        lora_rank=64,
        kl=True,
        batch=16,
        accumulation=24,
        rollout=96,
        generations=8,
        prompt=1024,
        completion=320,
    )


def test_flags_win_and_change_what_is_planned() -> None:
    flags = "--use_peft false --dtype bfloat16 --optim paged_adamw_8bit --beta 0 --max_completion_length 512"
    more = " --use_vllm true --vllm_gpu_memory_utilization 0.4 --steps_per_generation 4 --num_iterations 2"
    setup = setup_of("rank_grpo.yaml", *f"{flags}{more} --gradient_checkpointing false".split())
    assert (setup.lora_rank, setup.weight_bytes, setup.kl, setup.checkpointing) == (0, 2, False, False)
    assert (setup.engine, setup.engine_share, setup.rollout, setup.uses) == ("colocate", 0.4, 64, 2)
    assert setup.completion == 512
    assert setup.moment_bytes == pytest.approx(2.03125)


def test_stage_one() -> None:
    setup = setup_of("sft.yaml", "--anchor_weight", "0.5")
    assert (setup.stage, setup.batch, setup.accumulation, setup.generations) == ("sft", 8, 48, 1)
    assert setup.kl
    assert setup.whole_logits


def test_the_recipes_own_checks_see_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One list on each of eight processes is a group of eight; on one process it is refused."""
    monkeypatch.setenv("WORLD_SIZE", "3")  # of whatever launcher this runs under
    flags = ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "1", "--steps_per_generation", "1"]
    setup = setup_of("rank_grpo.yaml", *flags, cluster=Cluster(8, "ddp"))
    assert (setup.batch, setup.rollout, setup.lists_a_step) == (1, 1, 8)
    with pytest.raises(ValueError, match="does not divide the 1 lists that are generated at once"):
        setup_of("rank_grpo.yaml", *flags)
    with pytest.raises(ValueError, match="epsilon is 2.0; expected"):
        setup_of("rank_grpo.yaml", "--epsilon", "2")


def test_times_are_for_usual_lengths() -> None:
    setup = Setup("rank_grpo", prompt=2048, completion=1024)
    assert usual_lengths(setup, 20).completion == 320
    assert usual_lengths(setup, 100).completion == 1024, "no longer than it may be"
    usual = usual_lengths(setup, 20, 600, 250)
    assert (usual.prompt, usual.completion) == (600, 250)
    assert usual_lengths(setup, 20, 9000).prompt == 2048
    assert usual_lengths(setup, 20, None, 9000).completion == 1024


def test_machines_are_counted() -> None:
    """Four GPUs on each of two machines are no more than one machine has, and still exchange over the network."""
    setup = setup_of("rank_grpo.yaml", cluster=read_cluster(None, gpus=4, nodes=2))
    assert (setup.processes, setup.nodes) == (8, 2)


def test_a_prompt_without_a_limit_takes_what_the_context_leaves(tmp_path: Path) -> None:
    (tmp_path / "sft.yaml").write_text("num_ranks: 10\n", encoding="utf-8")
    settings = parse("sft", str(tmp_path / "sft.yaml"), [], Cluster())
    setup = make_setup("sft", settings, Cluster(), context=1000)
    assert (setup.prompt, setup.completion) == (1000 - 160, 160)


@pytest.mark.parametrize(
    ("flags", "tokens"),
    [([], r"320 tokens \(16 a line, roughly\)"), (["--max_completion_length", "400"], r"400 tokens \(max_com.*\)")],
)
def test_a_list_that_fills_the_context_is_refused_as_the_recipe_does(flags: list[str], tokens: str) -> None:
    settings = parse("rank_grpo", str(CONFIGS / "rank_grpo.yaml"), flags, Cluster())
    longest = 400 if flags else 320
    with pytest.raises(ValueError, match=rf"a list of 20 lines may take {tokens}.* no room .*context of {longest}\."):
        make_setup("rank_grpo", settings, Cluster(), context=longest)
    assert make_setup("rank_grpo", settings, Cluster(), context=longest + 1).prompt == 1


@pytest.mark.parametrize(("optimizer", "expected"), [("adamw_torch_fused", None), ("sgd", 0.0), ("adafactor", 0.0)])
def test_what_optimizers_keep(optimizer: str, expected: float | None) -> None:
    assert moment_bytes(optimizer) == expected


@pytest.mark.parametrize(
    ("name", "gpus", "expected"),
    [
        ("single_gpu", None, Cluster(1, "single", mixed="bf16")),
        ("cpu", None, Cluster(1, "single", mixed="no")),
        ("multi_gpu", 4, Cluster(4, "ddp", mixed="bf16")),
        ("zero2", 8, Cluster(8, "zero2", mixed="bf16")),
        ("zero3", 8, Cluster(8, "zero3", mixed="bf16")),
        ("fsdp2", 8, Cluster(8, "fsdp2", mixed="bf16")),
        ("multi_node", None, Cluster(16, "ddp", mixed="bf16", nodes=2)),
        ("multi_node", 4, Cluster(8, "ddp", mixed="bf16", nodes=2)),
    ],
)
def test_what_an_accelerate_config_starts(name: str, gpus: int | None, expected: Cluster) -> None:
    assert read_cluster(str(ENGINES / f"{name}.yaml"), gpus) == expected


def test_gpus_without_a_config() -> None:
    assert read_cluster(None) == Cluster()
    assert read_cluster(None, gpus=8, nodes=2) == Cluster(16, "ddp", nodes=2)
    with pytest.raises(ValueError, match="starts one process, but 8 GPUs are planned: take multi_gpu.yaml"):
        read_cluster(str(ENGINES / "single_gpu.yaml"), gpus=8)
    with pytest.raises(ValueError, match="zero2.yaml leaves the number of GPUs to the command line: say --gpus"):
        read_cluster(str(ENGINES / "zero2.yaml"))


def test_an_engine_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("distributed_type: FSDP\nnum_processes: 8\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"starts FSDP \(zero_stage 0, fsdp_version 1\); a plan knows"):
        read_cluster(str(tmp_path / "one.yaml"))


def test_a_file_whose_stage_its_name_does_not_tell() -> None:
    assert stage_of("a/rank_grpo_stage_one.yaml") == "rank_grpo"
    with pytest.raises(ValueError, match="say --stage sft or --stage rank_grpo"):
        stage_of("run.yaml")
