from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from catalog import ItemReference
from rankrl.data import Dialogue, DialogueError, load_dialogues, only_new_items, save_dialogues, to_dataset

ASK = [{"role": "user", "content": "A heist film?"}]
MIXED = [
    Dialogue("a:1:0", ASK, [], [("Heat", 1995), "Up"], domain="movie"),
    Dialogue("a:1:2", [{"role": "assistant", "content": "Hi"}, *ASK], ["Dune"], [{"id": "b7", "gain": 0.25}], ["Emma"]),
    Dialogue("a:2:0", ASK, [("Odyssey", -720)], [{"id": "x", "title": "Amélie \u2028 ✓"}], [], "book", []),
    Dialogue("a:3:0", ASK, [], ["Up"], augmented=[{"id": "b7", "title": "Heat", "year": 1995, "gain": 0.3}, "Dune"]),
]


def write(path: Path, *rows: Mapping[str, Any] | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "a:1:0", "messages": ASK, "seen": [], "ground_truth": [["Heat", 1995]], **changes}


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_files_round_trip_with_mixed_years_and_nulls(tmp_path: Path, name: str) -> None:
    save_dialogues(tmp_path / "new" / name, MIXED)
    assert load_dialogues(tmp_path / "new" / name) == MIXED
    augmented = [dialogue.augmented for dialogue in load_dialogues(tmp_path / "new" / name)]
    heat = ItemReference(key="b7", title="Heat", year=1995, gain=0.3)
    assert augmented == [None, None, [], [heat, ItemReference(title="Dune")]]  # not looked for, nothing found, found


def test_files_from_before_augmented_labels_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", row())
    assert load_dialogues(path)[0].augmented is None
    labelled = write(tmp_path / "y.jsonl", row(suits=["Up (2009)"]))
    (dialogue,) = load_dialogues(labelled, columns={"augmented": "suits"})
    assert dialogue.augmented == [ItemReference.parse("Up (2009)")]


def test_saved_datasets_round_trip(tmp_path: Path) -> None:
    to_dataset(MIXED).save_to_disk(tmp_path / "one")
    assert load_dialogues(tmp_path / "one") == MIXED
    splits = DatasetDict({"train": to_dataset(MIXED[:2]), "test": to_dataset(MIXED[2:])})
    splits.save_to_disk(tmp_path / "two")
    assert load_dialogues(tmp_path / "two", split="test") == MIXED[2:]
    with pytest.raises(ValueError, match=r"splits \['train', 'test'\]"):
        load_dialogues(tmp_path / "two")


references = st.builds(
    ItemReference,
    key=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    title=st.text("aé \U0001f600", min_size=1).filter(str.strip),
    year=st.none() | st.integers(-3000, 2100),
    gain=st.floats(0.01, 1),
)


optional = st.none() | st.lists(references)


@given(st.lists(st.tuples(st.lists(references), st.lists(references, min_size=1), optional, st.none(), optional)))
def test_arrow_holds_any_items(rows: list[Any]) -> None:
    dialogues = [Dialogue(f"a:{index}:0", ASK, *items) for index, items in enumerate(rows)]
    assert [Dialogue(**read) for read in to_dataset(dialogues)] == dialogues


def test_other_datasets_are_read_with_a_column_map(tmp_path: Path) -> None:
    table = Dataset.from_list([{"chat": "A heist film?", "liked": ["Heat (1995)"], "junk": 1}] * 2)
    table.to_parquet(tmp_path / "train.parquet")
    columns = {"messages": "chat", "ground_truth": "liked"}
    wanted = [Dialogue(f"{tmp_path.name}:{n}:0", ASK, [], ["Heat (1995)"]) for n in range(2)]
    # A directory of Parquet files goes the way of a name on the hub: through `datasets.load_dataset`.
    assert load_dialogues(tmp_path, columns=columns) == wanted
    assert load_dialogues(tmp_path, columns=columns, split="train", limit=1) == wanted[:1]


def test_a_missing_column_names_those_present_and_the_way_to_map(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"chat": "hi", "ground_truth": ["Heat"]})
    with pytest.raises(
        DialogueError, match=r"messages.*\['chat', 'ground_truth'\].*columns=\{'messages': 'your column'\}"
    ):
        load_dialogues(path)
    with pytest.raises(DialogueError, match="got 'chats'"):
        load_dialogues(path, columns={"messages": "chats"})
    with pytest.raises(ValueError, match="the fields are id"):
        load_dialogues(path, columns={"chat": "messages"})


def test_all_bad_rows_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        row(),
        "{broken",
        row(id="b", ground_truth=[]),
        "",
        row(id="c", messages=[{"role": "bot", "content": ""}]),
        row(id="a:1:0"),
        "[1]",
    )
    with pytest.raises(DialogueError) as caught:
        load_dialogues(path)
    found = {(problem.where, problem.field) for problem in caught.value.problems}
    assert found == {
        ("x.jsonl:2", "line"),
        ("x.jsonl:3", "ground_truth"),
        ("x.jsonl:5", "messages[0].role"),
        ("x.jsonl:6", "id"),
        ("x.jsonl:7", "line"),
    }
    assert "allow_empty_truth" in str(caught.value)


def test_bad_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(json.dumps(row()).encode() + b"\n" + b'{"id": "\xff"}\n')
    with pytest.raises(DialogueError, match=r"x\.jsonl:2.*UTF-8"):
        load_dialogues(tmp_path / "x.jsonl")


def test_serving_needs_no_ground_truth(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"messages": "A heist film?"})
    with pytest.raises(DialogueError, match="ground_truth"):
        load_dialogues(path)
    assert load_dialogues(path, allow_empty_truth=True) == [Dialogue("x:0:0", ASK, [], [])]


def test_domains_are_chosen_before_the_limit(tmp_path: Path) -> None:
    rows = [row(id=f"a:{n}:0", domain="book" if n % 2 else "movie") for n in range(6)]
    path = write(tmp_path / "x.jsonl", *rows)
    assert [d.id for d in load_dialogues(path, domain="book", limit=2)] == ["a:1:0", "a:3:0"]
    assert len(load_dialogues(path, limit=4)) == 4
    for limit in (0, -3):
        with pytest.raises(ValueError, match=f"limit is {limit}; expected the number of dialogues to read"):
            load_dialogues(path, limit=limit)
    with pytest.raises(ValueError, match=r"no dialogue of domain 'song'.*'book', 'movie'"):
        load_dialogues(path, domain="song")


def test_rows_are_numbered_before_any_is_left_out(tmp_path: Path) -> None:
    """What was recorded of all rows, by their numbers, belongs to the same rows of a domain."""
    rows = [{**row(domain="book" if n % 2 else "movie"), "id": None} for n in range(4)]
    path = write(tmp_path / "mixed.jsonl", *rows)
    assert [d.id for d in load_dialogues(path, domain="book")] == [d.id for d in load_dialogues(path)][1::2]


def test_half_an_emoji_is_reported_where_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", row(id="a:0:0"), row(id="a:1:0", messages="Fun \ud83d film?"))
    with pytest.raises(DialogueError, match="x.jsonl:2: text.*UTF-8 can hold, not half an emoji"):
        load_dialogues(path)


def test_a_source_without_seen_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "x.jsonl", {"messages": "hi", "ground_truth": ["Heat"]})
    with caplog.at_level(logging.WARNING):
        load_dialogues(path)
    assert "no column for 'seen'" in caplog.text


def test_sources_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        load_dialogues(tmp_path / "none.jsonl")
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(ValueError, match=r"x\.csv.*\.jsonl"):
        load_dialogues(tmp_path / "x.csv")
    with pytest.raises(ValueError, match=r"x\.csv.*\.jsonl"):
        save_dialogues(tmp_path / "x.csv", MIXED)


@pytest.mark.parametrize("year", [1995, "1995"])
@pytest.mark.parametrize("prompt", ["Recommend 20 films.", [{"role": "user", "content": "Recommend 20 films."}]])
@pytest.mark.parametrize("saved", ["jsonl", "arrow"])
def test_processed_reddit_v2(tmp_path: Path, year: object, prompt: object, saved: str) -> None:
    read = {
        "prompt": prompt,
        "groundtruth_with_release_year": [["Heat", year]],
        "seen_titles": ["Up", "Alien"],
        "completion": [{"role": "assistant", "content": '"Fargo" (1996)\n"Se7en" (1995)'}],
    }
    path = tmp_path / "train.jsonl"
    if saved == "arrow" and isinstance(year, str):
        path = tmp_path / "train"
        Dataset.from_list([read, read]).save_to_disk(path)
    else:
        write(path, read, read)
    first, second = load_dialogues(path)
    assert first.messages == [{"role": "user", "content": "Recommend 20 films."}]
    assert first.seen == [ItemReference(title="Up"), ItemReference(title="Alien")]
    assert first.ground_truth == [ItemReference(title="Heat", year=1995)]
    assert first.recommendations == [ItemReference(title="Fargo", year=1996), ItemReference(title="Se7en", year=1995)]
    # Two answers to one post: two rows of one dialogue.
    assert first.id != second.id
    assert first.id.rsplit(":", 1)[0] == second.id.rsplit(":", 1)[0]


def test_reddit_v2_without_completions(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", {"prompt": "hi", "groundtruth_with_release_year": [["Heat", 1995]]})
    assert load_dialogues(path)[0].recommendations is None


def test_reddit_v2_without_seen_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_dialogues(write(tmp_path / "test.jsonl", {"prompt": "hi", "groundtruth_with_release_year": [["Heat", 1995]]}))
    assert "no column for 'seen'" in caplog.text


def test_a_line_and_a_title_may_be_the_same_film() -> None:
    pairs = [("Heat", "Heat (1995)", 0), ("Heat (1995)", "Heat", 0), ("Heat (1986)", "Heat (1995)", 1)]
    for seen, wanted, left in pairs:
        kept, _ = only_new_items([Dialogue("a", ASK, [seen], [wanted])], keep_empty=True)
        assert len(kept[0].ground_truth) == left, (seen, wanted)


def test_only_new_items_remain() -> None:
    seen = [("Heat", 1995), "The Matrix", {"id": "b7", "title": "Emma"}, "Fargo (1996)"]
    truth = [
        ("HEAT", 1995),
        ("Heat", 1986),
        ("Matrix", 1999),
        {"id": "b7"},
        {"id": "b8", "title": "Emma"},
        ("Fargo", 1996),
    ]
    dialogues = [
        Dialogue("a", ASK, seen, truth),
        Dialogue("b", ASK, ["Up"], [("Up", 2009)]),
        Dialogue("c", ASK, [], ["Up"]),
    ]
    kept, counts = only_new_items(dialogues)
    assert [d.id for d in kept] == ["a", "c"]
    assert kept[0].ground_truth == [ItemReference(title="Heat", year=1986), ItemReference(key="b8", title="Emma")]
    assert (counts.items, counts.dialogues) == (5, 1)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "rows", "items", "already_seen", "nothing_new"),
    [
        ("redial/train.jsonl.gz", 2880, 3823, 282, 150),
        ("inspired/train.jsonl", 245, 271, 60, 49),
        ("opendialkg/valid.jsonl", 1036, 1094, 379, 335),
    ],
)
def test_real_files(real_data: Path, name: str, rows: int, items: int, already_seen: int, nothing_new: int) -> None:
    dialogues = load_dialogues(real_data / name)
    assert len(dialogues) == rows
    assert sum(len(d.ground_truth) for d in dialogues) == items
    _, counts = only_new_items(dialogues)
    # The source of the numbers counts exact (title, year) pairs; titles without a year and other spellings add a few.
    assert 0 <= counts.items - already_seen <= 3
    assert 0 <= counts.dialogues - nothing_new <= 1


@pytest.mark.real_data
def test_real_books(real_data: Path) -> None:
    books = load_dialogues(real_data / "opendialkg/train.jsonl", domain="book")
    assert len(books) == 1533
    assert {book.domain for book in books} == {"book"}


@pytest.mark.real_data
def test_compressed_files_are_what_they_say(real_data: Path) -> None:
    with gzip.open(real_data / "redial/train.jsonl.gz", "rt", encoding="utf-8") as file:
        first = json.loads(file.readline())
    assert load_dialogues(real_data / "redial/train.jsonl.gz", limit=1)[0].id == first["id"]
