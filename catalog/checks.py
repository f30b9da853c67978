"""What has to hold of the items of a catalogue, and what is odd but kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from catalog.items import CatalogError, Item
from catalog.titles import PLAUSIBLE_YEARS, collapse


def as_items(given: Sequence[Any], places: Sequence[str]) -> list[Item]:
    """Items from `Item`s and `(title, year)` pairs.

    Args:
        given: the values.
        places: where each stands, for messages.

    Returns:
        The items.

    Raises:
        CatalogError: no values, or bad ones; names all of them.
    """
    if not given:
        raise CatalogError("the catalogue is empty; expected at least one item with a title")
    items, problems = [], []
    for value, place in zip(given, places, strict=True):
        try:
            items.append(value if isinstance(value, Item) else Item(*_title_and_year(value)))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise CatalogError(f"{len(problems)} of {len(given)} items cannot be used:", problems)
    return items


def tidy(items: Iterable[Item], places: Sequence[str]) -> tuple[list[Item], list[str]]:
    """The items with their titles on one line, and a sentence on each changed title and each impossible year."""
    tidied, problems = [], []
    for item, place in zip(items, places, strict=True):
        title = collapse(item.title)
        if title != item.title:
            problems.append(f"{place}: title {item.title!r} has line breaks or extra blanks; read as {title!r}")
            item = replace(item, title=title)
        if item.year is not None and item.year not in PLAUSIBLE_YEARS:
            expected = f"{PLAUSIBLE_YEARS.start} to {PLAUSIBLE_YEARS.stop - 1}"
            problems.append(f"{place}: year {item.year} of {title!r} is impossible (expected {expected}); kept")
        tidied.append(item)
    return tidied, problems


def check_keys(keys: Sequence[str | None], places: Sequence[str]) -> None:
    """Raises `CatalogError`, naming key and places, where two rows have one key. Rows without a key do not count."""
    repeated = {key for key, count in Counter(keys).items() if count > 1 and key is not None}
    if not repeated:
        return
    users: dict[str, list[str]] = {}
    for key, place in zip(keys, places, strict=True):
        if key is not None and key in repeated:
            users.setdefault(key, []).append(place)
    raise CatalogError(
        f"{len(repeated)} key(s) belong to more than one row; remove the repeated rows or give them other ids:",
        [f"key {key!r} stands at {', '.join(where)}" for key, where in users.items()],
    )


def index_keys(items: Sequence[Item], places: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Key -> item id, `alias_ids` included where they are nobody's own key; and a sentence on each that is taken."""
    keys = [item.key or "" for item in items]
    ids = {key: item_id for item_id, key in enumerate(keys)}
    problems = []
    for item_id, item in enumerate(items):
        for key in item.alias_keys:
            if ids.setdefault(key, item_id) != item_id:
                problems.append(f"{places[item_id]}: alias_ids {key!r} already names {keys[ids[key]]!r}; left there")
    return ids, problems


def _title_and_year(value: Any) -> tuple[Any, Any]:
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return value[0], value[1]
    raise ValueError(f"{value!r} is no item; expected an Item or a (title, year) pair")
