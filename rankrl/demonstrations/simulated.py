"""The demo's teacher: a stand-in for a large language model that answers the same three requests in the same words.

It reads the dialogue as a model would and has a model's faults: its own idea of what is popular, titles outside the
catalogue, misspellings, missing years, ratings that depend on the place in the list. **It is simulated, and every card
says so**: it knows the words of the simulated users and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rankrl.data.simulation import Simulation, Taste
from rankrl.data.simulation.requests import KINDS, read_taste
from rankrl.teachers import Answer, Messages

OUTSIDE = 0.15  # share of the listed titles that are in no catalogue
MISSPELT = 0.10
WITHOUT_YEAR = 0.30
JUDGE_NOISE = 0.8  # standard deviation, in levels of a five-level scale
JUDGE_POSITION = 0.7  # levels: the first place of a window is rated so much too high, the last so much too low

# Words of invented titles; the first one tells the teacher which genre it made the title up for.
_INVENTED = {
    "Action": "Overdrive",
    "Animation": "Paintbox",
    "Comedy": "Custard",
    "Crime": "Safecracker",
    "Documentary": "Witness",
    "Drama": "Letters",
    "Fantasy": "Spellbound",
    "Horror": "Graveyard",
    "Musical": "Tapdance",
    "Romance": "Honeymoon",
    "Science Fiction": "Starship",
    "Thriller": "Suspicion",
    "War": "Trenches",
    "Western": "Tumbleweed",
}
_PLACES = ("in Lisbon", "at Dawn", "for Two", "of the North", "Without End", "Again", "by the Sea", "at Number Nine")
_BETWEEN = re.compile(r"<(dialogue|item)>\n(.*?)\n</\1>", re.DOTALL)
_SHOWN = re.compile(r"<candidates>\n(.*?)\n</candidates>", re.DOTALL)
_LEVEL = re.compile(r"^([+-]?\d+) = ", re.MULTILINE)
_LENGTH = re.compile(r"Recommend exactly (\d+)")


class SimulatedTeacher:
    """Answers requests made with the bundled `movie` templates.

    Args:
        seed: of the simulated world, as for `simulate`.

    Attributes:
        name: says that it is simulated.
    """

    name = "simulated teacher"

    def __init__(self, seed: int = 0) -> None:
        self.world = Simulation(seed)
        self._item_of = {line: item for item, line in enumerate(self.world.catalog.lines)}

    def ask(self, requests: Sequence[Messages]) -> list[Answer]:
        """Answer each request; the same request gets the same answer."""
        return [Answer.of(self._answer(messages[-1]["content"])) for messages in requests]

    def _answer(self, request: str) -> str:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(request.encode()).digest()[:8]))
        between = _BETWEEN.search(request)
        if between is None:
            raise ValueError("the simulated teacher only understands requests made with the bundled movie templates")
        kind, text = between.groups()
        if kind == "item":
            return self._description(text)
        taste = read_taste(text)
        if taste is None:
            return "Could you tell me more about the films you like?"
        if shown := _SHOWN.search(request):
            levels = [int(level) for level in _LEVEL.findall(request[shown.end() :])]
            return self._ratings(taste, shown[1].split("\n"), levels, rng, reasons="reason" in request[shown.end() :])
        length = _LENGTH.search(request[: between.start()] + request[between.end() :])
        return self._list(taste, text, int(length[1]) if length else 20, rng)

    def _list(self, taste: Taste, dialogue: str, num_ranks: int, rng: np.random.Generator) -> str:
        mentioned = [item for line, item in self._item_of.items() if line in dialogue]
        items = self.world.teacher_list(taste, mentioned, num_ranks, rng)
        lines = [self._title(int(item), taste, rng) for item in items]
        return "\n".join(f"{rank}. {line}" for rank, line in enumerate(lines, start=1))

    def _title(self, item: int, taste: Taste, rng: np.random.Generator) -> str:
        film = self.world.catalog[item]
        title, year = film.title, film.year
        chance = rng.random()
        if chance < OUTSIDE:
            title = f"{_INVENTED[taste.liked[0]]} {_PLACES[int(rng.integers(len(_PLACES)))]}"
        elif chance < OUTSIDE + MISSPELT:
            title = _misspell(title, rng)
        return title if rng.random() < WITHOUT_YEAR else f"{title} ({year})"

    def _description(self, title: str) -> str:
        invented = next((genre for genre, word in _INVENTED.items() if title.startswith(word)), None)
        if invented:
            genres = [invented]
        else:
            item = int(self.world.catalog.match([title], min_score=70.0)[0])
            if item < 0:
                return "I do not know this film."
            genres = self.world.catalog[item].metadata["genres"].split("|")
        words = ", ".join([*genres, *(kind for genre in genres[:1] for kind in KINDS[genre][:2])])
        return f"Keywords: {words}\nPlot: A film for people who ask for {KINDS[genres[0]][2]}."

    def _ratings(
        self, taste: Taste, lines: list[str], levels: list[int], rng: np.random.Generator, *, reasons: bool
    ) -> str:
        if unknown := [line for line in lines if line not in self._item_of]:
            raise ValueError(
                f"the simulated teacher rates only the bundled films, as title (year) on a line; got {unknown[0]!r}"
            )
        place = np.linspace(1, -1, len(lines)) if len(lines) > 1 else np.zeros(1)
        suits = self.world.match(taste)[[self._item_of[line] for line in lines]]
        low, high = min(levels), max(levels)
        opinion = low + (high - low) * suits + rng.normal(0, JUDGE_NOISE, len(lines)) + JUDGE_POSITION * place
        rated = np.clip(np.rint(opinion), low, high).astype(int)
        why = [f" | {self._main_genre(line)}" if reasons else "" for line in lines]
        return "\n".join(f"{line}####{level}{of}" for line, level, of in zip(lines, rated.tolist(), why, strict=True))

    def _main_genre(self, line: str) -> str:
        return self.world.catalog[self._item_of[line]].metadata["genres"].split("|")[0]


def make(config: Any) -> SimulatedTeacher:
    """The simulated teacher of a recipe: `teacher: rankrl.demonstrations.simulated:make`."""
    return SimulatedTeacher(config.teacher_seed or 0)


def _misspell(title: str, rng: np.random.Generator) -> str:
    """Two neighbouring letters swapped, or one dropped."""
    place = int(rng.integers(1, max(len(title) - 1, 2)))
    if rng.random() < 0.5:
        return title[: place - 1] + title[place : place + 1] + title[place - 1] + title[place + 1 :]
    return title[:place] + title[place + 1 :]
