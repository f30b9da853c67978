"""Every preset of the paper's runs fits the machine that its folder is named after, and takes 384 lists a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankrl.plan.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "recipes" / "configs"
# Folder -> model, accelerate config of several GPUs, and the GPU that the paper trained it on.
MODELS = {
    "reddit_v2_qwen2.5_0.5b": ("Qwen/Qwen2.5-0.5B-Instruct", "multi_gpu", "h100"),
    "reddit_v2_llama3.2_1b": ("meta-llama/Llama-3.2-1B-Instruct", "multi_gpu", "h100"),
    "reddit_v2_llama3.2_3b": ("meta-llama/Llama-3.2-3B-Instruct", "zero2", "h200"),
}
# Preset -> GPU, and how many. The folder's own files are the paper's, on four.
MACHINES = {"1x24gb": ("rtx4090", 1), "1x80gb": ("h100", 1), "8x80gb": ("h100", 8), "": (None, 4)}


def plan_of(folder: str, preset: str, stage: str, *flags: str) -> list[str]:
    """The command line of a preset's plan."""
    model, engine, papers = MODELS[folder]
    gpu, gpus = MACHINES[preset]
    words = ["--config", str(CONFIGS / folder / preset / f"{stage}.yaml"), "--model_name_or_path", model]
    words += ["--gpu", gpu or papers]
    if gpus > 1:
        words += ["--accelerate", str(REPOSITORY / "accelerate_configs" / f"{engine}.yaml"), "--gpus", str(gpus)]
    return [*words, *flags]


@pytest.mark.parametrize("stage", ["sft", "rank_grpo"])
@pytest.mark.parametrize("preset", MACHINES)
@pytest.mark.parametrize("folder", MODELS)
def test_it_fits(folder: str, preset: str, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(plan_of(folder, preset, stage))
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert " = 384 " in printed


def test_every_folder_is_planned() -> None:
    assert {path.name for path in CONFIGS.glob("reddit_v2_*")} == MODELS.keys()
    for folder in MODELS:
        presets = {path.parent.name for path in (CONFIGS / folder).glob("*/*.yaml")}
        assert presets == MACHINES.keys() - {""}
        stages = {path.stem for path in (CONFIGS / folder).glob("*.yaml")}
        assert stages == {"demonstrations", "sft", "rank_grpo"}


@pytest.mark.parametrize("folder", ["reddit_v2_qwen2.5_0.5b", "reddit_v2_llama3.2_1b"])
def test_the_flags_that_the_readme_names_fit_too(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """vLLM beside training on 24 GB, with an adapter."""
    flags = "--use_peft true --learning_rate 1e-5 --use_vllm true --vllm_gpu_memory_utilization 0.3".split()
    if "llama" not in folder:
        flags += ["--learning_rate", "1.0e-5"]
    assert main(plan_of(folder, "1x24gb", "rank_grpo", *flags)) == 0, capsys.readouterr().out
