import builtins
import csv
import gzip
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Catalog, CatalogError, Item

ROWS = [
    {"id": "a", "title": "Heat", "year": 1995, "aliases": ["Fuoco"], "genre": ["crime"]},
    {"id": "b", "title": "Amélie", "year": "2001", "aliases": []},
    {"id": "c", "title": "Gilda", "year": None},
]
ITEMS = [Item("Heat", 1995, "a", ("Fuoco",), {"genre": ["crime"]}), Item("Amélie", 2001, "b"), Item("Gilda", None, "c")]


def write(path, rows):
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    else:
        text = json.dumps(rows, indent=1)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode("utf-8-sig"))
    return path


@pytest.mark.parametrize("name", ["films.jsonl", "films.json", "films.jsonl.gz", "films.json.gz"])
def test_json_forms(tmp_path, name):
    assert list(Catalog.load(write(tmp_path / name, ROWS))) == ITEMS


@pytest.mark.parametrize("name", ["films.csv", "films.csv.gz"])
def test_csv(tmp_path, name):
    text = 'id,title,year,aliases,genre\na,Heat,1995.0,Fuoco|Fire,"crime, drama"\nb,"Multi\nline",,,\n'
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    films = Catalog.load(tmp_path / name)
    assert list(films) == [
        Item("Heat", 1995, "a", ("Fuoco", "Fire"), {"genre": "crime, drama"}),
        Item("Multi line", None, "b"),
    ]
    assert films.problems[0].startswith(f"{name}:3: title 'Multi\\nline'")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"id": None, "title": None, "year": None, "aliases": None, "genre": None} | row for row in ROWS]
    for row in rows:
        row["year"] = None if row["year"] is None else int(row["year"])
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "films.parquet")
    films = Catalog.load(tmp_path / "films.parquet")
    assert [(item.title, item.year, item.key, item.aliases) for item in films] == [
        (item.title, item.year, item.key, item.aliases) for item in ITEMS
    ]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_pyarrow(name, *arguments, **options):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    (tmp_path / "films.parquet").write_bytes(b"PAR1")
    with pytest.raises(CatalogError, match=r"pip install 'rankrl\[train\]'"):
        Catalog.load(tmp_path / "films.parquet")


def test_a_broken_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "films.parquet").write_bytes(b"not parquet")
    with pytest.raises(CatalogError, match="films.parquet is no readable Parquet file"):
        Catalog.load(tmp_path / "films.parquet")


def test_columns_have_other_names(tmp_path):
    path = write(tmp_path / "p.jsonl", [{"asin": 7, "name": "Kettle", "released": "2020", "brand": "X"}])
    products = Catalog.load(path, columns={"id": "asin", "title": "name", "year": "released"})
    assert list(products) == [Item("Kettle", 2020, "7", (), {"brand": "X"})]
    with pytest.raises(CatalogError, match=r"no column 'title' .* it has 'asin', 'name'"):
        Catalog.load(path)
    with pytest.raises(CatalogError, match="no column 'nmae'"):
        Catalog.load(path, columns={"title": "nmae"})
    with pytest.raises(CatalogError, match="columns maps 'key'; expected title, year, id"):
        Catalog.load(path, columns={"key": "asin"})


def test_a_mapped_field_is_not_taken_from_elsewhere(tmp_path):
    text = "title,year,released,id,asin\nHeat,2024,1995,1,a1\nUp,2024,,2,\n"
    (tmp_path / "p.csv").write_text(text)
    films = Catalog.load(tmp_path / "p.csv", columns={"year": "released", "id": "asin"})
    assert [(film.title, film.year, film.key) for film in films] == [("Heat", 1995, "a1"), ("Up", None, "Up")]


def test_blanks_after_commas_are_no_part_of_names_and_values(tmp_path):
    (tmp_path / "p.csv").write_text('title, year , genre\n"Heat", 1995, "crime, drama"\n')
    (film,) = Catalog.load(tmp_path / "p.csv")
    assert (film.title, film.year, dict(film.metadata)) == ("Heat", 1995, {"genre": "crime, drama"})


def test_a_column_that_is_nearly_ours_is_not_lost_in_silence(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"title": "Heat", "Year": 1995}\n')
    with pytest.raises(CatalogError, match=r"has a column 'Year' and none called 'year'.*columns={\"year\": \"Year\"}"):
        Catalog.load(tmp_path / "p.jsonl")
    (film,) = Catalog.load(tmp_path / "p.jsonl", columns={"year": "Year"})
    assert film.year == 1995
    (tmp_path / "both.jsonl").write_text('{"title": "Heat", "Title": "HEAT", "year": 1995, "Year": "MCMXCV"}\n')
    assert Catalog.load(tmp_path / "both.jsonl")[0].metadata == {"Title": "HEAT", "Year": "MCMXCV"}


def test_a_column_that_comes_twice_is_reported(tmp_path):
    (tmp_path / "p.csv").write_text("title,genre,genre\nHeat,crime,drama\n")
    with pytest.raises(CatalogError, match="header names 'genre' more than once"):
        Catalog.load(tmp_path / "p.csv")


def test_metadata_cannot_become_aliases(tmp_path):
    with pytest.raises(CatalogError, match="has a field 'aliases', which names a part of the item"):
        Catalog([Item("Heat", 1995, "a", (), {"aliases": ["Fire"]})]).save(tmp_path / "c.jsonl")


def test_a_template_goes_through_load(tmp_path):
    films = Catalog.load(write(tmp_path / "f.jsonl", ROWS), "{title} [{key}]")
    assert films.lines == ["Heat [a]", "Amélie [b]", "Gilda [c]"]


# --- bad files


def test_every_bad_row_is_reported_with_line_field_and_value(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(
        '{"title": "Fine", "year": 2000}\n'
        '{"title": "Heat", "year": "soon"}\n'
        "not json\n"
        '{"title": "  ", "year": 1.5}\n'
        '{"year": 1999}\n'
        '["Heat", 1995]\n'
        '{"title": "Up", "id": 1.5, "aliases": "a||b"}\n'
        '{"title": "Pi", "aliases": [1]}\n'
    )
    with pytest.raises(CatalogError) as caught:
        Catalog.load(path)
    expected = [
        ("bad.jsonl:2: field 'year'", "'soon'"),
        ("bad.jsonl:3: no JSON", "not json"),
        ("bad.jsonl:4: field 'title'", "'  '"),
        ("bad.jsonl:4: field 'year'", "1.5"),
        ("bad.jsonl:5: field 'title'", "None"),
        ("bad.jsonl:6: ['Heat', 1995] is no object", "title"),
        ("bad.jsonl:7: field 'aliases'", "none of them blank"),
        ("bad.jsonl:7: field 'id'", "1.5"),
        ("bad.jsonl:8: field 'aliases'", "[1]"),
    ]
    problems = sorted(caught.value.problems)
    assert len(problems) == len(expected)
    for problem, (start, part) in zip(problems, expected, strict=True):
        assert problem.startswith(start)
        assert part in problem
        assert problem in str(caught.value)


def test_lines_of_json_entries(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('\n[\n  {"title": "[a\\n]"},\n\n  {\n "title": 3},  {"title": "x", "year": []}\n]')
    with pytest.raises(CatalogError) as caught:
        Catalog.load(path)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == ["bad.json:5", "bad.json:6"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "bad.json:1: no JSON"), ('{"a": 1}', "expected a list of objects"), ("[]", "no rows")],
)
def test_bad_json(tmp_path, text, message):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(CatalogError, match=message):
        Catalog.load(tmp_path / "bad.json")


def test_bad_csv_rows(tmp_path):
    (tmp_path / "bad.csv").write_text('title,year\nHeat,1995\nOne, two,2001\n"A\nB",x\nUp\n')
    with pytest.raises(CatalogError) as caught:
        Catalog.load(tmp_path / "bad.csv")
    assert sorted(problem.split(": ")[0] for problem in caught.value.problems) == [
        "bad.csv:3",
        "bad.csv:4",
        "bad.csv:6",
    ]
    assert "3 fields, expected 2" in str(caught.value)
    assert "field 'year': the year is 'x'" in str(caught.value)


def test_repeated_rows_name_file_and_line(tmp_path):
    rows = [{"title": "Heat", "year": 1995}, {"title": "Up"}, {"title": "Heat", "year": "1995"}]
    with pytest.raises(CatalogError, match=r"f\.jsonl:1, f\.jsonl:3"):
        Catalog.load(write(tmp_path / "f.jsonl", rows))


@pytest.mark.parametrize("name", ["films.pkl", "films.pickle", "films.pkl.gz", "films.jsonl", "films.json.gz"])
def test_pickles_are_refused_by_name_and_by_content(tmp_path, name):
    content = pickle.dumps([("Heat", 1995)])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(CatalogError, match=r"runs whatever code is in it[\s\S]*json\.dumps"):
        Catalog.load(tmp_path / name)


def test_unknown_formats_and_encodings(tmp_path):
    (tmp_path / "films.xlsx").write_bytes(b"PK")
    with pytest.raises(CatalogError, match="expected .jsonl, .json or .csv"):
        Catalog.load(tmp_path / "films.xlsx")
    (tmp_path / "films.csv").write_bytes("title\nHeat\nAmélie\n".encode("latin-1"))
    with pytest.raises(CatalogError, match="films.csv:3: the file is not UTF-8"):
        Catalog.load(tmp_path / "films.csv")
    with pytest.raises(FileNotFoundError):
        Catalog.load(tmp_path / "absent.jsonl")


# --- save


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_what_is_saved_is_loaded_again(tmp_path, name):
    films = Catalog(ITEMS)
    films.save(tmp_path / name)
    again = Catalog.load(tmp_path / name)
    assert (list(again), again.version) == (list(films), films.version)
    assert [path.name for path in tmp_path.iterdir()] == [name]


TITLES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


@given(
    pairs=st.lists(
        st.tuples(TITLES, st.none() | st.integers(1000, 2100), st.lists(TITLES, max_size=2)),
        min_size=1,
        max_size=5,
        unique_by=lambda row: (" ".join(row[0].split()), row[1]),
    )
)
def test_any_catalogue_survives_the_file(tmp_path_factory, pairs):
    try:
        films = Catalog([Item(title, year, aliases=tuple(aliases)) for title, year, aliases in pairs])
    except CatalogError:
        return  # "X (1999)" without a year beside "X" of 1999
    path = tmp_path_factory.mktemp("any") / "any.jsonl"
    films.save(path)
    assert Catalog.load(path).version == films.version


def test_what_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="ends in .jsonl"):
        Catalog(ITEMS).save(tmp_path / "out.csv")
    with pytest.raises(CatalogError, match="cannot be written as JSON"):
        Catalog([Item("Heat", metadata={"x": {1, 2}})]).save(tmp_path / "out.jsonl")
    with pytest.raises(CatalogError, match="field 'title', which names a part"):
        Catalog([Item("Heat", metadata={"title": "Fire"})]).save(tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_alias_ids_in_csv_and_json(tmp_path):
    with (tmp_path / "f.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "title", "alias_ids"], ["a", "Heat", "x|y"]])
    films = Catalog.load(tmp_path / "f.csv")
    films.save(tmp_path / "f.jsonl")
    again = Catalog.load(tmp_path / "f.jsonl")
    assert [films.index("y"), again.index("x")] == [0, 0]
    assert films.version == again.version
