"""Per-item arrays on disk: stored with the catalogue's version and keys, realigned by key when it has changed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from catalog.catalogue import Catalog
from catalog.files import whole_file
from catalog.items import CatalogError

logger = logging.getLogger(__name__)

_OWN_NAMES = ("catalog_version", "catalog_keys")


def save_item_arrays(path: str | os.PathLike[str], catalog: Catalog, **arrays: npt.ArrayLike) -> None:
    """Writes arrays whose first axis is the catalogue's items, with its version and keys, as one `.npz`.

    Args:
        path: the file; written as named, in one step.
        catalog: the catalogue whose ids index the arrays.
        **arrays: (N, ...) arrays of numbers or booleans.

    Raises:
        CatalogError: an array of another length or of objects, or a name this format uses itself.
    """
    checked: dict[str, Any] = {name: np.asarray(values) for name, values in arrays.items()}
    for name, values in checked.items():
        if name in _OWN_NAMES:
            raise CatalogError(
                f"an array cannot be named {name!r}: the file keeps the catalogue's own data under that name"
            )
        if values.ndim == 0 or len(values) != len(catalog):
            raise CatalogError(
                f"array {name!r} has the shape {values.shape}; expected ({len(catalog)}, ...), one row per item"
            )
        if values.dtype.kind not in "biufc":
            raise CatalogError(f"array {name!r} holds {values.dtype}; expected numbers or booleans")
    keys = np.frombuffer(json.dumps(catalog.keys).encode(), dtype=np.uint8)
    with whole_file(path) as file:
        np.savez(file, catalog_version=np.array(catalog.version), catalog_keys=keys, **checked)


def load_item_arrays(
    path: str | os.PathLike[str], catalog: Catalog, neutral: Mapping[str, npt.ArrayLike] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Reads arrays of `save_item_arrays`, aligned to the rows of this catalogue.

    Rows are found by key (also through `alias_ids`), so neither the order nor the version of the catalogue has to be
    the same. Removed items are dropped; what changed is counted and logged.

    Args:
        path: the file.
        catalog: the catalogue of today.
        neutral: per array, the value (or the row) of items the file does not know.

    Returns:
        Name -> (N, ...) array, N the length of `catalog`.

    Raises:
        CatalogError: no such file format; or new items and no neutral value for an array.
    """
    path = Path(path)
    arrays, version, keys = _read(path)
    old_rows = {key: row for row, key in enumerate(keys)}
    source = np.array([_old_row(catalog, item_id, old_rows) for item_id in range(len(catalog))], dtype=np.int64)
    added = np.flatnonzero(source < 0)
    if version != catalog.version:
        removed = len(keys) - len(np.unique(source[source >= 0]))
        logger.warning(
            "%s was written under catalogue version %s, this is %s: realigned by key, %d new items got the neutral "
            "value, %d removed items were dropped",
            *(path.name, version, catalog.version, len(added), removed),
        )
    neutral = neutral or {}
    if len(added) and (without := [name for name in arrays if name not in neutral]):
        examples = ", ".join(repr(catalog.keys[item_id]) for item_id in added[:3])
        raise CatalogError(
            f"{path.name} (catalogue version {version}) knows nothing of {len(added)} items of this catalogue (version "
            f"{catalog.version}), such as {examples}, and {without[0]!r} has no neutral value for them. Give one, "
            f"neutral={{{without[0]!r}: 0.0}}, or make the file anew."
        )
    return {name: _realign(name, values, source, neutral.get(name)) for name, values in arrays.items()}


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], str, list[str]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        version = str(arrays.pop("catalog_version"))
        keys = json.loads(arrays.pop("catalog_keys").tobytes())
    except (KeyError, ValueError, EOFError, TypeError, BadZipFile) as error:  # TypeError: one array, a .npy
        raise CatalogError(
            f"{path.name} was not written by save_item_arrays ({error}); it has no version and keys"
        ) from error
    return arrays, version, keys


def _old_row(catalog: Catalog, item_id: int, old_rows: Mapping[str, int]) -> int:
    """The row an item had in the file, under its key or under one of its further keys; -1 if it is new."""
    for key in (catalog.keys[item_id], *catalog[item_id].alias_keys):
        if key in old_rows:
            return old_rows[key]
    return -1


def _realign(
    name: str, values: npt.NDArray[Any], source: npt.NDArray[np.int64], neutral: npt.ArrayLike | None
) -> npt.NDArray[Any]:
    aligned = np.empty((len(source), *values.shape[1:]), dtype=values.dtype)
    known = source >= 0
    aligned[known] = values[source[known]]
    if not known.all():
        filling = np.asarray(neutral)
        with np.errstate(invalid="ignore"):  # NaN as an integer: refused below
            fitted = filling.astype(values.dtype)
        # Whole numbers have to fit to the last digit; 0.1 is no float32, and yet means what it says.
        exact = np.array_equal(fitted, filling, equal_nan=filling.dtype.kind == "f")
        if not (exact or (values.dtype.kind == "f" and np.can_cast(filling.dtype, values.dtype, "same_kind"))):
            raise CatalogError(
                f"the neutral value {neutral!r} of {name!r} does not fit the array's type {values.dtype}"
            )
        aligned[~known] = filling
    return aligned
