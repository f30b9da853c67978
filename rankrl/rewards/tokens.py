"""From one value per rank to one value per token, for people who bring their own trainer."""

from typing import Any

import numpy as np


def place_on_tokens(values: Any, unit_ids: Any) -> Any:
    """Give every token the value of the unit it belongs to.

    Works on NumPy arrays and on torch tensors of any device (gradients flow to `values`); torch is not imported here.

    Args:
        values: `(B, U)`, one value per unit: K columns for the ranks, more if the end token or overflow lines have one.
        unit_ids: `(B, T)` integers, the unit of each token, as from `rankrl.grpo.segment_ranks`.

    Returns:
        `(B, T)` of the kind and dtype of `values`: 0 where the unit is -1 (padding) or has no column in `values`.

    Raises:
        TypeError: if one argument is a NumPy array and the other a tensor.
        ValueError: if the shapes do not fit.

    Example:
        >>> place_on_tokens(np.array([[0.5, 2.0]]), np.array([[0, 0, 1, 2, -1]]))
        array([[0.5, 0.5, 2. , 0. , 0. ]])
    """
    if not _is_tensor(values) and not _is_tensor(unit_ids):
        values, unit_ids = np.asarray(values), np.asarray(unit_ids)
    elif not (_is_tensor(values) and _is_tensor(unit_ids)):
        raise TypeError(
            f"values is a {type(values).__name__} and unit_ids a {type(unit_ids).__name__}; give both as NumPy arrays "
            "or both as tensors on the same device."
        )
    if values.ndim != 2 or unit_ids.ndim != 2 or len(values) != len(unit_ids) or values.shape[1] == 0:
        raise ValueError(
            f"expected values (B, U) and unit_ids (B, T), got {tuple(values.shape)} and {tuple(unit_ids.shape)}."
        )
    num_units = values.shape[1]
    has_no_value = (unit_ids < 0) | (unit_ids >= num_units)
    column = unit_ids.clip(0, num_units - 1)
    if _is_tensor(values):
        return values.take_along_dim(column.long(), 1).masked_fill(has_no_value, 0)
    placed = np.take_along_axis(values, column, axis=1)
    placed[has_no_value] = 0
    return placed


def _is_tensor(array: Any) -> bool:
    return hasattr(array, "take_along_dim")
