"""The nearest items, against a sort of all similarities one by one; small integers, so that sums are exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from rankrl.encoders import TfidfEncoder
from rankrl.labels import Retrieved, retrieve

KINDS: dict[str, Callable[[np.ndarray], Any]] = {"dense": lambda vectors: vectors, "csr": csr_array}


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """D dialogues, N items, and what must not be retrieved. Zero vectors and equal ones are frequent."""
    num_dialogues, num_items, width = draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    numbers = st.integers(-2, 2).map(float)
    return {
        "dialogues": draw(arrays(np.float32, (num_dialogues, width), elements=numbers)),
        "items": draw(arrays(np.float32, (num_items, width), elements=numbers)),
        "exclude": [draw(st.sets(st.integers(-1, num_items - 1))) for _ in range(num_dialogues)],
        "number": draw(st.integers(1, num_items + 2)),
    }


def nearest_one_by_one(dialogue: np.ndarray, items: np.ndarray, exclude: set[int], number: int) -> list[tuple]:
    """`(item, similarity)`, best first, then the smaller id."""
    similar = [(item, float(sum(dialogue * vector))) for item, vector in enumerate(items)]
    allowed = [(item, value) for item, value in similar if value > 0 and item not in exclude]
    return sorted(allowed, key=lambda pair: (-pair[1], pair[0]))[:number]


def pairs(found: Retrieved, row: int) -> list[tuple[int, float]]:
    """What was retrieved for a dialogue, and nothing stands after a -1."""
    there = found.items[row] >= 0
    assert there.tolist() == sorted(there.tolist(), reverse=True)
    assert not found.similarities[row][~there].any()
    return list(zip(found.items[row][there].tolist(), found.similarities[row][there].tolist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
@given(case=cases())
def test_they_are_the_most_similar_ones(kind: str, case: dict[str, Any]) -> None:
    dialogues, items, number = case["dialogues"], case["items"], case["number"]
    found = retrieve(KINDS[kind](dialogues), KINDS[kind](items), number, exclude=case["exclude"])
    assert found.items.shape == (len(dialogues), min(number, len(items)))
    assert (found.items.dtype, found.similarities.dtype) == (np.int64, np.float32)
    for row, dialogue in enumerate(dialogues):
        assert pairs(found, row) == nearest_one_by_one(dialogue, items, case["exclude"][row], number)
    np.testing.assert_allclose(found.ordinary, (dialogues @ items.T).mean(axis=1), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(case=cases(), block=st.integers(1, 8))
def test_blocks_change_nothing(kind: str, case: dict[str, Any], block: int) -> None:
    vectors = KINDS[kind](case["dialogues"]), KINDS[kind](case["items"])
    whole, parts = (retrieve(*vectors, case["number"], exclude=case["exclude"], block=size) for size in (None, block))
    for name in ("items", "similarities", "ordinary"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_the_vectors_stay_as_they_are() -> None:
    dialogues, items = np.eye(3, dtype=np.float32), np.ones((4, 3), dtype=np.float32)
    retrieve(dialogues, items, exclude=[{0}, {1}, {2}])
    assert (dialogues == np.eye(3)).all()
    assert (items == 1).all()


def test_what_is_excluded_still_counts_as_ordinary() -> None:
    """The mean is over all items: a dialogue that has seen much is no different from one that has not."""
    found = retrieve(np.array([[1.0]], np.float32), np.array([[0.9], [0.3]], np.float32), 2, exclude=[{0}])
    assert found.items.tolist() == [[1, -1]]
    assert found.ordinary[0] == pytest.approx(0.6)


def test_texts_find_what_they_speak_of() -> None:
    encoder = TfidfEncoder.fit(["a western with horses", "a space opera", "a courtroom drama"])
    items = encoder.encode(["a western with horses", "a space opera", "a courtroom drama"])
    found = retrieve(encoder.encode(["horses, please", "QQQ", "an opera in space"]), items, 1)
    assert found.items.tolist() == [[0], [-1], [1]], "a text without a known word is similar to nothing"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 0}, "number is 0 and block is .*; both are at least 1"),
        ({"block": 0}, "block is 0; both are at least 1"),
        ({"exclude": [{0}]}, "exclude has 1 rows for 2 dialogues; give one for each"),
        ({"exclude": [{0}, {2, 7}]}, r"exclude\[1\] has item 7, the catalogue ids 0 to 2"),
        ({"item_vectors": np.eye(3, 4, dtype=np.float32)}, "different encoders"),
        ({"item_vectors": csr_array(np.eye(3, dtype=np.float32))}, "different encoders"),
        ({"item_vectors": np.full((3, 3), np.nan, np.float32)}, "check the encoder"),
    ],
)
def test_wrong_input(changes: dict[str, Any], message: str) -> None:
    eye = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        retrieve(**{"dialogue_vectors": eye[:2], "item_vectors": eye, **changes})
