"""The real catalogues load, and the real dialogues' and language models' items are found in them."""

import gzip
import json

import numpy as np
import pytest

from catalog import Catalog, CatalogError, Item, load_item_arrays, parse_list, save_item_arrays
from catalog.titles import title_key

pytestmark = pytest.mark.real_data

CATALOGUES = {
    "catalogs/reddit_v1.jsonl": (7506, 0),
    "catalogs/reddit_v2.jsonl": (7404, 1),
    "redial/catalog.jsonl": (6509, 0),
    "inspired/catalog.jsonl": (1202, 0),
    "opendialkg/catalog.jsonl": (3672, 3),
}


@pytest.fixture(scope="module")
def catalogues(real_data):
    return {name: Catalog.load(real_data / name) for name in CATALOGUES}


@pytest.mark.parametrize("name", CATALOGUES)
def test_every_item_is_found_by_its_line_and_by_its_title_and_year(catalogues, name):
    films = catalogues[name]
    size, oddities = CATALOGUES[name]
    assert (len(films), len(films.problems)) == (size, oddities)
    everyone = list(range(size))
    assert films.match(films.lines).tolist() == everyone
    assert [films.find(item.title, item.year) for item in films] == everyone
    numbered = [f"{n % 20 + 1}. **{line}**" for n, line in enumerate(films.lines)]
    assert films.match(numbered).tolist() == everyone


def test_impossible_years_are_reported_with_their_line(catalogues):
    assert "reddit_v2.jsonl:6625: year 201 of 'The Wall'" in catalogues["catalogs/reddit_v2.jsonl"].problems[0]
    assert sorted(
        problem.split(" of ")[0].split("year ")[1] for problem in catalogues["opendialkg/catalog.jsonl"].problems
    ) == [
        "-500",
        "-720",
        "975",
    ]


def test_alias_ids_are_keys_too(catalogues):
    for name in ("redial/catalog.jsonl", "inspired/catalog.jsonl"):
        films = catalogues[name]
        aliases = {key: n for n, item in enumerate(films) for key in item.metadata.get("alias_ids", [])}
        assert aliases
        assert all(films.index(key) == n == films.resolve({"id": key}) for key, n in aliases.items())


@pytest.mark.parametrize(
    "name", ["redial/train.jsonl.gz", "redial/test.jsonl", "inspired/test.jsonl", "opendialkg/valid.jsonl"]
)
def test_every_ground_truth_item_resolves_to_itself(catalogues, real_data, name):
    films = catalogues[name.split("/")[0] + "/catalog.jsonl"]
    opened = gzip.open if name.endswith(".gz") else open
    with opened(real_data / name, "rt", encoding="utf-8") as file:
        references = [reference for line in file for reference in json.loads(line)["ground_truth"]]
    found = [films[films.resolve(reference)] for reference in references]
    assert [[item.title, item.year] for item in found] == references


def test_same_titled_items_are_decided_by_their_year(catalogues):
    films = catalogues["catalogs/reddit_v2.jsonl"]
    titles: dict[str, list[int]] = {}
    for item_id, item in enumerate(films):
        titles.setdefault(item.title, []).append(item_id)
    repeated = [ids for ids in titles.values() if len(ids) > 1]
    assert len(repeated) == 230
    assert sum(map(len, repeated)) - len(repeated) == 257
    for ids in repeated:
        assert films.find(films[ids[0]].title) == -1
        assert [films.find(films[n].title, films[n].year) for n in ids] == ids


def test_a_repeated_row_of_a_csv_is_named_and_a_template_settles_it(real_data):
    with pytest.raises(CatalogError, match=r"'34048', '64997' \(movies.csv.gz:6190, movies.csv.gz:7193\)"):
        Catalog.load(real_data / "movielens_small/movies.csv.gz")
    films = Catalog.load(real_data / "movielens_small/movies.csv.gz", "{title} ({year}) [{genres}]")
    assert len(films) == 8570
    assert films.find("The Matrix", 1999) == films.index("2571") == films.find("Matrix, The", 1999)


@pytest.mark.parametrize(("model", "least"), [("gpt-4", 0.87), ("gpt-3.5-turbo", 0.87), ("vicuna-13b", 0.77)])
def test_titles_of_real_lists_are_in_the_catalogue(catalogues, real_data, model, least):
    """The data's own count (letters and digits, no year) gives 87.3, 87.6 and 79.8 % of its parser's items."""
    keys = set(catalogues["catalogs/reddit_v2.jsonl"].title_index.groups)
    with (real_data / f"teacher/inspired_{model}.jsonl").open(encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["prompt"] == "general"]
    titles = [line.title for row in rows for line in parse_list(row["raw"]) if line.title]
    assert sum(title_key(title) in keys for title in titles) / len(titles) > least


def test_arrays_follow_a_real_catalogue_through_a_change(catalogues, tmp_path):
    films = catalogues["redial/catalog.jsonl"]
    items = list(films)
    save_item_arrays(tmp_path / "a.npz", films, row=np.arange(len(films)))
    changed = Catalog([*items[:100:-1], Item("Brand New", 2031)])
    rows = load_item_arrays(tmp_path / "a.npz", changed, neutral={"row": -1})["row"]
    assert rows.tolist() == [*range(len(films) - 1, 100, -1), -1]
