"""The rule for "best" and patience, worked by hand on made-up scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.run.choosing import VALIDATION_FILE, Choice, choice_behind

FOUR = ["a", "b", "c", "d"]


def test_the_first_look_is_the_best_so_far() -> None:
    choice = Choice(FOUR)
    assert choice.best_step is None
    look = choice.look(0, [0.0, 1.0, 1.0, 0.0])
    assert (look.best, look.mean, look.gain, look.gain_standard_error) == (True, 0.5, None, None)
    assert look.standard_error == pytest.approx(3**-0.5 / 2)  # deviation sqrt(1/3), four dialogues


@pytest.mark.parametrize(
    ("scores", "gain", "error", "best"),
    [
        ([0.5, 0.25, 0.25, 0.25], 0.0625, 0.0625, False),  # 0.25 in one dialogue: deviation 0.125, over sqrt(4)
        ([0.5, 0.5, 0.25, 0.25], 0.125, 3**-0.5 / 8, True),  # deviation 0.25 / sqrt(3)
        ([0.375] * 4, 0.125, 0.0, True),  # better by the same everywhere
        ([0.25] * 4, 0.0, 0.0, False),
        ([0.65, 0.05, 0.25, 0.25], 0.05, (0.19 / 12) ** 0.5, False),  # 0.4 gained, 0.2 lost: 0.126, and luck
        ([0.125] * 4, -0.125, 0.0, False),
    ],
)
def test_best_changes_only_above_one_standard_error_of_the_paired_difference(
    scores: list[float], gain: float, error: float, best: bool
) -> None:
    choice = Choice(FOUR)
    choice.look(0, [0.25] * 4)
    look = choice.look(10, scores)
    assert look.gain == pytest.approx(gain, abs=1e-12)
    assert look.gain_standard_error == pytest.approx(error, abs=1e-12)
    assert look.best == best
    assert choice.best_step == (10 if best else 0)


def test_what_makes_a_dialogue_hard_cancels() -> None:
    """Hard and easy dialogues lie far apart, so the means differ by less than their errors; each gains the same."""
    choice = Choice(FOUR)
    first = choice.look(0, [0.0, 1.0, 0.0, 1.0])
    look = choice.look(1, [0.125, 1.125, 0.125, 1.125])
    assert first.standard_error > 0.25 > look.gain == 0.125
    assert look.gain_standard_error == 0.0
    assert look.best


def test_rows_of_one_dialogue_count_as_one() -> None:
    """Four rows gain 0.2, 0.2, 0 and 0: for four dialogues that is sure, for two it is as large as its error."""
    gains = [0.2, 0.2, 0.0, 0.0]
    for names, best in ((FOUR, True), (["a", "a", "b", "b"], False)):
        choice = Choice(names)
        choice.look(0, [0.0] * 4)
        assert choice.look(1, gains).best == best


def test_small_gains_add_up_against_the_best_not_against_the_last() -> None:
    choice = Choice(FOUR)
    choice.look(0, [0.2, 0.2, 0.2, 0.2])
    assert not choice.look(1, [0.4, 0.2, 0.2, 0.2]).best
    look = choice.look(2, [0.4, 0.4, 0.2, 0.2])  # no more than one error above look 1, but above look 0
    assert look.best
    assert look.gain == pytest.approx(0.1)


def test_patience_counts_looks_without_a_new_best() -> None:
    choice = Choice(FOUR, patience=2)
    stops = []
    for step, score in enumerate([0.2, 0.1, 0.3, 0.3, 0.2]):  # best at 0 and 2
        choice.look(step, [score] * 4)
        stops.append(choice.exhausted)
    assert stops == [False, False, False, False, True]
    assert choice.summary()["best_step"] == 2
    assert choice.summary()["looked_at"] == 5


def test_without_patience_it_never_stops() -> None:
    choice = Choice(FOUR)
    for step in range(20):
        choice.look(step, [0.1] * 4)
        assert not choice.exhausted


LOOKS = st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=2, max_size=8)


@given(looks=LOOKS, cut=st.integers(0, 8), patience=st.integers(1, 3))
def test_restored_from_json_it_decides_alike(looks: list[list[float]], cut: int, patience: int) -> None:
    straight, before, after = (Choice(["a", "b", "b", "c"], patience) for _ in range(3))
    for step, scores in enumerate(looks):
        straight.look(step, scores, {"lines": 3.0})
    for step, scores in enumerate(looks[:cut]):
        before.look(step, scores, {"lines": 3.0})
    after.restore(json.loads(json.dumps(before.state())))
    for step, scores in enumerate(looks[cut:], start=len(looks[:cut])):
        after.look(step, scores, {"lines": 3.0})
    assert after.summary() == straight.summary()
    assert after.exhausted == straight.exhausted


@pytest.mark.parametrize("place", ["", "best", "checkpoint-7"])
def test_the_record_is_found_from_every_model_of_the_run(place: str, tmp_path: Path) -> None:
    (tmp_path / VALIDATION_FILE).write_text('{"looked_at": 3}', encoding="utf-8")
    assert choice_behind(tmp_path / place) == {"looked_at": 3}
    assert choice_behind(tmp_path / "another_run") is None
