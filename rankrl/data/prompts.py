"""The one renderer of prompts: supervised fine-tuning, reinforcement learning, evaluation and serving all use it.

The dialogue stands as a transcript inside one user message, between the instruction's two halves. So a dialogue that
opens with the assistant is no problem for templates that insist on user first, and every stage reads the same tokens.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankrl.chat import ChatFormat
from rankrl.data.fitting import Rendered, fit_dialogue
from rankrl.data.template import PromptTemplate

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

PROMPT_FILE = "rankrl_prompt.json"
PROBE = [
    {"role": "assistant", "content": "Hello! What are you in the mood for?"},
    {"role": "user", "content": "Something like the last one I loved.\nNot too long, please."},
    {"role": "assistant", "content": "Old or new?"},
    {"role": "user", "content": "Surprise me."},
]
PROBE_LINES = ["First Title (1999)", "Second Title (2001)"]


@dataclass
class RenderCounts:
    """What a renderer did so far."""

    rendered: int = 0
    shortened: int = 0
    dropped_turns: int = 0
    cut_turns: int = 0
    short_lists: int = 0


class PromptRenderer:
    """Dialogue -> prompt and list -> completion, the same for every stage.

    Args:
        tokenizer: a tokenizer that can write a line break and has an end token.
        template: `"movie"`, `"book"`, `"generic"`, or the path of a jinja2 file with the blocks `system` and `user`.
        num_ranks: items per list (K).
        max_prompt_tokens: longest prompt, in tokens: usually `context_length(model.config) - max_completion_length`.
            Oldest turns are dropped until a prompt fits; system text, instruction and last user turn never are.
        shorten_last_turn: what to do when the last user turn alone does not fit: `False` raises, `True` keeps its end.
        date: the day that chat templates see as today, so that prompts are the same tomorrow.
        enable_thinking, chat_template_kwargs: see `ChatFormat`.

    Attributes:
        hash: 16 hex digits over template, `num_ranks` and the rendering of a fixed dialogue. Renderers with the same
            hash write the same prompts, up to the length they allow.
        counts: what was rendered and shortened so far; `report()` puts it in words.

    Raises:
        ValueError: if the tokenizer has no end token or loses line breaks, if the template is unusable, or if not even
            the instruction fits.

    Example:
        >>> renderer = PromptRenderer(tokenizer, "movie", num_ranks=20, max_prompt_tokens=768)
        >>> renderer.render([{"role": "user", "content": "A heist film?"}]).text
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | Path | PromptTemplate = "movie",
        *,
        num_ranks: int = 20,
        max_prompt_tokens: int,
        shorten_last_turn: bool = False,
        enable_thinking: bool = False,
        date: str = "2025-01-01",
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        _check_tokenizer(tokenizer)
        if num_ranks < 1:
            raise ValueError(f"num_ranks must be at least 1, not {num_ranks}")
        self.tokenizer = tokenizer
        self.template = template if isinstance(template, PromptTemplate) else PromptTemplate.load(template)
        self.num_ranks = num_ranks
        self.max_prompt_tokens = max_prompt_tokens
        self.shorten_last_turn = shorten_last_turn
        self.counts = RenderCounts()
        self._settings: dict[str, Any] = {
            "enable_thinking": enable_thinking,
            "date": date,
            "chat_template_kwargs": dict(chat_template_kwargs or {}),
        }
        self._chat = ChatFormat(tokenizer, **self._settings)
        self._check_room()
        self.probe = self._text(PROBE) + "\n".join(PROBE_LINES) + tokenizer.eos_token
        identity = [self.template.source, num_ranks, self.probe]
        self.hash = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

    def render(self, messages: Sequence[Mapping[str, str]]) -> Rendered:
        """Write the prompt of one dialogue, dropping its oldest turns until it fits.

        Args:
            messages: `{"role", "content"}`, oldest first, not empty; either role may open or close.

        Returns:
            The prompt, at most `max_prompt_tokens` long. What comes after the last user turn is kept with it.

        Raises:
            ValueError: if the last user turn alone does not fit and `shorten_last_turn` is off.
        """
        if not messages:
            raise ValueError("a dialogue without messages has no prompt; give at least one user message")
        turns = [{"role": turn["role"], "content": self._chat.disarm(turn["content"])} for turn in messages]
        rendered = fit_dialogue(turns, self._write, self.max_prompt_tokens, shorten_last_turn=self.shorten_last_turn)
        self.counts.rendered += 1
        self.counts.shortened += rendered.dropped_turns > 0
        self.counts.dropped_turns += rendered.dropped_turns
        self.counts.cut_turns += rendered.cut_characters > 0
        return rendered

    def completion(self, lines: Sequence[str]) -> list[int]:
        """Token ids of a list: its lines, joined by a line break, then the end token.

        Args:
            lines: at most `num_ranks` lines of the catalogue, best first. Shorter lists are counted in `report()`: they
                teach the model to stop early.

        Raises:
            ValueError: for an empty or too long list, and for a line that is blank or holds a line break (it would move
                all later items to another rank).
        """
        if not 1 <= len(lines) <= self.num_ranks:
            raise ValueError(f"a list has 1 to {self.num_ranks} lines (num_ranks), not {len(lines)}")
        for rank, line in enumerate(lines, start=1):
            if "\n" in line or not line.encode().strip():
                raise ValueError(f"rank {rank} is {line!r}; a line must hold text and no line break: use catalog.lines")
        self.counts.short_lists += len(lines) < self.num_ranks
        # A title that looks like a control token stays text.
        ids = self.tokenizer("\n".join(lines), add_special_tokens=False, split_special_tokens=True, verbose=False)
        return [*ids["input_ids"], self.tokenizer.eos_token_id]

    def example(
        self, messages: Sequence[Mapping[str, str]], lines: Sequence[str], *, max_length: int | None = None
    ) -> dict[str, list[int]]:
        """One row for TRL's `SFTTrainer`: `{"input_ids", "completion_mask"}`, both of length T.

        Prompt and completion are tokenized apart, so the prompt's tokens are exactly those of `render`.

        Args:
            max_length: the trainer's `max_length`, which would cut the demonstration without a word.

        Raises:
            ValueError: if the row is longer than `max_length`; nothing is ever cut here.
        """
        prompt, completion = self.render(messages).token_ids, self.completion(lines)
        length = len(prompt) + len(completion)
        if max_length is not None and length > max_length:
            raise ValueError(
                f"prompt ({len(prompt)} tokens) and list ({len(completion)}) make {length} tokens, max_length is "
                f"{max_length}. Set max_prompt_tokens to at most {max_length - len(completion)} or raise max_length."
            )
        return {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}

    def max_completion_tokens(self, catalog_lines: Sequence[str]) -> int:
        """How many tokens to allow a list: K lines as long as the catalogue's 99th percentile, and the end token."""
        return self.num_ranks * self._line_tokens(catalog_lines, 99) + 1

    def check_completion_budget(self, max_completion_length: int, catalog_lines: Sequence[str]) -> None:
        """Refuse a completion limit that cuts ordinary lists.

        Raises:
            ValueError: if K lines of median length do not fit. Between that and `max_completion_tokens`, lists of long
                titles may be cut: a warning.
        """
        needed = self.num_ranks * self._line_tokens(catalog_lines, 50) + 1
        proposed = self.max_completion_tokens(catalog_lines)
        advice = f"set max_completion_length to {proposed} or lower num_ranks ({self.num_ranks})"
        if max_completion_length < needed:
            raise ValueError(
                f"max_completion_length={max_completion_length} cuts the list: {self.num_ranks} lines of median length "
                f"and the end token take {needed} tokens; {advice}"
            )
        if max_completion_length < proposed:
            warnings.warn(
                f"max_completion_length={max_completion_length} may cut lists of long titles; {advice}", stacklevel=2
            )

    def report(self) -> str:
        """What was rendered and what it cost, in one sentence per fact."""
        counts = self.counts
        share = counts.shortened / max(counts.rendered, 1)
        text = (
            f"{counts.rendered:,} prompts of at most {self.max_prompt_tokens:,} tokens; {counts.shortened:,} "
            f"({share:.1%}) shortened by {counts.dropped_turns:,} oldest turns in all."
        )
        if counts.cut_turns:
            text += f" {counts.cut_turns:,} lost the start of an over-long last user turn."
        if counts.short_lists:
            text += f" {counts.short_lists:,} lists have fewer than {self.num_ranks} lines."
        return text

    def save(self, directory: str | Path) -> Path:
        """Write `rankrl_prompt.json` beside a checkpoint: all that is needed to render alike, and to tell if not."""
        path = Path(directory) / PROMPT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._record(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(
        cls,
        directory: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_prompt_tokens: int | None = None,
        allow_mismatch: bool = False,
    ) -> PromptRenderer:
        """The renderer a checkpoint was trained with.

        Args:
            max_prompt_tokens: instead of the stored limit, which is not part of the hash.

        Raises:
            FileNotFoundError: if the directory holds no `rankrl_prompt.json`.
            ValueError: if the tokenizer now renders differently, unless `allow_mismatch`.
        """
        record = _read_record(directory)
        if record is None:
            raise FileNotFoundError(
                f"{directory} holds no {PROMPT_FILE}: it was not trained here. Build a PromptRenderer."
            )
        settings = {name: record[name] for name in ("num_ranks", "shorten_last_turn", "enable_thinking", "date")}
        renderer = cls(
            tokenizer,
            PromptTemplate(record["template_name"], record["template"]),
            max_prompt_tokens=max_prompt_tokens or record["max_prompt_tokens"],
            chat_template_kwargs=record["chat_template_kwargs"],
            **settings,
        )
        renderer.require_same_prompt(directory, allow_mismatch=allow_mismatch)
        return renderer

    def require_same_prompt(self, directory: str | Path, *, allow_mismatch: bool = False) -> None:
        """Refuse a checkpoint that was trained on other prompts. A directory without a record (a base model) passes.

        Raises:
            ValueError: with both hashes and what differs; a warning instead if `allow_mismatch`.
        """
        record = _read_record(directory)
        if record is None:
            logger.info(
                "%s holds no %s: taken for a model that has not seen any of our prompts", directory, PROMPT_FILE
            )
            return
        if record["hash"] == self.hash:
            return
        mine = self._record()
        identity = ("template", "num_ranks", *self._settings)
        changed = [name for name in identity if mine[name] != record.get(name)] or ["the tokenizer"]
        difference = difflib.unified_diff(
            record["probe"].splitlines(), mine["probe"].splitlines(), "checkpoint", "now", lineterm="", n=1
        )
        message = (
            f"{directory} was trained on another prompt: hash {record['hash']} there, {self.hash} here; different: "
            f"{', '.join(changed)}. Use PromptRenderer.load({str(directory)!r}, tokenizer), or allow_mismatch=True if "
            "the change is meant (recipes: --allow_prompt_mismatch).\n" + "\n".join(difference)
        )
        if not allow_mismatch:
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)

    def _record(self) -> dict[str, Any]:
        return {
            "hash": self.hash,
            "template_name": self.template.name,
            "template": self.template.source,
            "num_ranks": self.num_ranks,
            "max_prompt_tokens": self.max_prompt_tokens,
            "shorten_last_turn": self.shorten_last_turn,
            **self._settings,
            "probe": self.probe,
        }

    def _text(self, turns: Sequence[Mapping[str, str]]) -> str:
        return self._chat.text(*self.template.render(turns, self.num_ranks))

    def _write(self, turns: Sequence[Mapping[str, str]]) -> tuple[str, list[int]]:
        text = self._text(turns)
        return text, self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _check_room(self) -> None:
        empty = len(self._write([{"role": "user", "content": "?"}])[1])
        if empty > self.max_prompt_tokens:
            raise ValueError(
                f"max_prompt_tokens={self.max_prompt_tokens} leaves no room for a dialogue: template "
                f"{self.template.name!r} takes {empty} tokens by itself. Use a longer context, a shorter completion "
                "(fewer ranks) or a template with fewer words."
            )

    def _line_tokens(self, catalog_lines: Sequence[str], percentile: float) -> int:
        """Tokens of a line and its line break, at a percentile of the catalogue, rounded up."""
        if not len(catalog_lines):
            raise ValueError("an empty catalogue has no lines to measure")
        broken = [f"{line}\n" for line in catalog_lines]
        ids = self.tokenizer(broken, add_special_tokens=False, verbose=False)["input_ids"]
        return math.ceil(np.percentile([len(line) for line in ids], percentile))


def context_length(config: PretrainedConfig) -> int:
    """How many tokens a model can read and write together.

    Raises:
        ValueError: if the config does not say.
    """
    text_config = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len")
    length = next((value for name in names if (value := getattr(text_config, name, None)) is not None), None)
    if not isinstance(length, int) or length < 1:
        raise ValueError(
            f"{type(config).__name__} does not say how long its context is ({', '.join(names)}: {length!r}); "
            "set config.max_position_embeddings to what the model was trained on"
        )
    return length


def _read_record(directory: str | Path) -> dict[str, Any] | None:
    """The prompt record of a checkpoint; `run/checkpoint-100` and `run/best` may lean on the one in `run`."""
    directory = Path(directory)
    inside = directory.name == "best" or directory.name.startswith("checkpoint-")
    places = [directory, directory.parent] if inside else [directory]
    for place in places:
        if (place / PROMPT_FILE).is_file():
            return json.loads((place / PROMPT_FILE).read_text(encoding="utf-8"))
    return None


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    name = tokenizer.name_or_path or "this tokenizer"
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"{name} has no end token, so a list would never end. Set one that the model knows, for instance "
            'tokenizer.eos_token = "<|endoftext|>", or add it and resize the embeddings.'
        )
    written = tokenizer.decode(tokenizer("a\nb", add_special_tokens=False)["input_ids"])
    if "\n" not in written:
        raise ValueError(
            f"{name} cannot write a line break ({'a' + chr(10) + 'b'!r} comes back as {written!r}), so it cannot write "
            "one item per line. Use a byte-level or byte-fallback tokenizer, as all current language models have."
        )
