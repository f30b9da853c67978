"""What the log says of each rank, worked out from the models before and after a step."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback, TrainerState

from rankrl.grpo import Lists
from rankrl.grpo.rank_log import BeginRanksFile, RankLog
from rankrl.rewards import RankScores
from tests.grpo.conftest import NUM_RANKS
from tests.grpo.injected import LISTS, train_on

WIDTH = 19  # tokens of the longest of `LISTS`
# Two steps on one generation: the second is one away from the policy that wrote the lists.
OFF_POLICY = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": WIDTH,
    "num_iterations": 2,
    "learning_rate": 0.3,
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "beta": 0.1,
}


class Weights(TrainerCallback):
    """Copies of the weights before each update."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        self.kept.append(copy.deepcopy(model.state_dict()))


@torch.no_grad()
def log_probs_and_entropies(directory: Path, weights: dict, ids: torch.Tensor, attended: torch.Tensor) -> tuple:
    """`(8, 19)` each."""
    model = AutoModelForCausalLM.from_pretrained(directory)
    model.load_state_dict(weights)
    logits = model.eval()(ids, attention_mask=attended).logits.double()[:, -WIDTH - 1 : -1]
    every = logits.log_softmax(-1)
    taken = every.gather(2, ids[:, -WIDTH:, None])[:, :, 0]
    return taken, -(every.exp() * every).sum(-1)


def positions_of_ranks(tokens: list[str]) -> list[list[int]]:
    """For each rank the places of its tokens; a newline belongs to the rank that it ends."""
    ranks: list[list[int]] = [[] for _ in range(NUM_RANKS)]
    rank = 0
    for place, token in enumerate(tokens):
        if token != "<|endoftext|>" and rank < NUM_RANKS:
            ranks[rank].append(place)
        rank += token == "Ċ"
    return ranks


@pytest.mark.parametrize("preset", ["rank_grpo", "rank_grpo_official", "grpo", "gspo"])
def test_ratio_kl_and_entropy_of_each_rank(preset: str, make_trainer, policy_dir: Path) -> None:
    weights = Weights()
    trainer = make_trainer(preset=preset, callbacks=[weights], **OFF_POLICY)
    steps = train_on(trainer)
    (old, _), (new, entropy) = (log_probs_and_entropies(policy_dir, kept, *steps.inputs) for kept in weights.kept)
    found: dict[str, list[list[float]]] = {name: [[] for _ in range(NUM_RANKS)] for name in ("ratio", "kl", "entropy")}
    for row in range(len(LISTS)):
        length = int(steps.inputs[1][row, -WIDTH:].sum())
        tokens = trainer.processing_class.convert_ids_to_tokens(steps.inputs[0][row, -WIDTH:][:length].tolist())
        for rank, places in enumerate(positions_of_ranks(tokens)):
            if not places:
                continue
            moved = (new - old)[row]
            ratio = {  # the level is the preset's
                "rank_grpo": moved[places].mean().exp(),
                "gspo": moved[:length].mean().exp(),
            }.get(preset, moved[places].exp().mean())
            found["ratio"][rank].append(float(ratio))
            found["kl"][rank].append(float(((-moved[places]).exp() + moved[places] - 1).mean()))  # the start is `old`
            found["entropy"][rank].append(float(entropy[row, places].mean()))

    logged = [json.loads(line) for line in (Path(trainer.args.output_dir) / "ranks_train.jsonl").open()][1]
    for name, ranks in found.items():
        assert logged[name] == pytest.approx([sum(rank) / len(rank) for rank in ranks], rel=1e-4, abs=1e-6), name
        values = [value for rank in ranks for value in rank]
        assert steps.logs[1][f"{name}/all"] == pytest.approx(sum(values) / len(values), rel=1e-4, abs=1e-6)
    assert min(logged["kl"]) > 1e-5, "the policy should have moved at every rank"
    assert ("clipped" in logged) == (preset == "rank_grpo"), "TRL logs what its own losses clip"


def test_the_file_goes_on_after_half_a_line(tmp_path: Path) -> None:
    """A full disk, or a kill, while it was being written."""
    path = tmp_path / "ranks_train.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "hi', encoding="utf-8")
    log = RankLog(num_ranks=1)
    log.add_values("hit", [[1.0]])
    BeginRanksFile().on_train_begin(SimpleNamespace(output_dir=str(tmp_path)), TrainerState(global_step=1), None)
    log.write(path, 2)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"step": 1},
        {"step": 2, "hit": [1.0]},
    ]


def test_the_length_of_lists_is_a_mean_over_lists_not_over_batches() -> None:
    def lists(lengths: list[int]) -> Lists:
        units = torch.arange(NUM_RANKS) < torch.tensor(lengths)[:, None]
        size = len(lengths)
        return Lists(
            torch.zeros(size, NUM_RANKS, 1), torch.zeros(size, 1), units, torch.zeros(size, dtype=int), 2, None
        )

    log = RankLog(NUM_RANKS)
    for batch in ([3, 3, 3, 3, 3, 3], [1, 1]):  # a batch, and a refill
        seen = lists(batch)
        log.add_lists(seen, seen.rewards[:, :, 0], torch.ones(len(batch) // 2, NUM_RANKS))
    assert log.grouped()["list_length"] == 20 / 8
    log.clear()
    assert "list_length" not in log.grouped()


def test_groups_of_ranks_by_hand() -> None:
    log = RankLog(num_ranks=12)
    log.add("hit", np.arange(1, 13), np.ones(12))  # rank k is hit k times
    assert log.grouped() == {"hit/all": 6.5, "hit/1-5": 3.0, "hit/6-10": 8.0, "hit/11-12": 11.5}
    assert list(RankLog(num_ranks=7).groups) == ["all", "1-5", "6-7"]
    log.clear()
    log.add_values("hit", [[1.0] * 12, [5.0] * 12], [[1] * 12, [1] + [0] * 11])
    assert log.vectors()["hit"] == [3.0] + [1.0] * 11, "what is not counted is not summed either"


def test_what_lists_earn_is_a_mean_over_those_that_have_the_rank() -> None:
    """Two lists of three ranks: the first ends after two, and the function gave no score to the second."""
    present = torch.tensor([[True, True, False], [True, True, True]])
    returns = torch.tensor([[1.0, 0.0, 0.5], [torch.nan] * 3], dtype=torch.float64)
    scores = RankScores(
        ranked=np.array([[0, -1, -1], [2, -1, 2]]),
        relevance=np.array([[1.0, 0.0, 0.0], [0.5, 0.0, 0.0]]),
        hits=np.array([[True, False, False], [False, False, False]]),
        augmented=np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]),
        returns=returns.numpy(),
        fuzzy=np.zeros((2, 3), dtype=bool),
        list_returns=np.array([1.0, 0.5]),
    )
    lists = Lists(returns[:, :, None], returns.sum(1, keepdim=True), present, torch.tensor([0, 0]), 2, scores)
    log = RankLog(num_ranks=3)
    log.add_lists(lists, returns, torch.tensor([[True, False, False]]))
    assert log.vectors() == {
        "informative": [1.0, 0.0, 0.0],
        "return": [1.0, 0.0, 0.5],
        "in_catalog": [1.0, 0.0, 1.0],
        "repeat": [0.0, 0.0, 1.0],
        "hit": [0.5, 0.0, 0.0],
        "reward_true": [0.5, 0.0, 0.0],
        "reward_augmented": [0.25, 0.0, 0.0],
    }
