"""Where the thresholds of fuzzy matching come from: false and missed matches on misspelt titles, by title length.

Misspells titles of a catalogue (one substitution, deletion, insertion or transposition each, seeded) and looks them up;
then holds half of the titles out and asks the other half for them, spelt right and misspelt: whatever is found is
false.

    python benchmarks/match_thresholds.py reddit_v2.jsonl --output docs/results/match_thresholds.md
"""

from __future__ import annotations

import argparse
import logging
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from catalog import Catalog, Item
from catalog.matching import MARGIN, Candidate, required_score
from catalog.titles import title_key

BUCKETS = ((1, 3), (4, 5), (6, 7), (8, 9), (10, 12), (13, 16), (17, 24), (25, 999))
THRESHOLDS = (80.0, 84.0, 86.0, 88.0, 90.0, 92.0, 94.0)
MARGINS = (0.0, 2.0, 4.0, 6.0, 8.0)
FLOOR = 70.0
Query = tuple[str, int | None]
Accept = Callable[[Query, Candidate], bool]


@dataclass
class Probe:
    """Queries, the item each should find (-1: none), and what was found before any threshold."""

    queries: list[Query]
    expected: list[int]
    found: list[Candidate]

    def __add__(self, other: Probe) -> Probe:
        return Probe(self.queries + other.queries, self.expected + other.expected, self.found + other.found)

    def shares(self, accept: Accept) -> tuple[float, float]:
        """The shares of queries that find nothing and that find a wrong item."""
        accepted = [accept(query, candidate) for query, candidate in zip(self.queries, self.found, strict=True)]
        wrong = [
            ok and candidate.item_id != expected
            for ok, candidate, expected in zip(accepted, self.found, self.expected, strict=True)
        ]
        size = max(1, len(self.queries))
        return accepted.count(False) / size, sum(wrong) / size


@dataclass
class Bucket:
    """What was asked about titles of one length: misspelt ones of the catalogue, and titles that are not in it."""

    lengths: tuple[int, int]
    misspelt: Probe
    outside: Probe

    def cell(self, accept: Accept) -> str:
        """`missed / wrong / false` in per cent."""
        missed, wrong = self.misspelt.shares(accept)
        return " / ".join(f"{100 * share:.1f}" for share in (missed, wrong, self.outside.shares(accept)[1]))


def misspell(title: str, random_source: random.Random) -> str:
    """One typing error at a letter of the title: substitution, deletion, insertion or transposition."""
    letters = [position for position, character in enumerate(title) if character.isalpha()]
    if not letters:
        return title
    at = random_source.choice(letters)
    letter = random_source.choice(string.ascii_lowercase)
    kind = random_source.randrange(4)
    if kind == 0:
        return title[:at] + letter + title[at + 1 :]
    if kind == 1:
        return title[:at] + title[at + 1 :]
    if kind == 2:
        return title[:at] + letter + title[at:]
    return title[:at] + title[at : at + 2][::-1] + title[at + 2 :]


def threshold(min_score: float, margin: float = MARGIN) -> Accept:
    """One threshold for titles of every length."""
    return lambda _, found: found.score >= min_score and found.score - found.runner_up >= margin


def as_used(query: Query, found: Candidate) -> bool:
    """The rule of `catalog.matching` at its default `min_score` of 90."""
    required = required_score(len(title_key(query[0])), query[1] is not None, 90.0)
    return found.score >= required and found.score - found.runner_up >= MARGIN


def ask(catalog: Catalog, items: Sequence[Item], spell: Callable[[str], str], with_year: bool) -> Probe:
    """Asks a catalogue for items by respelt title. Queries that are a title of the catalogue are left out."""
    queries, expected = [], []
    for item in items:
        title = spell(item.title)
        if title_key(title) not in catalog.title_index.groups:
            queries.append((title, item.year if with_year else None))
            expected.append(catalog.find(item.title, item.year))
    return Probe(queries, expected, catalog.fuzzy_index.candidates(queries, FLOOR))


def measure(items: Sequence[Item], per_bucket: int, seed: int, with_year: bool) -> list[Bucket]:
    """Misspelt titles asked of the whole catalogue, and held-out titles, right and misspelt, asked of the rest."""
    random_source = random.Random(seed)
    keys = sorted({title_key(item.title) for item in items})
    held_out = set(random_source.sample(keys, len(keys) // 2))
    whole = Catalog(items)
    half = Catalog([item for item in items if title_key(item.title) not in held_out])

    def misspelt(title: str) -> str:
        return misspell(title, random_source)

    buckets = []
    for low, high in BUCKETS:
        fitting = [item for item in items if low <= len(title_key(item.title)) <= high]
        strangers = [item for item in fitting if title_key(item.title) in held_out]
        asked = random_source.sample(fitting, min(per_bucket, len(fitting)))
        strangers = random_source.sample(strangers, min(per_bucket, len(strangers)))
        buckets.append(
            Bucket(
                (low, high),
                ask(whole, asked, misspelt, with_year),
                ask(half, strangers, str, with_year) + ask(half, strangers, misspelt, with_year),
            )
        )
    return buckets


def length_table(buckets: Sequence[Bucket]) -> list[str]:
    """Rows: lengths. Columns: thresholds, and the rule in use."""
    rules: list[tuple[str, Accept]] = [(f"{value:g}", threshold(value)) for value in THRESHOLDS]
    rules.append(("as used", as_used))
    rows = [
        "| key length | misspelt | outside | " + " | ".join(name for name, _ in rules) + " |",
        "| --- | ---: | ---: | " + " | ".join("---:" for _ in rules) + " |",
    ]
    for bucket in buckets:
        low, high = bucket.lengths
        label = f"{low}-{high}" if high < 999 else f"{low}+"
        sizes = f"{len(bucket.misspelt.queries)} | {len(bucket.outside.queries)}"
        rows.append(f"| {label} | {sizes} | " + " | ".join(bucket.cell(accept) for _, accept in rules) + " |")
    return rows


def long_titles(buckets: Sequence[Bucket]) -> Bucket:
    """The buckets of at least 10 characters, taken together."""
    long = [bucket for bucket in buckets if bucket.lengths[0] >= 10]
    empty = Probe([], [], [])
    return Bucket((10, 999), sum((b.misspelt for b in long), empty), sum((b.outside for b in long), empty))


def report(items: Sequence[Item], name: str, per_bucket: int, seed: int, version: str) -> str:
    """The whole page."""
    measured = {with_year: measure(items, per_bucket, seed, with_year) for with_year in (True, False)}
    with patch("catalog.matching.numbers", return_value=()):
        blind = {with_year: measure(items, per_bucket, seed, with_year) for with_year in (True, False)}

    def row(label: str, source: dict[bool, list[Bucket]], accept: Accept) -> str:
        return f"| {label} | {long_titles(source[True]).cell(accept)} | {long_titles(source[False]).cell(accept)} |"

    margins = [row(f"{margin:g}", measured, threshold(90.0, margin)) for margin in MARGINS]
    number_rows = [row("yes", measured, as_used), row("no", blind, as_used)]
    return PAGE.format(
        name=name,
        items=len(items),
        version=version,
        per_bucket=per_bucket,
        seed=seed,
        margin=MARGIN,
        with_year="\n".join(length_table(measured[True])),
        without_year="\n".join(length_table(measured[False])),
        margins="\n".join(margins),
        numbers="\n".join(number_rows),
    )


PAGE = """\
# Thresholds of fuzzy title matching

Made by

    python benchmarks/match_thresholds.py {name} --per-bucket {per_bucket} --seed {seed}

on a catalogue of {items:,} items (version `{version}`). The scores are `rapidfuzz.fuzz.ratio` of normalised keys
(letters and digits only, so a "key length" counts those).

- **misspelt**: titles of the catalogue with one typing error (substitution, deletion, insertion or transposition of
  letters, equally likely), asked of the whole catalogue.
- **outside**: titles held out of the catalogue (half of all titles), spelt right and misspelt, asked of the rest.
- A cell is **missed / wrong / false** in per cent: misspelt titles that found nothing; misspelt titles that found
  another item; outside titles that found any item. Some false matches are one work listed under two spellings.
- "As used" is the rule of `catalog/matching.py` at `min_score=90`: at least 10 characters need 90; 6 to 9 need 90 and
  a year; shorter titles have to be exact. The best title must be {margin:g} points ahead of the next one.

## The line gives the year

{with_year}

## The line gives no year

{without_year}

One substituted letter costs a key of n characters 100/n points: hence the step from 9 to 10 characters at 90.
A year that agrees makes a false match about ten times rarer, so short titles are only matched with one.

## The margin over the runner-up

Keys of at least 10 characters, threshold 90. A same-titled item of another year is no runner-up.

| margin | with year | without year |
| ---: | ---: | ---: |
{margins}

## The numbers in a title

Titles whose numbers differ (`Rocky II`, `Rocky III`; `Part One`, `Part Two`) are never matched. Keys of at least 10
characters, as used, with that rule and without it:

| numbers have to agree | with year | without year |
| --- | ---: | ---: |
{numbers}
"""


def main() -> None:
    """Reads the catalogue, measures, and writes or prints the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", help="catalogue file with years, such as reddit_v2.jsonl")
    parser.add_argument("--output", type=Path, help="Markdown file to write (default: print)")
    parser.add_argument("--per-bucket", type=int, default=500, help="titles per length bucket (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("catalog").setLevel(logging.ERROR)
    catalog = Catalog.load(arguments.catalog)
    page = report(list(catalog), Path(arguments.catalog).name, arguments.per_bucket, arguments.seed, catalog.version)
    if arguments.output:
        arguments.output.write_text(page, encoding="utf-8")
    else:
        print(page)


if __name__ == "__main__":
    main()
