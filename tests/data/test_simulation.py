"""The demo's simulated data: facts, determinism, and the gaps between lists that the demo's story rests on."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from catalog import Catalog, Item, ItemReference
from rankrl.data import load_dialogues
from rankrl.data.schema import Dialogue
from rankrl.data.simulation import Choices, SimulatedData, Simulation, Taste, shuffled, simulate
from rankrl.data.simulation.__main__ import main
from rankrl.data.simulation.requests import KINDS, read_taste, write_request
from rankrl.demonstrations import popular_items
from rankrl.metrics import ndcg_at_k


@pytest.fixture(scope="module")
def data() -> SimulatedData:
    return simulate(800, 20, 500, seed=0)


def item_ids(catalog: Catalog, references: list[ItemReference]) -> list[int]:
    return [catalog.resolve(reference) for reference in references]


def text(dialogue: Dialogue) -> str:
    return " ".join(message["content"] for message in dialogue.messages)


# films.csv


def test_films_are_plain_facts(data: SimulatedData) -> None:
    catalog = data.catalog
    assert 300 <= len(catalog) <= 340
    assert len(set(catalog.keys)) == len(set(catalog.lines)) == len(catalog)
    years = [catalog[item].year for item in range(len(catalog))]
    assert min(years) >= 1900
    assert max(years) <= 2025
    assert {1930, 1950, 1970, 1990, 2010, 2020} <= {year // 10 * 10 for year in years}


def test_every_genre_has_films_of_its_own(data: SimulatedData) -> None:
    genres = [data.catalog[item].metadata["genres"].split("|") for item in range(len(data.catalog))]
    assert all(1 <= len(of_film) == len(set(of_film)) <= 3 for of_film in genres)
    main = Counter(of_film[0] for of_film in genres)
    assert set(main) == set(KINDS)
    assert set().union(*genres) == set(KINDS)
    assert min(main.values()) >= 15


@pytest.mark.parametrize(
    ("title", "years"),
    [("Scarface", (1932, 1983)), ("Ocean's Eleven", (1960, 2001)), ("True Grit", (1969, 2010)), ("300", (2006,)),
     ("1917", (2019,)), ("2001: A Space Odyssey", (1968,)), ("Amélie", (2001,)), ("Se7en", (1995,)),
     ("The Good, the Bad and the Ugly", (1966,))],
)  # fmt: skip
def test_awkward_titles_are_there(data: SimulatedData, title: str, years: tuple[int, ...]) -> None:
    for year in years:
        item = data.catalog[data.catalog.find(title, year)]
        assert (item.title, item.year) == (title, year)
    if len(years) > 1:
        assert data.catalog.find(title) == -1, "only the year tells them apart"


# Simulation


def test_same_seed_same_data() -> None:
    first, second, other = simulate(8, 4, 4, seed=1), simulate(8, 4, 4, seed=1), simulate(8, 4, 4, seed=2)
    assert (first.train, first.validation, first.test) == (second.train, second.validation, second.test)
    np.testing.assert_array_equal(first.choices.probabilities, second.choices.probabilities)
    assert first.test != other.test


def test_a_split_does_not_depend_on_the_size_of_another() -> None:
    small, large = simulate(2, 2, 4, seed=1), simulate(9, 5, 4, seed=1)
    assert small.test == large.test
    assert small.train == large.train[:2]


def test_dialogues_are_valid(data: SimulatedData) -> None:
    for dialogue in [*data.train, *data.validation, *data.test]:
        roles = [message["role"] for message in dialogue.messages]
        assert roles[-1] == "user"
        assert all(before != after for before, after in pairwise(roles))
        seen, truth, listed = (
            item_ids(data.catalog, references)
            for references in (dialogue.seen, dialogue.ground_truth, dialogue.recommendations)
        )
        assert -1 not in seen + truth + listed
        assert len(seen) <= 2
        assert 2 <= len(set(truth)) == len(truth) <= 5
        assert len(set(listed)) == len(listed) == 10
        assert not set(seen) & {*truth, *listed}
        assert all(data.catalog.lines[item] in text(dialogue) for item in seen)


def test_dialogues_take_several_forms(data: SimulatedData) -> None:
    forms = Counter(tuple(message["role"] for message in dialogue.messages) for dialogue in data.train)
    assert set(forms) == {("user",), ("assistant", "user"), ("user", "assistant", "user")}
    assert min(forms.values()) > 0.1 * len(data.train)
    assert len({text(dialogue) for dialogue in data.train}) > 0.95 * len(data.train)


@pytest.mark.parametrize("liked", [("Western",), ("War", "Comedy")])
def test_requests_name_every_liked_genre_and_no_other(liked: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = " ".join(message["content"] for message in write_request(Taste(liked), [], rng))
        named = {genre for genre, phrases in KINDS.items() if any(phrase in words for phrase in phrases)}
        assert named == set(liked)


def test_requests_state_dislike_era_and_examples() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = " ".join(m["content"] for m in write_request(Taste(("War",), "Horror", "old"), ["Heat (1995)"], rng))
        assert KINDS["Horror"][0] in words
        assert "Heat (1995)" in words
        assert any(word in words for word in ("Older", "classic", "old films"))


# Who knows what


def test_teacher_reverses_popularity_within_every_genre() -> None:
    simulation = Simulation(seed=3)
    main = simulation.genres.argmax(axis=1)
    for genre in range(len(KINDS)):
        by_users = np.argsort(simulation.log_popularity[main == genre])
        by_teacher = np.argsort(simulation.teacher_log_popularity[main == genre])
        np.testing.assert_array_equal(by_users, by_teacher[::-1])


def test_what_the_teacher_lists_often_users_choose_rarely(data: SimulatedData) -> None:
    chosen, listed = np.zeros(len(data.catalog)), np.zeros(len(data.catalog))
    for dialogue in data.train:
        chosen[item_ids(data.catalog, dialogue.ground_truth)] += 1
        listed[item_ids(data.catalog, dialogue.recommendations)] += 1
    main = Simulation(seed=0).genres.argmax(axis=1)
    correlations = [
        np.corrcoef(chosen[main == genre].argsort().argsort(), listed[main == genre].argsort().argsort())[0, 1]
        for genre in range(len(KINDS))
    ]
    assert np.mean(correlations) < -0.4


def test_choice_probabilities_are_those_of_the_choices() -> None:
    """Drawn first choices follow the stored probabilities; the seen item is never drawn."""
    simulation = Simulation(seed=0)
    probabilities = simulation.choice_probabilities(Taste(("Western",)), seen=[7])
    assert probabilities[7] == 0
    assert probabilities.sum() == pytest.approx(1)
    unseen = np.arange(len(probabilities)) != 7
    expected = np.exp(3.6 * simulation.match(Taste(("Western",))) + simulation.log_popularity)[unseen]
    np.testing.assert_allclose(probabilities[unseen], expected / expected.sum(), rtol=1e-12)


def test_tastes_move_the_match_the_right_way() -> None:
    simulation = Simulation(seed=0)
    catalog = simulation.catalog
    alien, heat = catalog.find("Alien", 1979), catalog.find("Heat", 1995)
    plain = simulation.match(Taste(("Science Fiction",)))
    assert plain[alien] == 1
    assert plain[heat] == 0
    assert simulation.match(Taste(("Science Fiction",), disliked="Horror"))[alien] < 1
    assert simulation.match(Taste(("Science Fiction",), era="recent"))[alien] == 1
    assert simulation.match(Taste(("Science Fiction",), era="recent"))[catalog.find("Arrival", 2016)] > 1


@pytest.mark.parametrize("seed", [0, 1])
def test_films_fit_whose_main_genre_was_asked_for(seed: int) -> None:
    """Whatever is disliked, and whatever the era: every pair of genres with every dislike."""
    world = Simulation(seed)
    main = np.array([film.metadata["genres"].split("|")[0] for film in world.catalog])
    for first, second in permutations(KINDS, 2):
        for disliked in (None, *(genre for genre in KINDS if genre not in (first, second))):
            for liked in ((first,), (first, second)):
                fits = world.fits(Taste(liked, disliked, "old"))
                np.testing.assert_array_equal(fits, np.isin(main, liked))


def test_most_of_what_users_choose_fits(data: SimulatedData) -> None:
    """And most of what fits is chosen by nobody: what a log lacks."""
    world = Simulation(0)
    for dialogue in data.test[:20]:
        taste = read_taste(text(dialogue))
        if taste is not None:
            fits = world.fits(taste)
            assert world.choice_probabilities(taste)[fits].sum() > 0.6
            assert fits.sum() > 2 * len(dialogue.ground_truth)


def test_the_gaps_the_demo_is_about(data: SimulatedData) -> None:
    """On held-out users: random < teacher < popularity < best possible, with room between them."""
    truth = [set(item_ids(data.catalog, dialogue.ground_truth)) for dialogue in data.test]
    teacher = np.array([item_ids(data.catalog, dialogue.recommendations) for dialogue in data.test])
    wanted = [item_ids(data.catalog, dialogue.ground_truth) for dialogue in data.train]
    popular = np.tile(popular_items(wanted, len(data.catalog))[:10], (len(data.test), 1))
    rng = np.random.default_rng(0)
    guesses = np.array([rng.permutation(len(data.catalog))[:10] for _ in data.test])
    best = data.best_lists(data.test)
    scores = [ndcg_at_k(lists, truth, 10).mean() for lists in (guesses, teacher, popular, best)]
    for score, (low, high) in zip(scores, [(0, 0.04), (0.11, 0.16), (0.16, 0.22), (0.50, 0.62)], strict=True):
        assert low < score < high


def test_best_lists_do_not_fit_other_users(data: SimulatedData) -> None:
    """Requests carry the signal: what is best for one user is far from best for the next."""
    truth = [set(item_ids(data.catalog, dialogue.ground_truth)) for dialogue in data.test]
    best = data.best_lists(data.test)
    own, others = ndcg_at_k(best, truth, 10).mean(), ndcg_at_k(np.roll(best, 1, axis=0), truth, 10).mean()
    assert others < 0.5 * own


# Yardsticks


def toy() -> tuple[Catalog, list[Dialogue]]:
    catalog = Catalog([Item("Heat", 1995, key="h"), Item("Alien", 1979, key="a"), Item("Jaws", 1975, key="j")])
    choices = {"d0": "ja", "d1": "j", "d2": "a", "d3": "j"}
    return catalog, [
        Dialogue(
            id=name,
            messages=[{"role": "user", "content": name}],
            seen=[],
            ground_truth=[ItemReference(key=key) for key in keys],
        )
        for name, keys in choices.items()
    ]


def test_best_lists_follow_probability_and_realign_by_key() -> None:
    catalog, dialogues = toy()
    choices = Choices(("d1", "d0"), ("j", "h", "a"), np.array([[0.5, 0.3, 0.2], [0.0, 0.4, 0.6]], dtype=np.float32))
    assert choices.best_lists(dialogues[:2], catalog, 2).tolist() == [[1, 0], [2, 0]]
    with pytest.raises(KeyError, match=r"1 of 1 dialogues, such as 'd2'.*truth\.npz"):
        choices.best_lists(dialogues[2:3], catalog)


def test_shuffled_moves_every_request_and_nothing_else() -> None:
    _, dialogues = toy()
    moved = shuffled(dialogues, seed=0)
    assert sorted(map(text, moved)) == sorted(map(text, dialogues))
    for before, after in zip(dialogues, moved, strict=True):
        assert before.messages != after.messages
        assert (before.id, before.seen, before.ground_truth) == (after.id, after.seen, after.ground_truth)
    assert shuffled(dialogues, seed=0) == moved
    with pytest.raises(ValueError, match="two or more dialogues, got 1"):
        shuffled(dialogues[:1])


def test_num_items_keeps_some_of_the_films() -> None:
    data = simulate(5, 1, 1, num_items=60)
    assert len(data.catalog) == 60
    with pytest.raises(ValueError, match="between 50 and 322"):
        simulate(1, 1, 1, num_items=1000)


def test_command_writes_what_it_simulates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "data"), "--train", "5", "--validation", "3", "--test", "4", "--seed", "7"])
    assert "322 films and 12 dialogues" in capsys.readouterr().out
    expected = simulate(5, 3, 4, seed=7)
    catalog = Catalog.load(tmp_path / "data" / "catalog.jsonl")
    assert (catalog.lines, catalog.keys) == (expected.catalog.lines, expected.catalog.keys)
    for split in ("train", "validation", "test"):
        assert load_dialogues(tmp_path / "data" / f"{split}.jsonl") == getattr(expected, split)
    choices = Choices.load(tmp_path / "data" / "truth.npz")
    np.testing.assert_array_equal(choices.best_lists(expected.test, catalog), expected.best_lists(expected.test))
