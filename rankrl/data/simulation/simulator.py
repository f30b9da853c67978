"""Users with tastes, their requests, their choices, and a teacher who recommends to them.

A choice weighs taste and popularity: p(item | user) is proportional to exp(taste match) x popularity. The teacher knows
taste as well as anybody, but takes for popular, within each genre, what users choose least. So its lists teach a model
the format, the titles and the genres; which films of a genre people want, only their choices can tell.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from catalog import Catalog, ItemReference
from rankrl.data.loaders import save_dialogues
from rankrl.data.schema import Dialogue
from rankrl.data.simulation.choices import Choices
from rankrl.data.simulation.requests import KINDS, Taste, write_request

GENRES = tuple(KINDS)
SECONDARY = 0.3  # weight of a film's further genres; its first one weighs 1
TASTE = 3.6  # exp(3.6) : 1 between a film of the liked genre and one of another, for users
SECOND_LIKE = 0.9  # weight of the second liked genre
DISLIKE = -0.5
ERA = 0.15
OLD, RECENT = 1975, 2000  # "old": before 1975; "recent": from 2000 on
POPULARITY = 1.4  # exponent of the long tail: the film at popularity rank r of its genre weighs r ** -1.4
TEACHER_TASTE = 6.0  # the teacher keeps to the genres asked for
TEACHER_POPULARITY = 0.5
FITS = 0.735  # a film fits a taste from this match on: between the worst of a liked main genre (0.75) and others (0.72)
DEMAND = 0.4  # exponent of the long tail over genres


@dataclass(frozen=True)
class SimulatedData:
    """A catalogue, three splits and what lies behind them.

    Attributes:
        catalog: The films.
        train: Dialogues with `ground_truth` and the teacher's `recommendations`.
        validation: As `train`.
        test: As `train`.
        choices: True choice probabilities of every dialogue of the three splits.
    """

    catalog: Catalog
    train: list[Dialogue]
    validation: list[Dialogue]
    test: list[Dialogue]
    choices: Choices

    def best_lists(self, dialogues: list[Dialogue], num_ranks: int = 10) -> np.ndarray:
        """`Choices.best_lists` on this catalogue: int64 (D, K)."""
        return self.choices.best_lists(dialogues, self.catalog, num_ranks)

    def save(self, folder: Path) -> None:
        """Write `catalog.jsonl`, a file of dialogues for each split, and `truth.npz`, which comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        self.catalog.save(folder / "catalog.jsonl")
        for split in ("train", "validation", "test"):
            save_dialogues(folder / f"{split}.jsonl", getattr(self, split))
        self.choices.save(folder / "truth.npz")


def simulate(
    num_train: int,
    num_validation: int,
    num_test: int,
    *,
    seed: int = 0,
    num_ranks: int = 10,
    num_items: int | None = None,
) -> SimulatedData:
    """Simulate the demo's data.

    Args:
        num_train: Dialogues to train on.
        num_validation: Dialogues to choose settings on.
        num_test: Dialogues to report on.
        seed: Seed of everything; a split does not change when another split's size does.
        num_ranks: Length of the teacher's lists.
        num_items: Keep only that many of the films, drawn at random; None keeps all.

    Returns:
        The catalogue and the three splits.

    Example:
        >>> data = simulate(200, 50, 50, seed=0)
        >>> data.best_lists(data.test).shape
        (50, 10)
    """
    simulation = Simulation(seed, num_items)
    sizes = {"train": num_train, "validation": num_validation, "test": num_test}
    splits: dict[str, list[Dialogue]] = {}
    ids, rows = [], []
    for number, (split, size) in enumerate(sizes.items()):
        splits[split] = []
        for index in range(size):
            rng = np.random.default_rng([seed, number, index])
            dialogue, probabilities = simulation.dialogue(f"demo-{split}:{index}:0", rng, num_ranks)
            splits[split].append(dialogue)
            ids.append(dialogue.id)
            rows.append(probabilities)
    probabilities = np.array(rows, dtype=np.float32).reshape(len(rows), len(simulation.catalog))
    choices = Choices(tuple(ids), tuple(simulation.catalog.keys), probabilities)
    return SimulatedData(simulation.catalog, splits["train"], splits["validation"], splits["test"], choices)


class Simulation:
    """A world: films, how popular each is, how popular the teacher takes it to be, how much each genre is in demand.

    Args:
        seed: Seed of the world.
        num_items: Keep only that many of the films, drawn at random; None keeps all.

    Attributes:
        catalog: N films.
        log_popularity: float64 (N,), of users' choices.
        teacher_log_popularity: float64 (N,), the reverse of it within each main genre.
        demand: float64 (genres,), how often a genre is liked; sums to 1.
    """

    def __init__(self, seed: int = 0, num_items: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.catalog = load_films(num_items, rng)
        rank, size = self._popularity_ranks(rng)
        self.log_popularity = -POPULARITY * np.log1p(rank)
        self.teacher_log_popularity = -TEACHER_POPULARITY * np.log(size - rank)
        demand = (1.0 + rng.permutation(len(GENRES))) ** -DEMAND
        self.demand = demand / demand.sum()

    @cached_property
    def genres(self) -> np.ndarray:
        """float64 (N, genres): 1 for a film's main genre, less for its others."""
        weights = np.zeros((len(self.catalog), len(GENRES)))
        for item in range(len(self.catalog)):
            main, *others = self.catalog[item].metadata["genres"].split("|")
            weights[item, GENRES.index(main)] = 1.0
            weights[item, [GENRES.index(other) for other in others]] = SECONDARY
        return weights

    @cached_property
    def years(self) -> np.ndarray:
        """int64 (N,): year of each film."""
        return np.array([self.catalog[item].year for item in range(len(self.catalog))])

    def taste(self, rng: np.random.Generator) -> Taste:
        """Draw a user: a liked genre or two, sometimes a disliked one, sometimes an era."""
        drawn = rng.choice(len(GENRES), size=3, replace=False, p=self.demand)
        liked = [GENRES[genre] for genre in drawn[: 1 + (rng.random() < 0.3)]]
        disliked = GENRES[drawn[2]] if rng.random() < 0.15 else None
        era = rng.choice(["old", "recent"]).item() if rng.random() < 0.2 else None
        return Taste(tuple(liked), disliked, era)

    def match(self, taste: Taste) -> np.ndarray:
        """How well each film matches a taste: float64 (N,), 1 for a film of the liked genre."""
        weights = np.zeros(len(GENRES))
        for genre, weight in zip(taste.liked, (1.0, SECOND_LIKE), strict=False):
            weights[GENRES.index(genre)] = weight
        if taste.disliked:
            weights[GENRES.index(taste.disliked)] = DISLIKE
        of_era = {"old": self.years < OLD, "recent": self.years >= RECENT}.get(taste.era or "", 0.0)
        return self.genres @ weights + ERA * of_era

    def fits(self, taste: Taste) -> np.ndarray:
        """Which films fit a taste, whether anybody would choose them or not: bool (N,).

        Those whose main genre was asked for: what augmented labels should find, and what no real data can tell.
        """
        return self.match(taste) >= FITS

    def choice_probabilities(self, taste: Taste, seen: Collection[int] = ()) -> np.ndarray:
        """p(item | user) of the user's next choice: float64 (N,); 0 for the seen item ids."""
        return _probabilities(TASTE * self.match(taste) + self.log_popularity, seen)

    def teacher_list(self, taste: Taste, seen: Collection[int], num_ranks: int, rng: np.random.Generator) -> np.ndarray:
        """The teacher's list: items drawn from its mistaken probabilities, in the order of a walk: int64 (K,).

        Like a language model that goes from one title to the next one it is reminded of, it starts anywhere among the
        items drawn and goes on by year, round the end. So a rank says nothing about popularity.
        """
        probabilities = _probabilities(TEACHER_TASTE * self.match(taste) + self.teacher_log_popularity, seen)
        drawn = rng.choice(len(self.catalog), size=num_ranks, replace=False, p=probabilities)
        by_year = drawn[np.lexsort((drawn, self.years[drawn]))]
        return np.roll(by_year, rng.integers(num_ranks))

    def dialogue(self, dialogue_id: str, rng: np.random.Generator, num_ranks: int = 10) -> tuple[Dialogue, np.ndarray]:
        """Simulate one user: what they say, what they have seen and choose, what the teacher recommends.

        Args:
            dialogue_id: Id of the dialogue.
            rng: Source of the user and the wording.
            num_ranks: Length of the teacher's list.

        Returns:
            The dialogue, and the user's choice probabilities, float64 (N,).
        """
        taste = self.taste(rng)
        # Examples are drawn by taste alone: were they drawn by popularity, requests would give it away to SFT.
        liked = _probabilities(TEACHER_TASTE * self.match(taste))
        seen = rng.choice(len(self.catalog), size=rng.choice(3, p=[0.4, 0.4, 0.2]), replace=False, p=liked)
        probabilities = self.choice_probabilities(taste, seen)
        truth = rng.choice(len(self.catalog), size=rng.integers(2, 6), replace=False, p=probabilities)
        dialogue = Dialogue(
            id=dialogue_id,
            messages=write_request(taste, [self.catalog.lines[item] for item in seen], rng),
            seen=self._references(seen),
            ground_truth=self._references(truth),
            recommendations=self._references(self.teacher_list(taste, seen, num_ranks, rng)),
            domain="movie",
        )
        return dialogue, probabilities

    def _popularity_ranks(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Each film's hidden popularity rank within its main genre, from 0, and that genre's number of films."""
        main = self.genres.argmax(axis=1)
        rank, size = np.zeros(len(main), dtype=np.int64), np.bincount(main)[main]
        for genre in np.unique(main):
            rank[main == genre] = rng.permutation(np.count_nonzero(main == genre))
        return rank, size

    def _references(self, items: np.ndarray) -> list[ItemReference]:
        films = [self.catalog[item] for item in items.tolist()]
        return [ItemReference(key=film.key, title=film.title, year=film.year) for film in films]


def load_films(num_items: int | None, rng: np.random.Generator) -> Catalog:
    """The bundled films (`films.csv`), or `num_items` of them drawn at random.

    Raises:
        ValueError: If `num_items` is more than there are, or fewer than a list needs.
    """
    with as_file(files(__package__) / "films.csv") as path:
        films = Catalog.load(path)
    if num_items is None:
        return films
    if not 50 <= num_items <= len(films):
        raise ValueError(f"num_items must be between 50 and {len(films)}, the number of bundled films; got {num_items}")
    return Catalog([films[item] for item in sorted(rng.permutation(len(films))[:num_items].tolist())])


def _probabilities(log_weights: np.ndarray, excluded: Collection[int] = ()) -> np.ndarray:
    weights = np.exp(log_weights - log_weights.max())
    weights[list(excluded)] = 0.0
    return weights / weights.sum()
