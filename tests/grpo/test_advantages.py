"""Advantages against answers worked by hand and plain Python loops in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankrl.grpo import decoupled_advantages, informative_cells, rank_advantages

K = 3


@given(st.integers(0, 1000), st.sampled_from(["group", "batch", "none"]))
def test_advantages_agree_with_loops(seed: int, scale: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    returns = torch.randint(0, 3, (6, K), generator=generator).double()
    advantages = rank_advantages(returns, 3, scale)
    for group in range(2):
        for rank in range(K):
            cell = [returns[3 * group + i, rank].item() for i in range(3)]
            mean = sum(cell) / 3
            spread = {
                "group": math.sqrt(sum((r - mean) ** 2 for r in cell) / 2) + 1e-4,
                "batch": returns.std().item() + 1e-4,
                "none": 1.0,
            }[scale]
            for i in range(3):
                assert advantages[3 * group + i, rank].item() == pytest.approx((cell[i] - mean) / spread, abs=1e-9)


def test_scales_by_hand() -> None:
    returns = torch.tensor([[0.0], [2.0], [0.0], [4.0]], dtype=torch.float64)  # two prompts: means 1 and 2
    batch = math.sqrt((1.5**2 + 0.5**2 + 1.5**2 + 2.5**2) / 3) + 1e-4  # around 1.5
    one, two = math.sqrt(2) + 1e-4, math.sqrt(8) + 1e-4
    expected = {
        "group": [-1 / one, 1 / one, -2 / two, 2 / two],
        "batch": [-1 / batch, 1 / batch, -2 / batch, 2 / batch],
        "none": [-1, 1, -2, 2],
    }
    for scale, values in expected.items():
        assert rank_advantages(returns, 2, scale)[:, 0].tolist() == pytest.approx(values), scale


def test_a_list_without_score_is_left_out() -> None:
    returns = torch.tensor([[1.0], [3.0], [math.nan]], dtype=torch.float64)
    root = math.sqrt(2) + 1e-4
    assert rank_advantages(returns, 3)[:, 0].tolist() == pytest.approx([-1 / root, 1 / root, 0.0])


def test_odd_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="groups of 4"):
        rank_advantages(torch.zeros(6, K), 4)


# ---- Several reward functions (GDPO) ---------------------------------------------------------------------------------


def test_two_functions_worked_by_hand() -> None:
    # Two prompts, two lists each, one rank. The first function tells the lists of both prompts apart, the second those
    # of the second prompt alone. Two different values stand 1/sqrt(2) deviations below and above their mean, so with
    # weights 1 and 2 the sums are -0.71, 0.71, -2.12, 2.12, whose own deviation is sqrt((0.5 + 0.5 + 4.5 + 4.5) / 3).
    rewards = torch.tensor([[0.0, 5.0], [1.0, 5.0], [0.0, 0.0], [1.0, 100.0]], dtype=torch.float64)[:, None]
    advantages = decoupled_advantages(rewards, torch.tensor([1.0, 2.0], dtype=torch.float64), 2)
    root, deviation = math.sqrt(0.5), math.sqrt(10 / 3)
    expected = [-root / deviation, root / deviation, -3 * root / deviation, 3 * root / deviation]
    assert advantages[:, 0].tolist() == pytest.approx(expected, abs=1e-3)

    summed = rank_advantages((rewards * torch.tensor([1.0, 2.0])).sum(2), 2)[:, 0].tolist()
    assert summed == pytest.approx([-root, root, -root, root], abs=1e-3), "summed first, all pairs look the same"


def gdpo_by_loops(rewards: list, weights: list[float], generations: int) -> list[list[float]]:
    """GDPO in plain Python; `None` is a missing score."""

    def normalised(values: list[float | None]) -> list[float | None]:
        known = [v for v in values if v is not None]
        if not known:
            return values
        mean = sum(known) / len(known)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1)) if len(known) > 1 else 0.0
        return [None if v is None else (v - mean) / (deviation + 1e-4) for v in values]

    lists, ranks, functions = len(rewards), len(rewards[0]), len(weights)
    each = [[[None] * functions for _ in range(ranks)] for _ in range(lists)]
    for first in range(0, lists, generations):
        for k in range(ranks):
            for f in range(functions):
                cell = normalised([rewards[i][k][f] for i in range(first, first + generations)])
                for i, value in enumerate(cell, start=first):
                    each[i][k][f] = value
    sums = []
    for row in each:
        for cell in row:
            scored = [w * v for w, v in zip(weights, cell, strict=True) if v is not None]
            sums.append(sum(scored) if scored else None)
    flat = [0.0 if value is None else value for value in normalised(sums)]
    return [flat[i * ranks : (i + 1) * ranks] for i in range(lists)]


SCORES = st.one_of(st.none(), st.integers(-2, 2).map(float))


@given(st.lists(SCORES, min_size=4 * K * 2, max_size=4 * K * 2), st.tuples(st.floats(0, 2), st.floats(0, 2)))
def test_decoupled_advantages_agree_with_loops(scores: list[float | None], weights: tuple[float, float]) -> None:
    tensor = torch.tensor([math.nan if s is None else s for s in scores], dtype=torch.float64).view(4, K, 2)
    rewards = [[[scores[(i * K + k) * 2 + f] for f in range(2)] for k in range(K)] for i in range(4)]
    found = decoupled_advantages(tensor, torch.tensor(weights, dtype=torch.float64), 2)
    expected = torch.tensor(gdpo_by_loops(rewards, list(weights), 2), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_missing_score_leaves_the_other_function_in_force() -> None:
    nan = math.nan
    rewards = torch.tensor([[0.0, 1.0], [1.0, nan], [0.0, 0.0], [nan, nan]], dtype=torch.float64)[:, None]
    advantages = decoupled_advantages(rewards, torch.ones(2, dtype=torch.float64), 4)[:, 0]
    assert advantages[1] > 0, "the function that scored the list speaks for it"
    assert advantages[3] == 0, "a list without any score is left out"
    assert advantages.sum().item() == pytest.approx(0.0, abs=1e-9)


def test_a_cell_is_informative_if_its_lists_differ() -> None:
    nan = float("nan")
    returns = torch.tensor([[0.0, 1.0, nan, nan], [0.0, 0.5, 1.0, nan], [1.0, 0.0, nan, 0.0], [1.0, 1e-9, 2.0, 1.0]])
    assert informative_cells(returns, 2).tolist() == [[False, True, False, False], [False, False, False, True]]
