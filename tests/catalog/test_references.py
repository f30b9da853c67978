import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import ItemReference


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Heat (1995)", ItemReference(title="Heat (1995)")),
        ("  Heat\n2 ", ItemReference(title="Heat 2")),
        (["Heat", 1995], ItemReference(title="Heat", year=1995)),
        (("Heat", "1995"), ItemReference(title="Heat", year=1995)),
        (["Heat", None], ItemReference(title="Heat")),
        ({"id": "tt1"}, ItemReference(key="tt1")),
        ({"id": 113277}, ItemReference(key="113277")),
        ({"title": "Heat", "year": "1995", "gain": 0.5}, ItemReference(None, "Heat", 1995, 0.5)),
        ({"id": None, "title": "Heat", "year": None, "gain": None}, ItemReference(title="Heat")),
        (ItemReference(key="a"), ItemReference(key="a")),
    ],
)
def test_every_form_is_read(value, expected):
    assert ItemReference.parse(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (17, "17 names no item"),
        (None, "None names no item"),
        (["Heat"], "names no item"),
        (["Heat", 1995, 1.0], "names no item"),
        ([300, 2006], "title of an item reference is 300"),
        ({}, "needs a key or a title"),
        ({"titel": "Heat"}, "unknown field 'titel'"),
        ({"title": " "}, "not blank"),
        ({"id": ""}, "not blank"),
        ("", "not blank"),
        (["Heat", "soon"], "the year is 'soon'"),
        ({"title": "Heat", "gain": 0}, "gain of an item reference is 0"),
        ({"title": "Heat", "gain": 1.5}, "above 0 and at most 1"),
        ({"title": "Heat", "gain": "high"}, "'high'"),
        ({"title": "Heat", "gain": float("nan")}, "nan"),
        ({"id": True}, "key of an item reference is True"),
    ],
)
def test_what_names_no_item_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        ItemReference.parse(value)


def test_the_struct_always_has_the_four_fields():
    assert ItemReference.parse("Heat").to_struct() == {"id": None, "title": "Heat", "year": None, "gain": 1.0}
    assert ItemReference("k", gain=1).to_struct() == {"id": "k", "title": None, "year": None, "gain": 1.0}
    assert isinstance(ItemReference("k", gain=1).gain, float)


@given(
    key=st.none() | st.text(min_size=1).filter(str.strip),
    title=st.text(min_size=1).filter(str.strip),
    year=st.none() | st.integers(-3000, 3000),
    gain=st.floats(0, 1, exclude_min=True),
)
def test_the_struct_survives_json(key, title, year, gain):
    reference = ItemReference(key, title, year, gain)
    assert ItemReference.parse(json.loads(json.dumps(reference.to_struct()))) == reference
