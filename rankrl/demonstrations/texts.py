"""Items, titles and dialogues as the texts that an encoder compares.

An item and a title that is in no catalogue get one form, so that they can be found similar: the title, a line of
keywords, a paragraph of plot (arXiv 2510.20150, appendix A: metadata).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from catalog import Catalog, Item
from rankrl.teachers import Metadata, MetadataTemplate, Teacher, parse_metadata

logger = logging.getLogger(__name__)

Retriever = Callable[[str], str]
"""Title -> what is known about it, for instance from a search; `""` for nothing."""

NOTHING = Metadata("", "")
_LONGEST_KEYWORD = 60  # characters; a longer text is a description


def item_text(title: str, metadata: Metadata = NOTHING) -> str:
    """The text of an item: what it is called, and what is known about it.

    Example:
        >>> item_text("Heat (1995)", Metadata("crime, heist", ""))
        'Heat (1995)\\nKeywords: crime, heist'
    """
    parts = [title]
    parts += [f"Keywords: {metadata.keywords}"] if metadata.keywords else []
    parts += [f"Plot: {metadata.plot}"] if metadata.plot else []
    return "\n".join(parts)


def own_metadata(item: Item, fields: Sequence[str] | None = None) -> Metadata:
    """What the catalogue itself says of an item: short texts and lists as keywords, long texts as plot.

    Args:
        item: an item.
        fields: the metadata fields to read; by default all that hold text or lists of text, but `alias_ids`, which are
            keys.
    """
    if fields is None:
        fields = [field for field in item.metadata if field != "alias_ids"]
    values = [item.metadata.get(field) for field in fields]
    texts = [text for value in values for text in _texts(value)]
    keywords = [text for text in texts if len(text) <= _LONGEST_KEYWORD]
    return Metadata(", ".join(dict.fromkeys(keywords)), " ".join(text for text in texts if text not in keywords))


def describe(
    teacher: Teacher, titles: Sequence[str], template: MetadataTemplate, retriever: Retriever | None = None
) -> list[Metadata]:
    """Let a teacher write keywords and plot of titles, known or invented.

    Args:
        teacher: who writes.
        titles: their lines, such as `Heat (1995)`.
        template: how to ask.
        retriever: finds evidence on a title, for what the teacher cannot know.

    Returns:
        One description per title; without any text where the answer was refused, empty or in no readable form, which a
        warning counts.
    """
    answers = teacher.ask(describe_requests(titles, template, retriever))
    described = [(answer.text and parse_metadata(answer.text)) or NOTHING for answer in answers]
    if unread := described.count(NOTHING):
        logger.warning(
            "%d of %d titles got no readable description; their titles alone are compared", unread, len(titles)
        )
    return described


def describe_requests(
    titles: Sequence[str], template: MetadataTemplate, retriever: Retriever | None = None
) -> list[list[dict[str, str]]]:
    """The requests that `describe` makes."""
    return [template.messages(title, retriever(title) if retriever else "") for title in titles]


def catalog_metadata(catalog: Catalog, fields: Sequence[str] | None = None) -> list[Metadata]:
    """`own_metadata` of every item.

    Raises:
        ValueError: if no item has one of the fields.
    """
    if fields is not None and (unknown := [f for f in fields if not any(f in item.metadata for item in catalog)]):
        known = sorted({field for item in catalog for field in item.metadata})
        raise ValueError(f"no item of the catalogue has the fields {unknown}; it has {known}")
    return [own_metadata(item, fields) for item in catalog]


def dialogue_text(messages: Sequence[Mapping[str, str]]) -> str:
    """A dialogue as one text, oldest turn first."""
    return "\n".join(message["content"] for message in messages)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.split("|") if part.strip()]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _texts(part)]
    return []
