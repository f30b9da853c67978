"""A catalogue at the terminal.

    python -m catalog resolve CATALOG < lines     what each line of the standard input names
    python -m catalog stats CATALOG               sizes, years, repeated titles, what is odd
    python -m catalog diff OLD NEW                items added, removed and changed, by key

Exit status: 0; 1 if a line names nothing (resolve) or the catalogues differ (diff); 2 for an error.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from catalog.catalogue import Catalog
from catalog.items import Item
from catalog.lines import DEFAULT_TEMPLATE
from catalog.parsing import split_lines

_WIDEST_COLUMN = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command line, by default that of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    logging.getLogger("catalog").setLevel(logging.ERROR)  # `stats` prints what loading reports
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"catalog: {error}", file=sys.stderr)
        return 2
    return status


def resolve(options: argparse.Namespace) -> int:
    """Prints, for each line of the standard input, the item it names and how it was found."""
    catalog = _load(options.catalog, options)
    lines = split_lines(sys.stdin.buffer.read().decode("utf-8", "replace"))
    min_score = None if options.exact else options.min_score
    ids, scores = catalog.match_scores(lines, min_score=min_score, year_tolerance=options.year_tolerance)
    rows = [("LINE", "HOW", "SCORE", "ID", "KEY")]
    for line, item_id, score in zip(lines, ids.tolist(), scores.tolist(), strict=True):
        key = catalog.keys[item_id] if item_id >= 0 else "-"
        rows.append((line, _how(catalog, line, item_id, score), f"{score:.0f}", str(item_id), key))
    _print_table(rows)
    return 1 if (ids < 0).any() else 0


def stats(options: argparse.Namespace) -> int:
    """Prints sizes, years, repeated titles and what loading found odd."""
    catalog = _load(options.catalog, options)
    years = sorted(item.year for item in catalog if item.year is not None)
    groups = [group for group in catalog.title_index.groups.values() if len(group) > 1]
    ambiguous = [group for group in groups if len({catalog[item_id].year for item_id in group}) < len(group)]
    lengths = sorted(map(len, catalog.lines))
    rows = [
        ("items", f"{len(catalog):,}"),
        ("version", catalog.version),
        ("distinct titles (normalised)", f"{len(catalog.title_index.groups):,}"),
        ("years", f"{years[0]} to {years[-1]}" if years else "none"),
        ("items without a year", f"{len(catalog) - len(years):,}"),
        ("items with aliases", f"{sum(1 for item in catalog if item.aliases):,}"),
        ("titles of several items", f"{len(groups):,} ({sum(map(len, groups)):,} items need their year)"),
        ("  also in the same year", f"{len(ambiguous):,}" + _examples(catalog, ambiguous)),
        ("characters a line", f"median {lengths[len(lengths) // 2]}, 99 % up to {lengths[len(lengths) * 99 // 100]}"),
        ("problems", f"{len(catalog.problems):,}"),
    ]
    _print_table(rows, widest=10_000)
    for problem in catalog.problems:
        print(f"  {problem}")
    return 0


def diff(options: argparse.Namespace) -> int:
    """Prints what was added (+), removed (-) and changed (~), by key."""
    old, new = (_by_key(_load(path, options)) for path in (options.old, options.new))
    added, removed = [new[key] for key in new.keys() - old.keys()], [old[key] for key in old.keys() - new.keys()]
    changed = [(old[key], item) for key, item in new.items() if key in old and old[key] != item]
    for sign, items in (("+", added), ("-", removed)):
        for key, title, year in sorted((item.key or "", item.title, item.year) for item in items):
            print(f"{sign} {key}  {title!r} {year}")
    for before, after in changed:
        print(f"~ {after.key}  {'; '.join(_changes(before, after))}")
    same = len(new) - len(added) - len(changed)
    print(f"{len(added):,} added, {len(removed):,} removed, {len(changed):,} changed, {same:,} the same")
    return 1 if added or removed or changed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m catalog", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--line-template", default=DEFAULT_TEMPLATE, help="default: %(default)s")
    shared.add_argument(
        "--columns", nargs="*", type=_column, default=[], metavar="OURS=THEIRS", help="such as title=name id=asin"
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("resolve", parents=[shared], help="what each line of the standard input names")
    command.add_argument("catalog")
    command.add_argument("--exact", action="store_true", help="no fuzzy matching")
    command.add_argument("--min-score", type=float, default=90.0, help="fuzzy matching (default: %(default)s)")
    command.add_argument(
        "--year-tolerance", type=int, default=0, help="years an item may be off (default: %(default)s)"
    )
    command.set_defaults(run=resolve)
    command = commands.add_parser("stats", parents=[shared], help="sizes, years, repeated titles, what is odd")
    command.add_argument("catalog")
    command.set_defaults(run=stats)
    command = commands.add_parser("diff", parents=[shared], help="items added, removed and changed, by key")
    command.add_argument("old")
    command.add_argument("new")
    command.set_defaults(run=diff)
    return parser


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise argparse.ArgumentTypeError(f"{text!r} is no OURS=THEIRS, such as title=name")
    return ours, theirs


def _load(path: str, options: argparse.Namespace) -> Catalog:
    return Catalog.load(path, options.line_template, columns=dict(options.columns))


def _how(catalog: Catalog, line: str, item_id: int, score: float) -> str:
    """`exact`; `year`: the title, with another year than the item's; `fuzzy`; or `none`."""
    if item_id < 0:
        return "none"
    if score < 100:
        return "fuzzy"
    return "exact" if catalog.match_scores([line], min_score=None)[0][0] == item_id else "year"


def _examples(catalog: Catalog, groups: Sequence[Sequence[int]]) -> str:
    if not groups:
        return ""
    shown = "; ".join(" / ".join(catalog.lines[item_id] for item_id in group) for group in groups[:3])
    return f", such as {shown}"


def _by_key(catalog: Catalog) -> dict[str, Item]:
    return dict(zip(catalog.keys, catalog, strict=True))


def _changes(before: Item, after: Item) -> list[str]:
    """The fields in which two items differ."""
    old, new = ({"title": i.title, "year": i.year, "aliases": i.aliases, **i.metadata} for i in (before, after))
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names]


def _print_table(rows: Sequence[Sequence[str]], widest: int = _WIDEST_COLUMN) -> None:
    cells = [[cell if len(cell) <= widest else cell[: widest - 3] + "..." for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
