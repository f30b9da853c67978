"""Holding out whole dialogues."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.data import Dialogue, dialogue_of, hold_out


def rows(turns: list[int]) -> list[Dialogue]:
    said = [{"role": "user", "content": "A film?"}]
    return [Dialogue(f"talk:{i}:{turn}", said, [], []) for i, count in enumerate(turns) for turn in range(count)]


def test_the_dialogue_is_everything_before_the_last_colon() -> None:
    assert dialogue_of("inspired:test_1:10") == dialogue_of("inspired:test_1:12") == "inspired:test_1"
    assert dialogue_of("lonely") == "lonely"


@given(
    st.lists(st.integers(min_value=1, max_value=4), min_size=4, max_size=20),
    st.sampled_from([0.25, 0.5]),
    st.integers(0, 9),
)
def test_turns_of_one_dialogue_stay_on_one_side(turns: list[int], share: float, seed: int) -> None:
    given_rows = rows(turns)
    learn, held = hold_out(given_rows, share, seed=seed)
    names = [{dialogue_of(row.id) for row in side} for side in (learn, held)]
    assert len(names[1]) == round(share * len(turns))
    assert not names[0] & names[1]
    assert sorted([*learn, *held], key=given_rows.index) == given_rows
    assert [given_rows.index(row) for row in held] == sorted(given_rows.index(row) for row in held)
    assert [{row.id for row in side} for side in hold_out(given_rows[::-1], share, seed=seed)] == [
        {row.id for row in side} for side in (learn, held)
    ]


def test_another_seed_holds_out_others() -> None:
    assert len({tuple(row.id for row in hold_out(rows([1] * 20), 0.2, seed=seed)[1]) for seed in range(5)}) > 1


def test_anything_with_a_dialogue_can_be_split() -> None:
    pairs = [(row, row.id) for row in rows([2] * 4)]
    learn, held = hold_out(pairs, 0.25, row_id=lambda pair: pair[1])
    assert (len(learn), len(held)) == (6, 2)


@pytest.mark.parametrize(("share", "left"), [(0.01, "4 to learn from and 0"), (0.99, "0 to learn from and 4")])
def test_a_side_without_a_dialogue_is_refused(share: float, left: str) -> None:
    with pytest.raises(ValueError, match=f"of 4 dialogues leaves {left}.*up to the last colon"):
        hold_out(rows([3] * 4), share)


@pytest.mark.parametrize("share", [-0.25, 0.0, 1.0, 1.5])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        hold_out([f"set:{n}:0" for n in range(8)], share, row_id=str)
