"""Which rank does each token of a completion belong to? The rank rule, on tokens, without decoding them.

Rank k is the k-th non-blank line of the completion. Lines end at ``\\n`` alone; a line is blank if it holds nothing but
ASCII white space. The text side of the same rule is `catalog.parse_list`; a property test holds the two together.

What the rule needs to know of a token is a few facts about its bytes. They are read once for the whole vocabulary
(`LineTable`), so that a batch is segmented by a handful of gathers and cumulative sums, with no host sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What `bytes.strip()` removes. Unicode spaces (U+00A0, U+2028, ...) are not white here: bytes decide.
ASCII_WHITE = " \t\n\r\x0b\x0c"

_BYTE_OF_A_NEWLINE = "<0x0A>"

# The facts about a token, packed into one number, so that a batch reads them with one gather.
NO_TEXT = 1  # it puts no bytes into the text (special tokens, padding, the end token)
ENDS = 2  # it ends the completion
BREAKS = 4  # it holds a line break
INKS = 8  # it holds a non-white byte
INKS_FIRST = 16  # ... before its first line break (or anywhere, if it has no break)
INKS_LAST = 32  # ... after its last line break (or anywhere, if it has no break)
NEW_LINES = 6  # from this bit on: how many non-blank pieces follow its first line break


@dataclass(frozen=True)
class LineTable:
    """Facts about line breaks for every token of a vocabulary.

    Attributes:
        facts: `(V + 1,)` int32, the bits above. The last row stands for ids beyond the tokenizer's vocabulary: models
            pad their embedding tables, and such an id, should it ever be sampled, leaves no text.

    Example:
        >>> table = LineTable.from_tokenizer(tokenizer)
        >>> unit_ids = segment_ranks(completion_ids, completion_mask, table, num_ranks=20)  # (B, T)
    """

    facts: Tensor

    @classmethod
    def from_texts(cls, texts: Iterable[str], end_ids: Iterable[int]) -> LineTable:
        """Build the table from the text of every token, `""` for tokens that leave no text.

        Args:
            texts: the text of token 0, 1, ..., V-1.
            end_ids: the ids of the tokens that end a completion.

        Raises:
            ValueError: if no token holds a line break, or if there is no end token.
        """
        texts, end_ids = list(texts), list(end_ids)
        if not end_ids:
            raise ValueError(
                "this tokenizer has no end token, so no list would ever end. Set `tokenizer.eos_token` to the token "
                "that the model writes at the end of its answer, or pass `end_ids`."
            )
        if not any("\n" in text for text in texts):
            raise ValueError(
                "this tokenizer cannot write a newline, so it cannot write a list of one item per line "
                "(BERT- and T5-like vocabularies drop line breaks). Choose a tokenizer whose vocabulary keeps `\\n`."
            )
        facts = torch.tensor([*map(_facts, texts), NO_TEXT], dtype=torch.int32)
        facts[end_ids] = NO_TEXT | ENDS
        return cls(facts)

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
        return LineTable(self.facts.to(device))


def _facts(text: str) -> int:
    if not text:
        return NO_TEXT
    inked = [bool(piece.strip(ASCII_WHITE)) for piece in text.split("\n")]
    bits = {BREAKS: len(inked) > 1, INKS: any(inked), INKS_FIRST: inked[0], INKS_LAST: inked[-1]}
    return sum(bit for bit, held in bits.items() if held) | sum(inked[1:]) << NEW_LINES


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
    lead = len(tokenizer.decode(prefix, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return [text[lead:] for text in texts]


def completion_texts(tokenizer: PreTrainedTokenizerBase, completions: Sequence[Sequence[int]]) -> list[str]:
    """What completions say, special tokens left out, in the very lines that `segment_ranks` counts.

    Tokenizers that fall back on bytes (Llama 2, Mistral, Gemma) decode a run of them as one: if it is no whole
    character, every byte of it becomes U+FFFD, and a line break among them would be lost.
    """
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    newline = tokenizer.convert_tokens_to_ids(_BYTE_OF_A_NEWLINE)
    if newline is None or newline == tokenizer.unk_token_id:
        return texts
    return [
        _line_by_line(tokenizer, ids, newline) if "\ufffd" in text and newline in ids else text
        for text, ids in zip(texts, completions, strict=True)
    ]


def _line_by_line(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], newline: int) -> str:
    ends = [at for at, token in enumerate(ids) if token == newline]
    lines = [ids[start:end] for start, end in zip([0, *(end + 1 for end in ends)], [*ends, len(ids)], strict=True)]
    return "\n".join(tokenizer.batch_decode(lines, skip_special_tokens=True, clean_up_tokenization_spaces=False))


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

    Raises:
        ValueError: if `num_ranks` is below 1.
    """
    if num_ranks < 1:
        raise ValueError(f"num_ranks is {num_ranks}; expected K >= 1, the length of the lists.")
    table = table.to(completion_ids.device)
    real = completion_mask.bool()
    facts = table.facts[completion_ids.clamp(max=len(table.facts) - 1)].masked_fill(~real, NO_TEXT)
    inks, inks_first, inks_last = ((facts & bit).bool() for bit in (INKS, INKS_FIRST, INKS_LAST))
    turning = (facts & (BREAKS | INKS)).bool()  # after such a token the state of the line is known from it alone

    # Does the line in which a token starts hold ink already?
    before = _last_index_before(turning)
    inked_line = torch.where(before >= 0, inks_last.gather(1, before.clamp(min=0)), False)
    # Non-blank lines that have begun before the token.
    begun = (inks_first & ~inked_line) + (facts >> NEW_LINES)
    lines_before = begun.cumsum(1) - begun

    # White space before any ink of its line waits for what comes next: ink in the same line, or a break.
    after = _next_index_from(turning)
    line_gets_ink = (after < turning.shape[1]) & inks_first.gather(1, after.clamp(max=turning.shape[1] - 1))
    goes_back = torch.where(inks, inks_first & inked_line, inked_line | ~line_gets_ink)
    line = (lines_before - goes_back.long()).clamp(min=0)

    # Tokens without text follow the token before them.
    source = _last_index_upto((facts & NO_TEXT) == 0)
    line = torch.where(source >= 0, line.gather(1, source.clamp(min=0)), 0)

    unit = torch.where(line < num_ranks, line, line + 1)
    return unit.masked_fill((facts & ENDS).bool(), num_ranks).masked_fill(~real, -1)


def written_tokens(completion_ids: Tensor, lengths: Sequence[int]) -> Tensor:
    """The mask of what was written: `(B, T)` bool, True on the first `lengths[b]` tokens of each completion.

    Example:
        >>> written_tokens(torch.tensor([[5, 6, 0], [7, 0, 0]]), [2, 1])
        tensor([[ True,  True, False],
                [ True, False, False]])
    """
    return _positions(completion_ids) < torch.tensor(lengths, device=completion_ids.device)[:, None]


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
