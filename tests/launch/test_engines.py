"""The shipped recipes under every engine, by two CPU processes: train, checkpoint, resume, and load in one process.

A launch per engine runs them all. What is checked is the same for DDP, FSDP2, ZeRO-2 and ZeRO-3:

| | by weights of the resumed run | by loss and saved weights of one process | by what the engine holds |
| --- | --- | --- | --- |
| SFT, all weights | yes | yes | |
| SFT, LoRA, anchored | yes | yes | |
| Rank-GRPO, all weights, a KL reference, given lists | yes | yes, and by its greedy lists | yes |
| Rank-GRPO, LoRA, given lists | yes | yes | yes |
| Rank-GRPO, LoRA on a merged adapter, sampled lists | yes | lists differ | yes |

In the last row the lists of one process end at once, those of the other do not.
The shipped configs are changed only in what a CPU needs (`launcher.cpu_copy`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankrl.run.models import is_adapter
from tests.launch.launcher import ENGINES
from tests.launch.recipes import CELLS, greedy_lists, log_probs, losses, run_alone, run_cells, weights
from tests.recipes.runs import Files

pytestmark = pytest.mark.launch

# What a checkpoint holds by which an engine is known: that it was at work, and no other in its place.
WRITTEN = {
    "multi_cpu": "optimizer.pt",
    "fsdp2": "optimizer.bin",
    "zero2": "global_step2/mp_rank_00_model_states.pt",
    "zero3": "global_step2/zero_pp_rank_1_mp_rank_00_model_states.pt",
}
# How far log-probabilities may be from those of one process. Adam divides a gradient by its own size: where that of an
# adapter is nothing but rounding, it makes a whole step, to either side. Training moves them by 0.09 and more.
COMPARED = {"sft": 1e-5, "sft_lora": 5e-4, "rank_grpo": 1e-5, "rank_grpo_lora_given": 5e-4}

# What a person is told before the first list is sampled.
SAID = {"fsdp2": "under FSDP2 transformers' generate gathers every layer again", "zero3": "ZeRO-3 gathers all weights"}


@pytest.fixture(scope="session")
def alone(files: Files, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the same batches."""
    output = tmp_path_factory.mktemp("alone")
    for name in COMPARED:
        run_alone(name, files, policy, output)
    return output


@pytest.mark.parametrize("engine", ENGINES)
def test_recipes_train_resume_and_load(engine: str, alone: Path, files: Files, policy: Path, tmp_path: Path) -> None:
    """One test an engine: its launch is dear, and test workers would each make their own."""
    printed = run_cells(engine, files, policy, tmp_path)
    assert SAID.get(engine, "") in printed
    for name in CELLS:
        require_moved(tmp_path / name, policy if CELLS[name].start == "policy" else tmp_path / CELLS[name].start)
        require_same_weights(tmp_path / f"{name}_resumed", tmp_path / name)
        assert (tmp_path / name / "checkpoint-2" / WRITTEN[engine]).is_file(), printed
    for name, tolerance in COMPARED.items():
        assert losses(tmp_path / name) == pytest.approx(losses(alone / name), rel=1e-5), printed
        torch.testing.assert_close(log_probs(tmp_path / name), log_probs(alone / name), rtol=0, atol=tolerance)
    assert greedy_lists(tmp_path / "rank_grpo") == greedy_lists(alone / "rank_grpo")
    for name in (name for name in CELLS if name.startswith("rank_grpo")):
        assert greedy_lists(tmp_path / f"{name}_resumed") == greedy_lists(tmp_path / name)
        seen = torch.load(tmp_path / name / "seen.pt").log_softmax(-1)
        torch.testing.assert_close(log_probs(tmp_path / name), seen, rtol=0, atol=1e-5)


def require_moved(run: Path, start: Path) -> None:
    """Or that two runs agree would say nothing. The checkpoint that is resumed from differs from the end, too."""
    for before in (start, run / "checkpoint-2"):
        assert (log_probs(run) - log_probs(before)).abs().max() > 5e-3, before


def require_same_weights(found: Path, expected: Path) -> None:
    """To the last bit: the same sums in the same order."""
    assert is_adapter(found) == is_adapter(expected)
    wanted = weights(expected)
    for name, value in weights(found).items():
        assert torch.equal(value, wanted[name]), f"{name} differs after the resume"
