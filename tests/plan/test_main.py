"""The command line: a plan on the screen, and an exit status that a script can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankrl.plan.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
STAGE_TWO = ["--config", str(REPOSITORY / "recipes" / "configs" / "rank_grpo.yaml")]
QWEN = ["--model_name_or_path", "Qwen/Qwen2.5-0.5B-Instruct"]


def test_a_plan_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STAGE_TWO, *QWEN, "--num_dialogues", "383013"]) == 0
    printed = capsys.readouterr().out
    for line in ("KV cache", "vocabulary logits", "fits in 80 GB", "35,192,832 trained", "│ 15,960 "):
        assert line in printed
    assert "1 x 16 x 24 = 384 lists, 8 for each of 48; 1,024 + 320 tokens at most" in printed
    assert "stop" not in printed


def test_shorter_prompts_take_less_time(capsys: pytest.CaptureFixture[str]) -> None:
    def hours(*flags: str) -> float:
        main([*STAGE_TWO, *QWEN, "--num_dialogues", "383013", *flags])
        return float(capsys.readouterr().out.split("│ hours")[1].split("│")[1].split(",")[0])

    assert hours("--mean_prompt", "300") < hours()


def test_the_general_config_is_for_a_gpu_of_24_gb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STAGE_TWO, *QWEN, "--gpu", "rtx4090"]) == 0
    assert "it is tight" not in capsys.readouterr().out


def test_a_plan_that_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STAGE_TWO, *QWEN, "--gpu_memory", "9"]) == 1
    printed = capsys.readouterr().out
    assert "DOES NOT FIT in 9 GB" in printed
    assert "stop: it does not fit" in printed
    assert "say how many dialogues there are" in printed


def test_a_wrong_setting_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STAGE_TWO, *QWEN, "--num_generations", "7"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("stop: num_generations is 7, which does not divide the 96 lists")
    assert "Choose num_generations among [2, 3, 4, 6, 8, 12, 16, 24]" in printed


def test_without_a_model_it_says_which_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(STAGE_TWO) == 1
    assert "Llama-3.2-1B" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flag",
    ["--gpus", "--nodes", "--gpu_memory", "--num_dialogues", "--mean_prompt", "--mean_list", "--scale", "--probe"],
)
@pytest.mark.parametrize("number", ["0", "-2"])
def test_numbers_of_nothing_are_refused(flag: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--config", "rank_grpo.yaml", f"{flag}={number}"])
    assert f"argument {flag}: {number} is given, and a number above 0 is expected" in capsys.readouterr().err
