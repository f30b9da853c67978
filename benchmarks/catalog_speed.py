"""How fast the catalogue turns completions into item ids, and what larger catalogues cost.

    python benchmarks/catalog_speed.py                     synthetic titles
    python benchmarks/catalog_speed.py reddit_v2.jsonl     your own catalogue first, then synthetic ones

Times are the best of several runs, on lists that were not seen before (nothing is cached between batches).
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process

from catalog import Catalog, title_key
from catalog.parsing import parse_list

COMPLETIONS, RANKS = 128, 20
TARGETS_MS = {"canonical": 5, "normalised": 20, "misspelt": 200}
SYLLABLES = "ba be bo ca ce da de di do el fa fi ga go ha he in ka la le li lo ma me mi na ne no or pa ra re ri".split()


def synthetic_rows(size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with made-up titles of one to four words; some share a title, none a title and a year."""
    random_source = random.Random(seed)
    pairs: dict[tuple[str, int], None] = {}
    while len(pairs) < size:
        words = (
            "".join(random_source.choices(SYLLABLES, k=random_source.randint(2, 4))).capitalize()
            for _ in range(random_source.randint(1, 4))
        )
        article = "The " if random_source.random() < 0.3 else ""
        pairs[article + " ".join(words), random_source.randint(1930, 2025)] = None
    return [{"title": title, "year": year} for title, year in pairs]


def misspell(line: str, random_source: random.Random) -> str:
    """Leaves out one letter of a line."""
    at = random_source.choice([position for position, letter in enumerate(line) if letter.isalpha()] or [0])
    return line[:at] + line[at + 1 :]


def completions(lines: Sequence[str], change: Callable[[str, int], str], seed: int) -> list[str]:
    """B texts of K changed lines of the catalogue."""
    random_source = random.Random(seed)
    return [
        "\n".join(change(random_source.choice(lines), rank) for rank in range(1, RANKS + 1)) for _ in range(COMPLETIONS)
    ]


def best_of(runs: int, batches: Callable[[int], list[str]], work: Callable[[list[str]], Any]) -> tuple[float, Any]:
    """Best time in milliseconds over `runs` different batches, and the last result."""
    best, result = float("inf"), None
    for run in range(runs):
        texts = batches(run)
        start = time.perf_counter()
        result = work(texts)
        best = min(best, 1000 * (time.perf_counter() - start))
    return best, result


def time_lookups(catalog: Catalog, runs: int) -> list[tuple[str, float, float]]:
    """(kind of lines, milliseconds, share found) for a batch of B x K lines."""
    spoiler = random.Random(0)
    kinds: dict[str, tuple[Callable[[str, int], str], float | None]] = {
        "canonical": (lambda line, _: line, None),
        "normalised": (lambda line, rank: f"{rank}. {line.lower()}", None),
        "misspelt": (lambda line, _: misspell(line, spoiler), 90.0),
        "unknown": (lambda line, _: line[::-1], 90.0),
    }
    catalog.match(["warm up"], min_score=90.0)
    results = []
    for kind, (change, min_score) in kinds.items():
        milliseconds, ranked = best_of(
            runs,
            lambda run, change=change: completions(catalog.lines, change, run),  # type: ignore[misc]
            lambda texts, min_score=min_score: catalog.ranked(texts, RANKS, min_score=min_score),  # type: ignore[misc]
        )
        results.append((kind, milliseconds, float((ranked >= 0).mean())))
    return results


def time_extract_one(catalog: Catalog, lines: int = 64) -> float:
    """Milliseconds that one `extractOne` call per line takes for B x K misspelt lines, scaled up from a few."""
    keys = list(catalog.title_index.groups)
    spoiler = random.Random(0)
    texts = completions(catalog.lines, lambda line, _: misspell(line, spoiler), 0)
    queries = [title_key(line.title) for text in texts for line in parse_list(text)][:lines]
    start = time.perf_counter()
    for query in queries:
        process.extractOne(query, keys, scorer=fuzz.ratio, score_cutoff=90)
    return 1000 * (time.perf_counter() - start) * COMPLETIONS * RANKS / lines


def report_speed(name: str, catalog: Catalog, runs: int) -> None:
    """Prints the table of one catalogue."""
    print(f"\n{name}: {len(catalog):,} items, {COMPLETIONS} completions of {RANKS} lines")
    print(f"  {'lines':<12}{'ms':>9}{'us/line':>10}{'target ms':>11}{'found':>8}")
    for kind, milliseconds, found in time_lookups(catalog, runs):
        target = str(TARGETS_MS[kind]) if kind in TARGETS_MS and len(catalog) < 10_000 else "-"
        per_line = 1000 * milliseconds / COMPLETIONS / RANKS
        print(f"  {kind:<12}{milliseconds:>9.1f}{per_line:>10.2f}{target:>11}{found:>8.1%}")
        if kind == "misspelt":
            one_by_one = time_extract_one(catalog)
            print(f"  (one extractOne per line: {one_by_one:,.0f} ms, {one_by_one / milliseconds:.1f} times as long)")


LOAD_SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from catalog import Catalog
def resident():  # MiB
    if Path("/proc/self/statm").exists():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
before = resident()
start = time.perf_counter()
films = Catalog.load(sys.argv[1])
loaded = time.perf_counter()
films.title_index
indexed = time.perf_counter()
films.fuzzy_index
ended = time.perf_counter()
films.version
print(json.dumps([loaded - start, indexed - loaded, ended - indexed, time.perf_counter() - ended,
                  resident() - before]))
"""


def report_load(path: Path) -> None:
    """Prints the time and the memory of loading a file, measured in a process of its own."""
    run = subprocess.run([sys.executable, "-c", LOAD_SCRIPT, str(path)], capture_output=True, text=True, check=True)
    load, index, fuzzy, version, mebibytes = json.loads(run.stdout)
    print(
        f"  load {load:.2f} s, exact index {index:.2f} s, fuzzy index {fuzzy:.2f} s, version {version:.2f} s, "
        f"memory +{mebibytes:.0f} MiB"
    )


def main() -> None:
    """Prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", nargs="?", type=Path, help="a catalogue file (default: 7,404 synthetic items)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 300_000], help="synthetic catalogues besides")
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    logging.getLogger("catalog").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        paths = [arguments.catalog] if arguments.catalog else []
        for size in ([] if arguments.catalog else [7404]) + arguments.sizes:
            paths.append(Path(directory, f"synthetic_{size}.jsonl"))
            paths[-1].write_text("".join(json.dumps(row) + "\n" for row in synthetic_rows(size)), encoding="utf-8")
        for path in paths:
            catalog = Catalog.load(path)
            report_speed(path.name, catalog, arguments.runs if len(catalog) < 50_000 else 2)
            report_load(path)


if __name__ == "__main__":
    main()
