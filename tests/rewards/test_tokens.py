"""`place_on_tokens` on NumPy arrays and torch tensors: one rule, two libraries."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankrl.rewards import place_on_tokens


@given(st.data())
def test_agrees_with_a_plain_loop_in_both_libraries(data: st.DataObject) -> None:
    num_rows, num_units, num_tokens = (data.draw(st.integers(1, 5)) for _ in range(3))
    units = [[data.draw(st.integers(-1, num_units + 2)) for _ in range(num_tokens)] for _ in range(num_rows)]
    values = np.random.default_rng(0).normal(size=(num_rows, num_units))
    expected = [[values[row, unit] if 0 <= unit < num_units else 0.0 for unit in units[row]] for row in range(num_rows)]

    np.testing.assert_array_equal(place_on_tokens(values, np.array(units)), expected)
    on_tensors = place_on_tokens(torch.tensor(values), torch.tensor(units))
    assert on_tensors.dtype == torch.float64
    np.testing.assert_array_equal(on_tensors.numpy(), expected)


def test_keeps_the_dtype_and_takes_lists() -> None:
    assert place_on_tokens(np.ones((1, 2), dtype=np.float32), np.zeros((1, 3), dtype=np.int64)).dtype == np.float32
    assert place_on_tokens([[0.5, 2.0]], [[1, -1]]).tolist() == [[2.0, 0.0]]


def test_a_missing_unit_is_zero_even_where_a_value_is_nan() -> None:
    values = [[float("nan"), 1.0]]
    assert place_on_tokens(np.array(values), np.array([[-1, 1, 7]])).tolist() == [[0, 1, 0]]
    assert place_on_tokens(torch.tensor(values), torch.tensor([[-1, 1, 7]])).tolist() == [[0, 1, 0]]


def test_gradients_flow_to_the_values() -> None:
    values = torch.ones(1, 2, requires_grad=True)
    place_on_tokens(values, torch.tensor([[0, 0, 1, -1, 5]])).sum().backward()
    assert values.grad.tolist() == [[2, 1]]


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="both as NumPy arrays or both as tensors"):
        place_on_tokens(np.ones((1, 2)), torch.zeros(1, 3, dtype=torch.long))
    for values, units in ((np.ones(2), np.zeros((1, 3), int)), (np.ones((2, 2)), np.zeros((1, 3), int))):
        with pytest.raises(ValueError, match=r"expected values \(B, U\)"):
            place_on_tokens(values, units)


def test_rewards_and_metrics_do_not_load_torch() -> None:
    code = (
        "import sys, rankrl, rankrl.rewards, rankrl.rewards.reward, rankrl.metrics;"
        "print([name for name in ('torch', 'pandas', 'pyarrow', 'transformers') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_the_function_is_not_hidden_by_its_module() -> None:
    import rankrl.rewards.relevance  # noqa: F401
    from rankrl.rewards import relevance

    assert callable(relevance)
