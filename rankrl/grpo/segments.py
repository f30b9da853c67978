"""Which rank does each token of a completion belong to? The rank rule, on tokens, without decoding them.

Rank k is the k-th non-blank line of the completion. Lines end at ``\\n`` alone; a line is blank if it holds nothing but
ASCII white space. The text side of the same rule is `catalog.parse_list`; a property test holds the two together.

What the rule needs to know of a token is five facts about its bytes. They are read once for the whole vocabulary
(`LineTable`), so that a batch is segmented by a handful of gathers and cumulative sums, with no host sync.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What `bytes.strip()` removes. Unicode spaces (U+00A0, U+2028, ...) are not white here: bytes decide.
ASCII_WHITE = " \t\n\r\x0b\x0c"


@dataclass(frozen=True)
class LineTable:
    """Per-token facts about line breaks; every tensor is bool or long of shape `(V + 1,)`.

    The last row stands for ids beyond the tokenizer's vocabulary: models pad their embedding tables, and such an id,
    should it ever be sampled, leaves no text.

    Attributes:
        empty: the token puts no bytes into the text (special tokens, skipped in decoding).
        breaks: it holds a line break.
        inks: it holds a non-white byte.
        inks_first: it holds one before its first line break (or anywhere, if it has no break).
        inks_last: it holds one after its last line break (or anywhere, if it has no break).
        new_lines: (long) how many non-blank pieces follow its first line break.
        ends: it ends the completion.

    Example:
        >>> table = LineTable.from_tokenizer(tokenizer)
        >>> unit_ids = segment_ranks(completion_ids, completion_mask, table, num_ranks=20)  # (B, T)
    """

    empty: Tensor
    breaks: Tensor
    inks: Tensor
    inks_first: Tensor
    inks_last: Tensor
    new_lines: Tensor
    ends: Tensor

    @classmethod
    def from_texts(cls, texts: Iterable[str], end_ids: Iterable[int]) -> LineTable:
        """Build the table from the text of every token, `""` for tokens that leave no text.

        Args:
            texts: the text of token 0, 1, ..., V-1.
            end_ids: the ids of the tokens that end a completion.

        Raises:
            ValueError: if no token holds a line break, or if there is no end token.
        """
        texts = [*texts, ""]  # one more row, without text, for every id beyond the vocabulary
        ends = torch.zeros(len(texts), dtype=torch.bool)
        ends[list(end_ids)] = True
        if not ends.any():
            raise ValueError(
                "this tokenizer has no end token, so no list would ever end. Set `tokenizer.eos_token` to the token "
                "that the model writes at the end of its answer, or pass `end_ids`."
            )
        if not any("\n" in text for text in texts):
            raise ValueError(
                "this tokenizer cannot write a newline, so it cannot write a list of one item per line "
                "(BERT- and T5-like vocabularies drop line breaks). Choose a tokenizer whose vocabulary keeps `\\n`."
            )
        inked = [[bool(piece.strip(ASCII_WHITE)) for piece in text.split("\n")] for text in texts]
        return cls(
            empty=torch.tensor([text == "" for text in texts]),
            breaks=torch.tensor(["\n" in text for text in texts]),
            inks=torch.tensor([any(pieces) for pieces in inked]),
            inks_first=torch.tensor([pieces[0] for pieces in inked]),
            inks_last=torch.tensor([pieces[-1] for pieces in inked]),
            new_lines=torch.tensor([sum(pieces[1:]) for pieces in inked]),
            ends=ends,
        )

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, end_ids: Iterable[int] | None = None) -> LineTable:
        """Read the facts of the whole vocabulary off a tokenizer, once.

        Args:
            tokenizer: any Hugging Face tokenizer that can write a newline.
            end_ids: the tokens that end a completion; by default the tokenizer's own end token.

        Raises:
            ValueError: for a tokenizer without a newline or without an end token.
        """
        if end_ids is None:
            end_ids = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        return cls.from_texts(_token_texts(tokenizer), end_ids)

    def to(self, device: torch.device | str) -> LineTable:
        """The same table on another device; tensors that are there already are not copied."""
        return LineTable(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def _token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text each token adds to a completion, `""` for the special tokens that decoding skips.

    A token is decoded behind an anchor, because SentencePiece-style decoders strip the space of a first token. Bytes
    that are no whole character decode to U+FFFD: not white and no break, which is all that the table asks.
    """
    anchor = next(
        (ids[0] for text in "a0.AB1" if len(ids := tokenizer.encode(text, add_special_tokens=False)) == 1), None
    )
    prefix = [] if anchor is None else [anchor]
    batch = [[*prefix, token] for token in range(len(tokenizer))]
    texts = tokenizer.batch_decode(batch, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    lead = len(tokenizer.decode(prefix, clean_up_tokenization_spaces=False))
    return [text[lead:] for text in texts]


def segment_ranks(completion_ids: Tensor, completion_mask: Tensor, table: LineTable, num_ranks: int) -> Tensor:
    """The unit of every token: its rank, the end token, an overflow line, or padding.

    A token belongs to the line of its first non-white byte. White space alone belongs to the line its first byte lies
    in or, if that line is blank, to the non-blank line before it (the first line if there is none). A token without
    bytes belongs to the line of the token before it.

    Args:
        completion_ids: `(B, T)` long, right-padded.
        completion_mask: `(B, T)`, 1 on the tokens of the completion and 0 on padding.
        table: facts of the tokenizer that wrote the completion.
        num_ranks: K, the number of ranks that carry credit.

    Returns:
        `(B, T)` long: `0..K-1` ranks, `K` the end token, `K+1..` one unit for each line after rank K, `-1` padding.
    """
    table = table.to(completion_ids.device)
    completion_ids = completion_ids.clamp(max=len(table.empty) - 1)
    real = completion_mask.bool()
    ends = table.ends[completion_ids] & real
    texted = real & ~ends & ~table.empty[completion_ids]

    breaks = table.breaks[completion_ids] & texted
    inks = table.inks[completion_ids] & texted
    inks_first = table.inks_first[completion_ids] & texted
    inks_last = table.inks_last[completion_ids] & texted
    turning = breaks | inks  # after such a token the state of the current line is known from it alone

    # Does the line in which a token starts hold ink already?
    before = _last_index_before(turning)
    inked_line = torch.where(before >= 0, inks_last.gather(1, before.clamp(min=0)), False)
    # Non-blank lines that have begun before the token.
    begun = (inks_first & ~inked_line).long() + table.new_lines[completion_ids] * texted
    lines_before = begun.cumsum(1) - begun

    # White space before any ink of its line waits for what comes next: ink in the same line, or a break.
    after = _next_index_from(turning)
    line_gets_ink = (after < turning.shape[1]) & inks_first.gather(1, after.clamp(max=turning.shape[1] - 1))
    goes_back = torch.where(inks, inks_first & inked_line, inked_line | ~line_gets_ink)
    line = (lines_before - goes_back.long()).clamp(min=0)

    # Tokens without text follow the token before them.
    source = _last_index_upto(texted).clamp(min=0)
    line = torch.where(texted.any(1, keepdim=True), line.gather(1, source), 0)

    unit = torch.where(line < num_ranks, line, line + 1)
    return unit.masked_fill(ends, num_ranks).masked_fill(~real, -1)


def _positions(flags: Tensor) -> Tensor:
    return torch.arange(flags.shape[1], device=flags.device).expand_as(flags)


def _last_index_upto(flags: Tensor) -> Tensor:
    """`(B, T)`: index of the last True at or before each position, -1 if none."""
    return torch.where(flags, _positions(flags), -1).cummax(1).values


def _last_index_before(flags: Tensor) -> Tensor:
    """`(B, T)`: index of the last True strictly before each position, -1 if none."""
    return torch.nn.functional.pad(_last_index_upto(flags), (1, 0), value=-1)[:, :-1]


def _next_index_from(flags: Tensor) -> Tensor:
    """`(B, T)`: index of the first True at or after each position, T if none."""
    return torch.where(flags, _positions(flags), flags.shape[1]).flip(1).cummin(1).values.flip(1)
