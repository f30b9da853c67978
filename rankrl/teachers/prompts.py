"""The three things a teacher is asked for: a list, the description of an item, the ratings of candidates.

Bundled templates (`movie`, `book`, `generic`) lie in `templates/`; a path names your own. Dialogues and evidence are
data that strangers wrote: what could pass for our delimiters or for a rating is broken up before it is printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from rankrl.teachers.protocol import Messages
from rankrl.templates import BlockTemplate

RATING_MARK = "####"
Scale = Mapping[int, str]
"""Levels of a rating and what they mean, in the order in which the teacher is to read them."""

_DELIMITER = re.compile(r"<(?=\s*/?\s*(?:dialogue|candidates|item|evidence)\b)", re.IGNORECASE)
_MARK = re.compile("#{4,}")
_HEADING = re.compile(r"^[\W_]*(keywords|plot)[*_ ]*:[*_\s]*", re.IGNORECASE | re.MULTILINE)


def as_data(text: str) -> str:
    """`text` without our own delimiters and rating marks: `</dialogue>` becomes `‹/dialogue>`, `####` becomes `###`.

    So a line such as `Heat (1995)####2` in a dialogue is no rating, even if a teacher repeats it.
    """
    return _MARK.sub("###", _DELIMITER.sub("‹", text))


def _turns(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{"role": turn["role"], "content": as_data(turn["content"])} for turn in messages]


def _messages(system: str, user: str) -> Messages:
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": user}]


@dataclass(frozen=True)
class RecommendTemplate(BlockTemplate):
    """Asks for a list. Variables: `turns` (`{"role", "content"}`, oldest first) and `num_ranks`."""

    folder = ("rankrl.teachers", "templates/recommend")
    variables = frozenset({"turns", "num_ranks"})
    required: ClassVar = {
        "turns": "never prints the dialogue: use {% for turn in turns %}",
        "num_ranks": "never says how many items to list: use {{ num_ranks }}",
    }

    def messages(self, dialogue: Sequence[Mapping[str, str]], num_ranks: int = 20) -> Messages:
        """The request for a list of `num_ranks` items for one dialogue."""
        return _messages(*self.fill(turns=_turns(dialogue), num_ranks=num_ranks))


@dataclass(frozen=True)
class MetadataTemplate(BlockTemplate):
    """Asks what one item is like. Variables: `item` (its line) and `evidence` (text, may be `""`)."""

    folder = ("rankrl.teachers", "templates/metadata")
    variables = frozenset({"item", "evidence"})
    required: ClassVar = {"item": "never names the item: use {{ item }}"}

    def messages(self, item: str, evidence: str = "") -> Messages:
        """The request for keywords and plot of one item.

        Args:
            item: its line, such as `Heat (1995)`.
            evidence: what is known about it, for instance from a search.

        Raises:
            ValueError: if there is evidence but the template never prints it.
        """
        if evidence and "evidence" not in self.prints:
            raise ValueError(f"prompt template {self.name!r} never prints the evidence: use {{{{ evidence }}}}")
        return _messages(*self.fill(item=as_data(item), evidence=as_data(evidence)))


@dataclass(frozen=True)
class JudgeTemplate(BlockTemplate):
    """Asks for ratings.

    Variables: `turns`, `candidates` (lines in the order to be shown), `scale` (`{level: its name}`) and `reasons` (is a
    short reason asked for?).
    """

    folder = ("rankrl.teachers", "templates/judge")
    variables = frozenset({"turns", "candidates", "scale", "reasons"})
    required: ClassVar = {
        "turns": "never prints the dialogue: use {% for turn in turns %}",
        "candidates": "never prints the candidates: use {% for line in candidates %}",
        "scale": "never prints the scale: use {% for level, name in scale.items() %}",
    }

    def messages(
        self,
        dialogue: Sequence[Mapping[str, str]],
        candidates: Sequence[str],
        scale: Scale,
        *,
        reasons: bool = False,
    ) -> Messages:
        """The request to rate some candidates for one dialogue.

        Raises:
            ValueError: if reasons are wanted but the template never asks for them.
        """
        if reasons and "reasons" not in self.prints:
            raise ValueError(f"prompt template {self.name!r} never asks for reasons: use {{% if reasons %}}")
        system_and_user = self.fill(
            turns=_turns(dialogue), candidates=list(candidates), scale=dict(scale), reasons=reasons
        )
        return _messages(*system_and_user)


class Metadata(NamedTuple):
    """What a teacher says about an item; `""` for what it left out."""

    keywords: str
    plot: str


def parse_metadata(text: str) -> Metadata | None:
    """Read the answer to a `MetadataTemplate`: a paragraph `Keywords: ...` and a paragraph `Plot: ...`.

    Args:
        text: the answer. Bold headings and bullets do not matter, nor does the order; each paragraph ends at the other
            heading or at a blank line.

    Returns:
        Keywords and plot on one line each, or None if neither is there (prose, an apology).

    Example:
        >>> parse_metadata("Keywords: heist, Los Angeles\\nPlot: A detective hunts a thief.")
        Metadata(keywords='heist, Los Angeles', plot='A detective hunts a thief.')
    """
    found: dict[str, str] = {}
    headings = list(_HEADING.finditer(text))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    for heading, end in zip(headings, ends, strict=False):
        paragraph = text[heading.end() : end].strip().split("\n\n")[0]
        found.setdefault(heading[1].lower(), " ".join(paragraph.split()))
    return Metadata(found.get("keywords", ""), found.get("plot", "")) if found else None
