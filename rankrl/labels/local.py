"""A small model in this process that scores candidates as a teacher would, after a few hundred of its scores.

The paper's is Gemma2-9B tuned on GPT-4's (arXiv 2508.05657); `recipes/tune_scorer.py` makes one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from rankrl.labels.scores_file import HIGHEST, LOWEST

logger = logging.getLogger(__name__)

Messages = Sequence[Mapping[str, str]]

MIDDLE, HALF = (HIGHEST + LOWEST) / 2, (HIGHEST - LOWEST) / 2
"""A score s is learned as (s - MIDDLE) / HALF, from -1 to 1: the heads of most models start at 0, without a bias."""

_SPEAKERS = {"user": "User", "assistant": "Assistant"}
_WINDOW = 64  # batches that are encoded and sorted by length at a time


def encode_pairs(
    tokenizer: Any, pairs: Sequence[tuple[Messages, str]], max_length: int | None = None
) -> tuple[list[dict[str, list[int]]], int]:
    """Dialogue and item as one input of the scorer: a plain transcript, then the item. For tuning and scoring alike.

    Args:
        tokenizer: of the scorer.
        pairs: n dialogues, oldest turn first, each with the text of an item.
        max_length: tokens; what is longer loses the start of its dialogue. By default what the tokenizer says.

    Returns:
        n inputs (`input_ids` and what else the model reads), and how many of them were cut.

    Raises:
        ValueError: if an item alone is longer than `max_length`.
    """
    limit = max_length or tokenizer.model_max_length
    texts = [_transcript(messages) for messages, _ in pairs]
    items = [f"\n\nItem: {item}" for _, item in pairs]
    encoded = [tokenizer(text, item, verbose=False) for text, item in zip(texts, items, strict=True)]
    cut = [row for row, pair in enumerate(encoded) if len(pair["input_ids"]) > limit]
    side, tokenizer.truncation_side = tokenizer.truncation_side, "left"
    for row in cut:
        if len(tokenizer("", items[row])["input_ids"]) >= limit:
            raise ValueError(
                f"an item alone takes {limit} tokens (max_length) or more: {items[row].strip()[:80]!r}... Raise "
                "max_length, or shorten what is said of items."
            )
        encoded[row] = tokenizer(texts[row], items[row], truncation="only_first", max_length=limit)
    tokenizer.truncation_side = side
    return [dict(pair) for pair in encoded], len(cut)


class LocalScorer:
    """Scores how well items fit dialogues, from 0 to 4.

    Args:
        model: a sequence classifier with one output.
        tokenizer: its tokenizer; `model_max_length` is the longest pair.
        name: what to call it on cards.
        batch_size: pairs at once.
        quiet: show no progress.

    Example:
        >>> scorer = LocalScorer.load("runs/scorer")
        >>> scorer.score([[{"role": "user", "content": "A heist film?"}]], [["Heat (1995)", "Up (2009)"]])
        [array([3.81, 0.42])]
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, *, batch_size: int = 32, quiet: bool = False) -> None:
        if model.config.num_labels != 1:
            raise ValueError(f"{name} has {model.config.num_labels} outputs; a scorer has one. Use num_labels=1.")
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.batch_size, self.quiet = batch_size, quiet
        # Some models count positions from the left end, whatever is masked there.
        tokenizer.padding_side = "right"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id  # so that the last token of a pair is found

    @classmethod
    def load(
        cls, path: str | PathLike[str], *, dtype: str = "auto", device: str | None = None, **settings: Any
    ) -> Self:
        """Load what `recipes/tune_scorer.py` has saved: a model, or an adapter beside the name of its base model.

        Args:
            path: the directory, or a name on the Hub.
            dtype: precision of the weights.
            device: `cpu`, `cuda`, ...; by default the first GPU if there is one.
            **settings: `batch_size` and `quiet`.

        Raises:
            ValueError: if the model was never tuned to score.
        """
        from peft import AutoPeftModelForSequenceClassification
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if (Path(path) / "adapter_config.json").is_file():
            adapted = AutoPeftModelForSequenceClassification.from_pretrained(str(path), num_labels=1, dtype=dtype)
            model = adapted.merge_and_unload()
        else:
            model, info = AutoModelForSequenceClassification.from_pretrained(
                str(path), dtype=dtype, output_loading_info=True
            )
            if untrained := sorted(info["missing_keys"]):
                raise ValueError(
                    f"{path} was never tuned to score: it has no {', '.join(untrained)}. Use recipes/tune_scorer.py."
                )
        tokenizer = AutoTokenizer.from_pretrained(str(path))
        return cls(
            model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), tokenizer, str(path), **settings
        )

    def score(self, dialogues: Sequence[Messages], candidates: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """Score the candidates of each dialogue. A pair that is too long loses the start of its dialogue.

        Args:
            dialogues: D dialogues, oldest turn first.
            candidates: the texts of the candidates of each, any number of them.

        Returns:
            D arrays float64, in the order of the candidates, within 0 to 4.

        Raises:
            ValueError: if there is not one list of candidates for each dialogue.
        """
        if len(dialogues) != len(candidates):
            raise ValueError(
                f"{len(dialogues)} dialogues and {len(candidates)} lists of candidates; give one for each."
            )
        pairs = ((messages, item) for messages, items in zip(dialogues, candidates, strict=True) for item in items)
        ends = np.cumsum([0, *map(len, candidates)]).tolist()
        scores = np.empty(ends[-1], dtype=np.float64)
        done = cut = 0
        was_training = self.model.training
        self.model.eval()
        console = Console(stderr=True)
        with Progress(console=console, disable=self.quiet or not console.is_terminal) as progress:
            task = progress.add_task(f"{self.name} scores", total=len(scores))
            while window := list(islice(pairs, _WINDOW * self.batch_size)):
                inputs, shortened = encode_pairs(self.tokenizer, window)
                cut += shortened
                for rows, values in self._batches(inputs):
                    scores[done + rows] = values
                    progress.advance(task, len(rows))
                done += len(window)
        self.model.train(was_training)
        if cut:
            logger.warning(
                "%d of %d pairs are longer than %d tokens: the start of their dialogues was not read",
                *(cut, len(scores), self.tokenizer.model_max_length),
            )
        return [scores[start:end] for start, end in pairwise(ends)]

    @torch.inference_mode()
    def _batches(self, inputs: list[dict[str, list[int]]]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Row numbers and scores, longest pairs first: what does not fit the memory fails at once."""
        lengths = [len(pair["input_ids"]) for pair in inputs]
        order = np.argsort(-np.asarray(lengths), kind="stable")
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = self.tokenizer.pad([inputs[row] for row in rows], return_tensors="pt").to(self.model.device)
            values = self.model(**batch).logits[:, 0].double().cpu().numpy()
            if not np.isfinite(values).all():
                raise ValueError(f"{self.name} gives scores that are no numbers; load it with another dtype (float32).")
            yield rows, np.clip(MIDDLE + HALF * values, LOWEST, HIGHEST)


def _transcript(messages: Messages) -> str:
    return "\n".join(f"{_SPEAKERS[message['role']]}: {message['content']}" for message in messages)
