"""How fast the catalogue turns completions into item ids, and what larger catalogues cost.

Times are the best of several runs, on lists that were not seen before (nothing is cached between batches).
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rapidfuzz import fuzz, process

from benchmarks.measure import Row, Table, best_of
from benchmarks.synthetic import Change, as_it_is, catalog_rows, completions
from catalog import Catalog, title_key
from catalog.parsing import parse_list

TARGETS_MS = {"canonical lines": 5, "lines exact after normalising": 20, "misspelt lines": 200}
TARGETS_UP_TO = 10_000  # items
MIN_SCORE = 90.0


def run(sizes: Sequence[int] = (7404, 100_000, 300_000), size: int = 128, num_ranks: int = 20) -> Iterator[Table]:
    """One table for each size of the catalogue: looking up `size` lists of `num_ranks` lines, then loading it."""
    with tempfile.TemporaryDirectory() as directory:
        for items in sizes:
            path = Path(directory, f"{items}.jsonl")
            path.write_text("".join(json.dumps(row) + "\n" for row in catalog_rows(items)), encoding="utf-8")
            rows = [*lookup_rows(Catalog.load(path), size, num_ranks), *load_rows(path)]
            yield Table(f"Catalogue of {items:,} items: {size} completions of {num_ranks} lines", rows)


def lookup_rows(catalog: Catalog, size: int, num_ranks: int) -> Iterator[Row]:
    """Milliseconds for a batch of lines that are written right, nearly right, wrong, and not in the catalogue."""
    spoiler = random.Random(0)
    kinds: dict[str, tuple[Change, float | None]] = {
        "canonical lines": (as_it_is, None),
        "lines exact after normalising": (lambda line, rank: f"{rank}. {line.lower()}", None),
        "misspelt lines": (lambda line, _: misspell(line, spoiler), MIN_SCORE),
        "unknown lines": (lambda line, _: line[::-1], MIN_SCORE),
    }
    small = len(catalog) <= TARGETS_UP_TO
    catalog.match(["builds the indices"], min_score=MIN_SCORE)
    for kind, (change, min_score) in kinds.items():
        batches = (completions(catalog.lines, size, num_ranks, change, seed) for seed in range(10 if small else 2))
        milliseconds, ranked = best_of(partial(catalog.ranked, num_ranks=num_ranks, min_score=min_score), batches)
        found = float((ranked >= 0).mean())
        yield Row(kind, milliseconds, "ms", at_most=TARGETS_MS.get(kind) if small else None)
        if min_score is not None:
            yield Row(f"{kind} that find an item", 100 * found, "%")
        else:
            assert found == 1, f"{kind} have to be found, all of them; {1 - found:.1%} were not"
    yield Row("misspelt lines, one `extractOne` a line", one_by_one(catalog, size, num_ranks), "ms")


def misspell(line: str, random_source: random.Random) -> str:
    """Leaves out one letter of a line."""
    at = random_source.choice([position for position, letter in enumerate(line) if letter.isalpha()] or [0])
    return line[:at] + line[at + 1 :]


def one_by_one(catalog: Catalog, size: int, num_ranks: int, tried: int = 64) -> float:
    """Milliseconds that one `extractOne` call a line takes for the whole batch, scaled up from a few misspelt lines."""
    keys = list(catalog.title_index.groups)
    spoiler = random.Random(0)
    texts = completions(catalog.lines, size, num_ranks, lambda line, _: misspell(line, spoiler))
    queries = [title_key(line.title) for text in texts for line in parse_list(text)][:tried]
    start = time.perf_counter()
    for query in queries:
        process.extractOne(query, keys, scorer=fuzz.ratio, score_cutoff=MIN_SCORE)
    return 1000 * (time.perf_counter() - start) * size * num_ranks / len(queries)


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


def load_rows(path: Path) -> Iterator[Row]:
    """The time and the memory of loading a file, measured in a process of its own."""
    script = subprocess.run([sys.executable, "-c", LOAD_SCRIPT, str(path)], capture_output=True, text=True, check=True)
    *seconds, mebibytes = json.loads(script.stdout)
    for what, figure in zip(("loading", "exact index", "fuzzy index", "version"), seconds, strict=True):
        yield Row(what, figure, "s")
    yield Row("memory, all indices built", mebibytes, "MiB")
