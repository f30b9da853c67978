import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Catalog, CatalogError, Item, load_item_arrays, save_item_arrays


def catalogue(keys, **options):
    return Catalog([Item(f"Title {key}", 1990, key, **options) for key in keys])


def test_the_same_catalogue_gets_its_arrays_back(tmp_path, caplog):
    films = catalogue("abc")
    scale, factors = np.array([1.0, 2.0, 3.0], dtype=np.float32), np.arange(6).reshape(3, 2)
    save_item_arrays(tmp_path / "weights", films, scale=scale, factors=factors)
    loaded = load_item_arrays(tmp_path / "weights", films)
    np.testing.assert_array_equal(loaded["scale"], scale)
    np.testing.assert_array_equal(loaded["factors"], factors)
    assert (loaded["scale"].dtype, loaded["factors"].dtype) == (scale.dtype, factors.dtype)
    assert not caplog.records
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_rows_move_with_their_keys_even_under_one_version(tmp_path):
    save_item_arrays(tmp_path / "w.npz", catalogue("abc"), w=[1.0, 2.0, 3.0])
    assert catalogue("abc").version == catalogue("cab").version
    assert load_item_arrays(tmp_path / "w.npz", catalogue("cab"))["w"].tolist() == [3.0, 1.0, 2.0]


def test_another_version_is_realigned_and_counted(tmp_path, caplog):
    save_item_arrays(tmp_path / "w.npz", catalogue("abc"), w=[1.0, 2.0, 3.0], v=[[1, 1], [2, 2], [3, 3]])
    with caplog.at_level(logging.WARNING):
        loaded = load_item_arrays(tmp_path / "w.npz", catalogue("xcay"), neutral={"w": 0.5, "v": [7, 8]})
    assert loaded["w"].tolist() == [0.5, 3.0, 1.0, 0.5]
    assert loaded["v"].tolist() == [[7, 8], [3, 3], [1, 1], [7, 8]]
    assert "2 new items" in caplog.text
    assert "1 removed items" in caplog.text


def test_new_items_without_a_neutral_value_are_refused(tmp_path):
    save_item_arrays(tmp_path / "w.npz", catalogue("abc"), w=[1.0, 2.0, 3.0], v=[1, 2, 3])
    with pytest.raises(CatalogError, match=r"knows nothing of 1 items.*'d', and 'v' has no neutral value"):
        load_item_arrays(tmp_path / "w.npz", catalogue("abcd"), neutral={"w": 0})
    assert load_item_arrays(tmp_path / "w.npz", catalogue("ab"))["w"].tolist() == [1.0, 2.0]


def test_items_are_found_under_their_former_keys(tmp_path):
    save_item_arrays(tmp_path / "w.npz", catalogue("abc"), w=[1, 2, 3])
    merged = Catalog([Item("Title a", 1990, "new", metadata={"alias_ids": ["z", "b"]})])
    assert load_item_arrays(tmp_path / "w.npz", merged)["w"].tolist() == [2]


def test_a_neutral_value_has_to_fit(tmp_path):
    save_item_arrays(tmp_path / "w.npz", catalogue("a"), w=[1])
    for bad in (0.5, float("nan")):
        with pytest.raises(CatalogError, match="does not fit the array's type int64"):
            load_item_arrays(tmp_path / "w.npz", catalogue("ab"), neutral={"w": bad})
    save_item_arrays(tmp_path / "w.npz", catalogue("a"), w=np.array([1.0], dtype=np.float32))
    assert load_item_arrays(tmp_path / "w.npz", catalogue("ab"), neutral={"w": 0.1})["w"][1] == np.float32(0.1)
    save_item_arrays(tmp_path / "w.npz", catalogue("a"), w=[1.0])
    assert np.isnan(load_item_arrays(tmp_path / "w.npz", catalogue("ab"), neutral={"w": float("nan")})["w"][1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"w": [1.0]}, r"shape \(1,\); expected \(3, \.\.\.\)"),
        ({"w": 1.0}, r"shape \(\)"),
        ({"w": np.array(["a", "b", "c"])}, "expected numbers"),
        ({"w": np.array([None, 1, 2])}, "expected numbers"),
        ({"catalog_keys": [1, 2, 3]}, "cannot be named"),
    ],
)
def test_arrays_that_are_not_per_item_are_refused(tmp_path, arrays, message):
    with pytest.raises(CatalogError, match=message):
        save_item_arrays(tmp_path / "w.npz", catalogue("abc"), **arrays)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", w=[1, 2])
    (tmp_path / "text.npz").write_text("w")
    save_item_arrays(tmp_path / "whole.npz", catalogue("a"), w=[1])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-40])
    np.save(tmp_path / "one.npy", [1, 2])
    for name in ("other.npz", "text.npz", "cut.npz", "one.npy"):
        with pytest.raises(CatalogError, match=f"{name} was not written by save_item_arrays"):
            load_item_arrays(tmp_path / name, catalogue("a"))


@given(
    old=st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True),
    new=st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True),
    kept=st.sets(st.integers(0, 7)),
)
def test_every_key_keeps_its_value(tmp_path_factory, old, new, kept):
    new = list(dict.fromkeys([old[n] for n in sorted(kept) if n < len(old)] + new))
    path = tmp_path_factory.mktemp("arrays") / "w.npz"
    before = Catalog([Item(f"T{n}", None, key) for n, key in enumerate(old)])
    after = Catalog([Item(f"T{n}", None, key) for n, key in enumerate(new)])
    save_item_arrays(path, before, w=np.arange(1, len(old) + 1))
    loaded = load_item_arrays(path, after, neutral={"w": 0})["w"]
    assert loaded.tolist() == [old.index(key) + 1 if key in old else 0 for key in new]
