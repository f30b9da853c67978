"""The catalogue: all items that can be recommended, their lines, and the one resolver from text to item ids."""

from __future__ import annotations

import hashlib
import json
import logging
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from catalog.checks import as_items, check_keys, index_keys, tidy
from catalog.items import Item
from catalog.lines import DEFAULT_TEMPLATE, check_distinct, render_lines
from catalog.loading import read_items, write_items
from catalog.lookup import TitleIndex
from catalog.matching import FuzzyIndex
from catalog.parsing import ASCII_WHITE_SPACE, read_line, split_lines
from catalog.references import ItemReference
from catalog.titles import read_year

logger = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]
_EXACT = 100.0


class Catalog:
    """All items that can be recommended.

    An item id is an item's row, 0..N-1, in memory only; -1 means "nothing in the catalogue". Files name items by key,
    by title or by `[title, year]`, because a catalogue changes and its rows move.

    Args:
        items: `Item`s or `(title, year)` pairs.
        line_template: how an item is written; names `title`, `year`, `key` or any metadata field. What an item lacks is
            dropped with the brackets or the separator around it. Every item needs a line of its own.
        places: where each item was read (`films.csv:7`), for messages; `item 3` by default.

    Attributes:
        lines: the canonical text of each item, by id.
        keys: the user's key of each item, by id; its line where the file has no `id`.
        line_template: as given.
        problems: what was odd but kept (impossible years, titles over several lines, ...), one sentence each.

    Raises:
        CatalogError: no items, bad items, two items with one key or one line. Names all of them.

    Example:
        >>> films = Catalog([("Heat", 1995), ("The Matrix", 1999)])
        >>> films.find("Matrix, The"), films.lines
        (1, ['Heat (1995)', 'The Matrix (1999)'])
        >>> films.ranked(['1. "Heat" (1995)\\n2. Something else'], num_ranks=3)
        array([[ 0, -1, -1]])
    """

    def __init__(
        self,
        items: Iterable[Item | tuple[str, int | None]],
        line_template: str = DEFAULT_TEMPLATE,
        *,
        places: Sequence[str] | None = None,
    ) -> None:
        given = list(items)
        where = [f"item {number}" for number in range(1, len(given) + 1)] if places is None else places
        clean, self.problems = tidy(as_items(given, where), where)
        check_keys([item.key for item in clean], where)
        self.line_template = line_template
        self.lines = render_lines(clean, line_template)
        check_distinct(clean, self.lines, where, line_template)
        self.keys = [item.key or line for item, line in zip(clean, self.lines, strict=True)]
        check_keys(self.keys, where)
        self._items = [item if item.key else replace(item, key=key) for item, key in zip(clean, self.keys, strict=True)]
        self._key_ids, clashes = index_keys(self._items, where)
        self.problems += clashes
        if self.problems:
            shown = "; ".join(self.problems[:5])
            logger.warning("%d oddities in the catalogue, kept (see Catalog.problems): %s", len(self.problems), shown)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        line_template: str = DEFAULT_TEMPLATE,
        *,
        columns: Mapping[str, str] | None = None,
    ) -> Catalog:
        """Reads a catalogue from a file.

        Fields: `title`; optionally `year`, `id` (the user's key), `aliases` and `alias_ids` (lists; in CSV separated by
        `|`). All others are metadata.

        Args:
            path: `.jsonl`, `.json` (a list of objects), `.csv` (with a header), each also with `.gz`, or `.parquet`.
            line_template: see `Catalog`.
            columns: where the file has other names: `{"title": "name", "id": "asin"}`.

        Returns:
            The catalogue, in the order of the file.

        Raises:
            CatalogError: bad rows, all of them with file, line, field and value; a pickle; an unknown format.
        """
        items, places = read_items(path, columns or {})
        return cls(items, line_template, places=places)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the items to a `.jsonl` or `.jsonl.gz` file that `load` reads back to the same `version`.

        Raises:
            CatalogError: another file name, or metadata that JSON cannot hold.
        """
        write_items(path, self._items)

    @cached_property
    def version(self) -> str:
        """Hash of keys, titles, years, aliases, metadata and template: 16 hex digits, the same in any row order."""
        contents = (
            [item.key, item.title, item.year, sorted(item.aliases), _as_read_back(item.metadata)]
            for item in self._items
        )
        rows = sorted(json.dumps(content, sort_keys=True) for content in contents)
        return hashlib.sha256(json.dumps([self.line_template, rows]).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __getitem__(self, item_id: SupportsIndex) -> Item:
        row = operator.index(item_id)
        if not 0 <= row < len(self._items):
            raise IndexError(f"no item has the id {row}; ids are 0..{len(self) - 1}, and -1 stands for nothing at all")
        return self._items[row]

    def __repr__(self) -> str:
        return f"Catalog({len(self):,} items, version {self.version})"

    def index(self, key: str) -> int:
        """The id of the item with this key, or with this key among its `alias_ids`.

        Raises:
            KeyError: no item has it (`resolve` gives -1 instead).
        """
        item_id = self._key_ids.get(key)
        if item_id is None:
            raise KeyError(f"no item of the catalogue has the key {key!r}; its keys look like {self.keys[0]!r}")
        return item_id

    def find(self, title: str, year: int | None = None, *, year_tolerance: int = 0) -> int:
        """The item with exactly this title, up to case, accents, punctuation, `&` and articles.

        The year decides between same-titled items: an item of the same year, else the nearest within `year_tolerance`,
        else one without a year. Without a year: the item without a year, else the only one. What is then still open,
        the spelling decides (`Host` and `The Host`); what it leaves open is ambiguous.

        Args:
            title: title or alias, without its year.
            year: its year, `None` if unknown.
            year_tolerance: how many years an item's year may be off.

        Returns:
            The item id; -1 if the title is absent, is there with other years only, or is ambiguous.

        Raises:
            TypeError: the title is no text.
            ValueError: the year is no whole number (text that is one is read as one).
        """
        return self.title_index.find(title, read_year(year), year_tolerance)

    def resolve(self, reference: Any, *, year_tolerance: int = 0, min_score: float | None = None) -> int:
        """The item a reference names: by key, else by title and year, where asked also misspelt.

        Args:
            reference: any form that `ItemReference.parse` reads. A plain text is a title or a line, else a key unless
                it is all digits (`"300"` is the film, not the key 300).
            year_tolerance: as in `find`.
            min_score: as in `match`.

        Returns:
            The item id, or -1.

        Raises:
            ValueError: `reference` has no readable form.
        """
        named = ItemReference.parse(reference)
        if named.key is not None and named.key in self._key_ids:
            return self._key_ids[named.key]
        if named.title is None:
            return -1
        if named.year is None:
            item_id = self.title_index.find_line(named.title, year_tolerance)
            if item_id < 0 and isinstance(reference, str) and not reference.isdecimal():
                item_id = self._key_ids.get(reference, -1)
        else:
            item_id = self.title_index.find(named.title, named.year, year_tolerance)
        if item_id < 0 and min_score is not None:
            query = (named.title, named.year) if named.year is not None else read_line(named.title)[:2]
            item_id = self.fuzzy_index.match([query], min_score, year_tolerance)[0].item_id
        return item_id

    def match(self, texts: Sequence[str], *, min_score: float | None = 90.0, year_tolerance: int = 0) -> Ids:
        """The items that single lines name: exactly, else by the nearest spelling, in one batch.

        Args:
            texts: n lines; numbering, quotes and years are understood (see `parse_list`).
            min_score: the least `fuzz.ratio` (0..100) of normalised titles. Short titles need more, and the best title
                must be ahead of the next (`catalog.matching`). `None` for exact titles only.
            year_tolerance: as in `find`.

        Returns:
            (n,) int64 item ids, -1 where nothing was found.
        """
        return self.match_scores(texts, min_score=min_score, year_tolerance=year_tolerance)[0]

    def match_scores(
        self, texts: Sequence[str], *, min_score: float | None = 90.0, year_tolerance: int = 0
    ) -> tuple[Ids, npt.NDArray[np.float32]]:
        """As `match`, with scores: 100 where found exactly, the `fuzz.ratio` where by nearest spelling, 0 where not
        found.

        Args:
            texts: n lines.
            min_score: as in `match`.
            year_tolerance: as in `find`.

        Returns:
            (n,) int64 item ids and (n,) float32 scores.
        """
        _check_texts(texts)
        return self._look_up([text.strip(ASCII_WHITE_SPACE) for text in texts], min_score, year_tolerance)

    def ranked(
        self, texts: Sequence[str], num_ranks: int, *, compact: bool = False, min_score: float | None = None
    ) -> Ids:
        """The items of B completions by rank. Rank k is the k-th non-blank line, whatever that line says.

        Args:
            texts: B completions.
            num_ranks: K; later lines are left out.
            compact: close the lists up over lines that name nothing (then ranks are no longer lines).
            min_score: as in `match`.

        Returns:
            (B, K) int64 item ids, -1 where a line names nothing or is missing.
        """
        return self.ranked_scores(texts, num_ranks, compact=compact, min_score=min_score)[0]

    def ranked_scores(
        self, texts: Sequence[str], num_ranks: int, *, compact: bool = False, min_score: float | None = None
    ) -> tuple[Ids, npt.NDArray[np.float32]]:
        """As `ranked`, with the scores of `match_scores`: below 100 an item was found by nearest spelling.

        Returns:
            (B, K) int64 item ids and (B, K) float32 scores, 0 where the id is -1.
        """
        _check_texts(texts)
        if num_ranks < 1:
            raise ValueError(f"num_ranks is {num_ranks}; expected at least 1")
        rows = [split_lines(text) if compact else split_lines(text)[:num_ranks] for text in texts]
        ids, scores = self._look_up([line for row in rows for line in row], min_score)
        ranked = np.full((len(texts), num_ranks), -1, dtype=np.int64)
        ranked_scores = np.zeros(ranked.shape, dtype=np.float32)
        start = 0
        for row, lines in enumerate(rows):
            of_row = np.arange(start, start + len(lines))
            if compact:
                of_row = of_row[ids[of_row] >= 0][:num_ranks]
            ranked[row, : len(of_row)] = ids[of_row]
            ranked_scores[row, : len(of_row)] = scores[of_row]
            start += len(lines)
        return ranked, ranked_scores

    @cached_property
    def title_index(self) -> TitleIndex:
        """The exact index, built on first use."""
        return TitleIndex(self._items, self.lines)

    @cached_property
    def fuzzy_index(self) -> FuzzyIndex:
        """The index of spellings, built on first use."""
        return FuzzyIndex(self.title_index)

    def _look_up(
        self, lines: Sequence[str], min_score: float | None, year_tolerance: int = 0
    ) -> tuple[Ids, npt.NDArray[np.float32]]:
        """Ids and scores of stripped lines. A canonical line costs one dictionary hit; others are read once."""
        ids = np.fromiter(map(self.title_index.line_ids.get, lines, repeat(-1)), dtype=np.int64, count=len(lines))
        scores = np.where(ids >= 0, np.float32(_EXACT), np.float32(0))
        others = np.flatnonzero(ids < 0).tolist()
        distinct = dict.fromkeys(lines[position] for position in others)
        found = {line: (self.title_index.find_line(line, year_tolerance), _EXACT) for line in distinct}
        if min_score is not None:
            missing = [line for line, (item_id, _) in found.items() if item_id < 0]
            queries = [read_line(line)[:2] for line in missing]
            candidates = self.fuzzy_index.match(queries, min_score, year_tolerance)
            found.update((line, candidate[:2]) for line, candidate in zip(missing, candidates, strict=True))
        for position in others:
            item_id, score = found[lines[position]]
            if item_id >= 0:
                ids[position], scores[position] = item_id, score
        return ids, scores


def _as_read_back(metadata: Mapping[str, Any]) -> Any:
    """Metadata as a file gives it back: the keys of JSON are texts. Sets, which no file holds, have no order."""

    def plain(value: Any) -> Any:
        return sorted(map(str, value)) if isinstance(value, Set) else str(value)

    return json.loads(json.dumps(dict(metadata), default=plain))


def _check_texts(texts: Any) -> None:
    if isinstance(texts, str):
        raise TypeError(f"expected a sequence of texts, got one text, {texts[:40]!r}; write [text]")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {position} is {text!r:.80}; expected str")
