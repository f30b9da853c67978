import logging
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Catalog, CatalogError, Item

FILMS = [("Heat", 1995), ("The Matrix", 1999), ("Gilda", None)]


def test_items_lines_and_keys():
    films = Catalog(FILMS)
    assert (len(films), films.lines) == (3, ["Heat (1995)", "The Matrix (1999)", "Gilda"])
    assert films.keys == films.lines
    assert films[1] == Item("The Matrix", 1999, "The Matrix (1999)")
    assert films[np.int64(2)].title == "Gilda"
    assert [item.title for item in films] == ["Heat", "The Matrix", "Gilda"]


def test_minus_one_is_no_item():
    with pytest.raises(IndexError, match=r"no item has the id -1; ids are 0\.\.2"):
        Catalog(FILMS)[-1]


def test_years_as_text_are_years():
    assert Catalog([("Heat", "1995")])[0].year == 1995
    assert Item("Heat", "1995").year == 1995


def test_all_bad_items_are_named_at_once():
    with pytest.raises(CatalogError) as caught:
        Catalog([("Heat", "soon"), ("Up", 2009), ("", 1), "Alien", (7, 1995)])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["item 1", "item 3", "item 4", "item 5"]
    assert "'soon'" in str(caught.value)
    assert "4 of 5" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_a_long_list_of_problems_is_cut_in_the_message_only():
    with pytest.raises(CatalogError, match="and 50 more") as caught:
        Catalog([("", 1)] * 150)
    assert len(caught.value.problems) == 150


def test_an_empty_catalogue_is_refused():
    with pytest.raises(CatalogError, match="at least one item"):
        Catalog([])


def test_line_breaks_in_titles_are_collapsed_and_reported(caplog):
    films = Catalog([("The\nMatrix\u2028 Reloaded", 2003)])
    assert films.lines == ["The Matrix Reloaded (2003)"]
    assert "'The\\nMatrix\\u2028 Reloaded'" in films.problems[0]
    assert "item 1" in caplog.text


@pytest.mark.parametrize("year", [201, -720, 975, 20010, 0])
def test_impossible_years_are_kept_and_reported(year, caplog):
    with caplog.at_level(logging.WARNING):
        films = Catalog([("The Wall", year)])
    assert films[0].year == year
    assert f"year {year} of 'The Wall'" in films.problems[0]
    assert "1000 to 2100" in caplog.text
    assert films.ranked([films.lines[0]], 1).tolist() == [[0]]


def test_a_quiet_catalogue_says_nothing(caplog):
    assert Catalog(FILMS).problems == []
    assert not caplog.records


def test_products_with_long_titles_and_no_year():
    titles = [f"{'USB-C cable, braided, 2 m, ' * 8}colour {number}" for number in range(50)]
    products = Catalog([(title, None) for title in titles])
    assert products.lines == titles
    assert products.match([f"{n}. {title.upper()}" for n, title in enumerate(titles)]).tolist() == list(range(50))


# --- lines


def test_two_items_with_one_line_are_told_apart_by_a_template():
    remakes = [
        Item("Heat", 1995, "a", metadata={"director": "Mann"}),
        Item("Heat", 1995, "b", metadata={"director": ["X", "Y"]}),
    ]
    with pytest.raises(CatalogError) as caught:
        Catalog(remakes)
    assert "the keys 'a', 'b' (item 1, item 2)" in caught.value.problems[0]
    assert "'{title} ({year}) [{director}]'" in str(caught.value)
    films = Catalog(remakes, "{title} ({year}) [{director}]")
    assert films.lines == ["Heat (1995) [Mann]", "Heat (1995) [X, Y]"]
    assert films.find("Heat", 1995) == -1
    assert films.match(films.lines).tolist() == [0, 1]
    assert films.match(["1. heat (1995) [MANN]", "2. **Heat (1995) [X, Y]**", "Heat (1995)"]).tolist() == [0, 1, -1]


def test_where_no_field_tells_items_apart_the_key_is_proposed():
    with pytest.raises(CatalogError, match=r"\[\{key\}\]"):
        Catalog([Item("Heat", 1995, "a"), Item("Heat", 1995, "b")])
    assert Catalog([Item("Heat", 1995, "a"), Item("Heat", 1995, "b")], "{title} ({key})").lines == [
        "Heat (a)",
        "Heat (b)",
    ]


def test_repeated_rows_are_refused():
    with pytest.raises(CatalogError, match=r"'Heat \(1995\)' stands for 2 rows.*item 1, item 3"):
        Catalog([("Heat", 1995), ("Up", 2009), ("Heat", 1995)])


def test_repeated_keys_are_refused_with_their_places():
    with pytest.raises(CatalogError, match="key 'a' stands at x:1, x:3"):
        Catalog([Item("Heat", 1995, "a"), Item("Up", 2009), Item("Pi", 1998, "a")], places=["x:1", "x:2", "x:3"])


def test_a_key_may_not_be_another_items_line():
    with pytest.raises(CatalogError, match=r"key 'Up \(2009\)'"):
        Catalog([Item("Heat", 1995, "Up (2009)"), Item("Up", 2009)])


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{title} ({year})", "Gilda"),
        ("{title} [{year}]", "Gilda"),
        ("{title}, {year}", "Gilda"),
        ("{title} - {year}", "Gilda"),
        ("{year}: {title}", ": Gilda"),
        ("{title} ({year}, {director})", "Gilda (Vidor)"),
        ("{title} ({director}, {year})", "Gilda (Vidor)"),
        ("{title} by {director}", "Gilda by Vidor"),
        ("{title} ({year}) {{x}}", "Gilda {x}"),
    ],
)
def test_a_missing_field_goes_with_what_surrounds_it(template, line):
    films = Catalog(
        [Item("Gilda", metadata={"director": "Vidor"}), Item("Heat", 1995, metadata={"director": "Mann"})], template
    )
    assert films.lines[0] == line


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{title} ({yaer})", r"names \{yaer\}, which no item has; the fields are \['key', 'title', 'year'\]"),
        ("{title", "malformed"),
        ("{year:04d}", "write plain fields"),
        ("film", "names no field"),
        ("{title[0]}", "which no item has"),
    ],
)
def test_bad_templates_teach(template, message):
    with pytest.raises(CatalogError, match=message):
        Catalog(FILMS, template)


def test_an_item_without_a_line_is_refused():
    with pytest.raises(CatalogError, match="no line"):
        Catalog(FILMS, "{year}")


# --- keys and version


def test_keys_and_alias_keys_index_items():
    films = Catalog([Item("Heat", 1995, "a", metadata={"alias_ids": ["x", "b"]}), Item("Up", 2009, "b")])
    assert [films.index(key) for key in ("a", "x", "b")] == [0, 0, 1]
    assert "alias_ids 'b' already names 'b'" in films.problems[0]
    with pytest.raises(KeyError, match="no item of the catalogue has the key 'q'"):
        films.index("q")


@given(st.randoms(use_true_random=False))
def test_the_version_does_not_depend_on_the_order_of_rows(shuffler: random.Random):
    items = [Item(f"Title {n}", 1990 + n, str(n), (f"Alias {n}", "B"), {"genre": ["x"], "n": n}) for n in range(6)]
    shuffled = items.copy()
    shuffler.shuffle(shuffled)
    assert Catalog(items).version == Catalog(shuffled).version


@pytest.mark.parametrize(
    "changed",
    [
        Item("Heat 2", 1995, "a", ("H",), {"genre": "x"}),
        Item("Heat", 1996, "a", ("H",), {"genre": "x"}),
        Item("Heat", 1995, "b", ("H",), {"genre": "x"}),
        Item("Heat", 1995, "a", (), {"genre": "x"}),
        Item("Heat", 1995, "a", ("H",), {"genre": "y"}),
        Item("Heat", None, "a", ("H",), {"genre": "x"}),
    ],
)
def test_the_version_depends_on_everything_else(changed):
    original = Item("Heat", 1995, "a", ("H",), {"genre": "x"})
    assert Catalog([original]).version != Catalog([changed]).version
    assert Catalog([original]).version != Catalog([original], "{title}, {year}").version


def test_the_version_is_the_same_in_another_process():
    script = "from catalog import Catalog; print(Catalog([('Heat', 1995), ('Amélie', None)]).version)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == Catalog([("Amélie", None), ("Heat", 1995)]).version


def test_the_version_is_that_of_the_file_whatever_the_metadata(tmp_path):
    stars = Catalog([Item("Heat", 1995, metadata={"stars": {1: 3, 2: 5, 10: 4}})])  # texts, in JSON
    stars.save(tmp_path / "c.jsonl")
    assert Catalog.load(tmp_path / "c.jsonl").version == stars.version


def test_the_version_does_not_depend_on_the_order_of_a_set():
    script = "from catalog import *; print(Catalog([Item('Heat', metadata={'genres': set('abcdefgh'), 1: 2})]).version)"
    versions = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "123"
    }
    assert len(versions) == 1


def test_importing_the_package_stays_cheap():
    script = (
        "import sys, catalog; assert 'numpy' not in sys.modules; from catalog import Catalog, load_item_arrays;"
        "assert not {'torch', 'transformers', 'pandas', 'pyarrow', 'rankrl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_catalogue_can_be_pickled_for_other_processes():
    films = pickle.loads(pickle.dumps(Catalog(FILMS)))
    assert films.ranked(["Heat (1995)"], 2).tolist() == [[0, -1]]
