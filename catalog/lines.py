"""Lines: the canonical text of every item, made by a template."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from catalog.items import CatalogError, Item
from catalog.titles import collapse

DEFAULT_TEMPLATE = "{title} ({year})"


def render_lines(items: Sequence[Item], template: str = DEFAULT_TEMPLATE) -> list[str]:
    """The line of every item.

    A field an item lacks is dropped with the brackets or the separator around it, so that `{title} ({year})` gives the
    bare title where there is no year. Lists are joined by commas; line breaks become blanks.

    Args:
        items: the items.
        template: text with `{title}`, `{year}`, `{key}` and any metadata field.

    Returns:
        One line per item, not yet checked to be different.

    Raises:
        CatalogError: the template is malformed, names a field that no item has, or leaves an item without a line.
    """
    if template == DEFAULT_TEMPLATE:
        return [item.title if item.year is None else f"{item.title} ({item.year})" for item in items]
    fields = _template_fields(template, items)
    templates: dict[tuple[str, ...], str] = {}
    lines = []
    for item in items:
        values = _field_values(item, fields)
        missing = tuple(name for name in fields if not values[name])
        if missing not in templates:
            templates[missing] = _without_fields(template, missing)
        lines.append(collapse(templates[missing].format_map(values)))
    if blank := [item for item, line in zip(items, lines, strict=True) if not line]:
        raise CatalogError(f"the line template {template!r} gives {len(blank)} item(s) no line, such as {blank[0]!r}")
    return lines


def check_distinct(items: Sequence[Item], lines: Sequence[str], places: Sequence[str], template: str) -> None:
    """Raises `CatalogError`, naming the keys, where two items have one line.

    Args:
        items: the items.
        lines: their lines.
        places: where each item was read, for the message.
        template: the template of the lines.
    """
    if len(set(lines)) == len(lines):
        return
    sharing: dict[str, list[int]] = defaultdict(list)
    for item_id, line in enumerate(lines):
        sharing[line].append(item_id)
    collisions = {line: item_ids for line, item_ids in sharing.items() if len(item_ids) > 1}
    problems = [
        f"{line!r} stands for {_names(items, item_ids)} ({', '.join(places[item_id] for item_id in item_ids)})"
        for line, item_ids in collisions.items()
    ]
    raise CatalogError(
        f"{len(collisions)} line(s) stand for several items under the line template {template!r}. "
        + _advice(items, list(collisions.values()), template),
        problems,
    )


def _template_fields(template: str, items: Sequence[Item]) -> tuple[str, ...]:
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise CatalogError(f"the line template {template!r} is malformed: {error}") from error
    if any(spec or conversion for _, _, spec, conversion in pieces):
        raise CatalogError(
            f"the line template {template!r} has a format such as {{year:04d}}; write plain fields, {{year}}"
        )
    fields = tuple(dict.fromkeys(name for _, name, _, _ in pieces if name is not None))
    known = {"title", "year", "key"}.union(*(item.metadata.keys() for item in items))
    if unknown := [name for name in fields if name not in known]:
        raise CatalogError(
            f"the line template {template!r} names {{{unknown[0]}}}, which no item has; the fields are {sorted(known)}"
        )
    if not fields:
        raise CatalogError(f"the line template {template!r} names no field, so every item would have the same line")
    return fields


def _field_values(item: Item, fields: Sequence[str]) -> dict[str, str]:
    own: Mapping[str, Any] = {"title": item.title, "year": item.year, "key": item.key}
    values = {}
    for name in fields:
        value = own[name] if name in own else item.metadata.get(name)
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        values[name] = "" if value is None else str(value)
    return values


def _without_fields(template: str, missing: Sequence[str]) -> str:
    """The template without some fields: each goes with its brackets, or with the separator before it."""
    for name in missing:
        placeholder = re.escape("{" + name + "}")
        bracketed = rf"\s*[(\[]\s*{placeholder}\s*[)\]]"
        separated = rf"(?:\s*[,;:/|]|\s+[-–—])?\s*{placeholder}"
        template = re.sub(f"{bracketed}|{separated}", "", template)
    template = re.sub(r"([(\[])\s*[,;:/|]\s*", r"\1", template)
    return re.sub(r"\s*(?:\(\s*\)|\[\s*\])", "", template)


def _names(items: Sequence[Item], item_ids: Sequence[int]) -> str:
    keys = [items[item_id].key for item_id in item_ids]
    if None in keys:
        return f"{len(item_ids)} rows, not all of which have a key (`id`)"
    return "the keys " + ", ".join(map(repr, keys))


def _advice(items: Sequence[Item], collisions: Sequence[Sequence[int]], template: str) -> str:
    """Names a field that tells all colliding items apart, if there is one."""
    colliding = [items[item_id] for item_ids in collisions for item_id in item_ids]
    names = sorted({name for item in colliding for name in item.metadata if name != "alias_ids"})
    for name in [*names, "key"]:
        values = [[_field_values(items[item_id], [name])[name] for item_id in item_ids] for item_ids in collisions]
        if all(len(set(group)) == len(group) for group in values):
            return (
                f"Tell them apart with a template that names another field, such as {template + ' [{' + name + '}]'!r}."
            )
    return "Remove the repeated rows, or give each an `id` and name it in the template: '{title} ({year}) [{key}]'."
