"""A user's taste put into words: the request a recommender reads.

The vocabulary is small on purpose. A model of a million weights, trained from nothing in minutes, has to find the
genre in these words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS: dict[str, tuple[str, ...]] = {
    "Action": ("action films", "action movies", "films with fights and chases", "adrenaline and stunts"),
    "Animation": ("animated films", "animation", "cartoons", "films drawn by hand or computer"),
    "Comedy": ("comedies", "funny films", "films that make me laugh", "something hilarious"),
    "Crime": ("crime films", "gangster movies", "heists and mobsters", "films about criminals"),
    "Documentary": ("documentaries", "true stories told by real people", "non-fiction films", "factual films"),
    "Drama": ("dramas", "dramatic films", "serious character studies", "moving stories about people"),
    "Fantasy": ("fantasy films", "magic and fairy tales", "films with wizards or monsters", "enchanted worlds"),
    "Horror": ("horror films", "scary movies", "films that give me nightmares", "something terrifying"),
    "Musical": ("musicals", "films with singing and dancing", "song and dance films", "Broadway on screen"),
    "Romance": ("romances", "love stories", "romantic films", "films about falling in love"),
    "Science Fiction": ("science fiction", "sci-fi movies", "films about space or the future", "robots and aliens"),
    "Thriller": ("thrillers", "suspense films", "tense mysteries", "something that keeps me guessing"),
    "War": ("war films", "battlefield movies", "films about soldiers", "military stories"),
    "Western": ("westerns", "cowboy movies", "films with gunslingers", "stories of the frontier"),
}
"""Plural noun phrases for each genre: they fit after "I adore", "I am looking for", "in the mood for"."""

_GREETINGS = ("Hi!", "Hello.", "Hey there!", "Good evening.")
_VAGUE = ("I need a film for tonight.", "Can you recommend a movie?", "What should I watch next?")
_QUESTIONS = ("Sure! What do you usually like?", "Happy to help. What are you in the mood for?")
_OPENINGS = ("Hello! What kind of film are you looking for?", "Welcome back! What would you like to watch today?")
_WISHES = (
    "I am looking for {kinds}.",
    "I adore {kinds}.",
    "I'm in the mood for {kinds}.",
    "Can you suggest {kinds}?",
    "I'd like to watch {kinds}.",
    "We always enjoy {kinds}.",
)
_PAIRS = ("{0} and {1}", "{0} or {1}", "{0}, and also {1}")
_LIKED = ("I really liked {films}.", "I enjoyed {films}.", "Among my favourites: {films}.")
_DISLIKES = ("No {kind}, please.", "I can't stand {kind}.", "Anything but {kind}.")
_ERAS = {
    "old": ("Older ones, please.", "Preferably a classic.", "I like old films best."),
    "recent": ("Recent ones, please.", "Preferably something new.", "I like modern films best."),
}
_ASK_EXAMPLES = ("Sounds good. Which films have you enjoyed?", "Nice choice! Tell me more.")
_NO_EXAMPLES = ("Nothing else comes to mind, surprise me.", "That is all, thanks.")


@dataclass(frozen=True)
class Taste:
    """What a user likes: one or two genres, perhaps a genre they avoid, perhaps an era.

    Attributes:
        liked: One or two genres, the stronger one first.
        disliked: A genre the user avoids, or None.
        era: "old", "recent" or None.
    """

    liked: tuple[str, ...]
    disliked: str | None = None
    era: str | None = None


def write_request(taste: Taste, films: Sequence[str], rng: np.random.Generator) -> list[dict[str, str]]:
    """Put a taste into words: the messages of one dialogue, the last of them from the user.

    Args:
        taste: What the user likes.
        films: Up to two films the user mentions as liked, as written in the text.
        rng: Source of the wording.

    Returns:
        Messages `{"role": "user" | "assistant", "content": text}`; two in five are a single turn, the
        others have an assistant turn between two user turns, or open with the assistant.
    """
    wish, details = _wish(taste, rng), _details(taste, films, rng)
    form = rng.choice(["single", "vague", "examples", "opened"], p=[0.4, 0.2, 0.2, 0.2])
    everything = " ".join([wish, *details])
    if form == "single":
        return [_user(_greet(everything, rng))]
    if form == "vague":
        return [_user(_greet(_pick(_VAGUE, rng), rng)), _assistant(_pick(_QUESTIONS, rng)), _user(everything)]
    if form == "opened":
        return [_assistant(_pick(_OPENINGS, rng)), _user(everything)]
    answer = " ".join(details) or _pick(_NO_EXAMPLES, rng)
    return [_user(_greet(wish, rng)), _assistant(_pick(_ASK_EXAMPLES, rng)), _user(answer)]


def read_taste(text: str) -> Taste | None:
    """The taste that a dialogue's text gives away: the way back from `write_request`.

    Args:
        text: the turns of a dialogue, in any layout.

    Returns:
        The taste; None if the text asks for no genre.
    """
    era = next((era for era, phrases in _ERAS.items() if any(phrase in text for phrase in phrases)), None)
    disliked = None
    for genre, kinds in KINDS.items():
        for pattern in _DISLIKES:
            sentence = pattern.format(kind=kinds[0])
            if sentence in text:
                disliked, text = genre, text.replace(sentence, "")
    wishes = (re.escape(wish).replace(re.escape("{kinds}"), "(.+?)") for wish in _WISHES)
    wish = re.search("|".join(wishes), text)
    if wish is None:
        return None
    wanted: str = next(group for group in wish.groups() if group)
    places = {wanted.find(phrase): genre for genre, phrases in KINDS.items() for phrase in phrases if phrase in wanted}
    return Taste(tuple(places[place] for place in sorted(places)), disliked, era) if places else None


def _wish(taste: Taste, rng: np.random.Generator) -> str:
    kinds = [_pick(KINDS[genre], rng) for genre in taste.liked]
    phrase = _pick(_PAIRS, rng).format(*kinds) if len(kinds) > 1 else kinds[0]
    return _pick(_WISHES, rng).format(kinds=phrase)


def _details(taste: Taste, films: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Examples, dislike and era in any order; whatever the user does not have is left out."""
    details = []
    if films:
        details.append(_pick(_LIKED, rng).format(films=" and ".join(films)))
    if taste.disliked:
        details.append(_pick(_DISLIKES, rng).format(kind=KINDS[taste.disliked][0]))
    if taste.era:
        details.append(_pick(_ERAS[taste.era], rng))
    return [details[i] for i in rng.permutation(len(details))]


def _greet(text: str, rng: np.random.Generator) -> str:
    return f"{_pick(_GREETINGS, rng)} {text}" if rng.random() < 0.5 else text


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}
