"""Make a dialogue fit: drop its oldest turns, never the last user turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Turn = dict[str, str]


@dataclass(frozen=True)
class Rendered:
    """One prompt.

    Attributes:
        text: the prompt up to where the list begins, begin tokens included.
        token_ids: `text` tokenized with `add_special_tokens=False`.
        dropped_turns: how many of the oldest turns were left out to make it fit.
        cut_characters: how many characters the last user turn lost at its start; 0 unless that was asked for.
    """

    text: str
    token_ids: list[int]
    dropped_turns: int = 0
    cut_characters: int = 0


def fit_dialogue(
    turns: Sequence[Turn],
    write: Callable[[Sequence[Turn]], tuple[str, list[int]]],
    max_tokens: int,
    *,
    shorten_last_turn: bool = False,
) -> Rendered:
    """The prompt with as many of the latest turns as fit, found by bisection: a few renderings, not one per turn.

    Args:
        turns: the whole dialogue, oldest first.
        write: turns -> text and token ids of the prompt. Longer for more turns.
        max_tokens: longest prompt allowed.
        shorten_last_turn: keep only the end of the last user turn if it does not fit by itself.

    Returns:
        A prompt of at most `max_tokens`. What follows the last user turn stays with it.

    Raises:
        ValueError: if the last user turn does not fit and may not be shortened, or does not help.
    """
    whole = Rendered(*write(turns))
    if len(whole.token_ids) <= max_tokens:
        return whole
    users = [index for index, turn in enumerate(turns) if turn["role"] == "user"]
    last = users[-1] if users else len(turns) - 1
    shortest = write(turns[last:])
    if len(shortest[1]) > max_tokens:
        if shorten_last_turn:
            return _shorten(turns, last, write, max_tokens)
        raise _too_long(turns[last], len(shortest[1]), max_tokens)

    too_few, enough, best = 0, last, shortest
    while enough - too_few > 1:
        dropped = (too_few + enough) // 2
        prompt = write(turns[dropped:])
        if len(prompt[1]) <= max_tokens:
            enough, best = dropped, prompt
        else:
            too_few = dropped
    return Rendered(*best, dropped_turns=enough)


def _shorten(
    turns: Sequence[Turn], last: int, write: Callable[[Sequence[Turn]], tuple[str, list[int]]], max_tokens: int
) -> Rendered:
    """Keep the end of turn `last`, as many characters as fit."""
    content = turns[last]["content"]

    def keep(characters: int) -> tuple[str, list[int]]:
        end = {**turns[last], "content": "…" + content[len(content) - characters :]}
        return write([end, *turns[last + 1 :]])

    kept, too_many, best = 0, len(content), keep(0)
    if len(best[1]) > max_tokens:
        raise _too_long(turns[last], len(best[1]), max_tokens)
    while too_many - kept > 1:
        characters = (kept + too_many) // 2
        prompt = keep(characters)
        if len(prompt[1]) <= max_tokens:
            kept, best = characters, prompt
        else:
            too_many = characters
    return Rendered(*best, dropped_turns=last, cut_characters=len(content) - kept)


def _too_long(turn: Turn, tokens: int, max_tokens: int) -> ValueError:
    return ValueError(
        f"the last user turn does not fit: {tokens} tokens with the instruction, max_prompt_tokens is {max_tokens}. It "
        "is never cut unasked: raise max_prompt_tokens (a longer context, or a shorter completion), or set "
        f"shorten_last_turn=True to keep its end. It begins {turn['content'][:60]!r}"
    )
