"""The rank rule on tokens: against a brute force over bytes, against the text parser, for every tokenizer family."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from catalog import parse_list
from rankrl.grpo import LineTable, segment_ranks
from rankrl.grpo.segments import completion_texts, written_tokens

WHITE = b" \t\n\r\x0b\x0c"
# A vocabulary with everything that has gone wrong before: breaks in and around tokens, odd white space, empty tokens.
PIECES = [
    *("a", "b", "Heat", " (1995)", ")\n", "\n", "\n\n", " ", "  \n", "\nfoo", "x\ny", "a\n\nb\nc", "\n \n", " \n b"),
    *("", "\r", "\t", "\u2028", "\xa0", "\x0b", "\ufffd", "\x85", "é"),
]
END = len(PIECES)
TABLE = LineTable.from_texts([*PIECES, ""], end_ids=[END])


def brute_force(tokens: list[int], num_ranks: int) -> list[int]:
    """The rule as the design states it, byte by byte."""
    texts = [b"" if t == END else PIECES[t].encode() for t in tokens]
    text = b"".join(texts)
    lines = text.split(b"\n")
    line_of_byte = [i for i, line in enumerate(lines) for _ in range(len(line) + 1)]
    inked = [bool(line.strip(WHITE)) for line in lines]

    def rank_at_or_before(line: int) -> int:
        return max(sum(inked[: line + 1]) - 1, 0)

    units, start, previous = [], 0, 0
    for token, piece in zip(tokens, texts, strict=True):
        if token == END:
            units.append(num_ranks)
            continue
        if piece:
            first_ink = next((i for i, byte in enumerate(piece) if byte not in WHITE), 0)
            previous = rank_at_or_before(line_of_byte[start + first_ink])
        start += len(piece)
        units.append(previous if previous < num_ranks else previous + 1)
    return units


def segment(tokens: list[int], num_ranks: int, padding: int = 2) -> list[int]:
    ids = torch.tensor([tokens + [0] * padding])
    mask = torch.tensor([[1] * len(tokens) + [0] * padding])
    return segment_ranks(ids, mask, TABLE, num_ranks)[0].tolist()


def ids_of(*pieces: str) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


@given(st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=30), st.integers(1, 5), st.booleans())
@example(ids_of("\n", " ", "a"), 2, False)
@example(ids_of("a", "\n", " ", "\n", "b"), 2, True)
def test_agrees_with_brute_force(tokens: list[int], num_ranks: int, ended: bool) -> None:
    tokens = tokens + [END] * ended
    assert segment(tokens, num_ranks) == [*brute_force(tokens, num_ranks), -1, -1]


@pytest.mark.parametrize(
    ("pieces", "units"),
    [
        (["a", "\n", "b", "\n", "a"], [0, 0, 1, 1, 3]),  # the third line is beyond rank 2: its own unit
        (["Heat", " (1995)", "\n\n", "b"], [0, 0, 0, 1]),  # two breaks in one token are one rank
        (["Heat", ")\n", "b", ")\n"], [0, 0, 1, 1]),
        (["\n", "a", "\n", " ", "\n", "b"], [0, 0, 0, 0, 0, 1]),  # blank lines belong to the line before, or the first
        (["a", "\n", " ", "b"], [0, 0, 1, 1]),  # white space before a line's ink belongs to that line
        (["a", "", "\n", "", "b"], [0, 0, 0, 0, 1]),  # a token without text follows the token before it
        (["a", "\r", "b", "\u2028", "b"], [0, 0, 0, 0, 0]),  # only \n ends a line
        (["\nfoo", "\nfoo"], [0, 1]),  # the first non-white byte decides
        (["x\ny", "a"], [0, 1]),
    ],
)
def test_worked_examples(pieces: list[str], units: list[int]) -> None:
    assert segment(ids_of(*pieces), 2, padding=0) == units


def test_end_token_after_trailing_newline_is_neither_rank_nor_overflow() -> None:
    assert segment([*ids_of("a", "\n", "b", "\n"), END], 2, padding=0) == [0, 0, 1, 1, 2]
    assert segment([*ids_of("a", "\n"), END], 2, padding=0) == [0, 0, 2]


def test_an_end_token_that_has_a_text_of_its_own_is_no_ink() -> None:
    """The blank after the line break waits for ink, and the end brings none: it belongs to the line before."""
    table = LineTable.from_texts(["a", "\n", " ", "END"], end_ids=[3])
    assert segment_ranks(torch.tensor([[0, 1, 2, 3]]), torch.ones(1, 4), table, 2).tolist() == [[0, 0, 0, 2]]


def test_what_was_written_is_as_long_as_it_is() -> None:
    ids = torch.tensor([[5, 6, 0], [7, 0, 0], [0, 0, 0], [5, 6, 7]])
    expected = [[True, True, False], [True, False, False], [False] * 3, [True] * 3]
    assert written_tokens(ids, [2, 1, 0, 3]).tolist() == expected


def test_list_cut_by_the_length_limit_has_no_end_unit() -> None:
    assert 2 not in segment(ids_of("a", "\n", "b"), 2)


def test_ids_beyond_the_vocabulary_leave_no_text() -> None:
    assert segment([*ids_of("a", "\n"), len(PIECES) + 500, *ids_of("b")], 2, padding=0) == [0, 0, 0, 1]


LISTS = st.lists(
    st.text(st.sampled_from("abcdHeat (1995)éß日本\t ,.:'\"-*&0123456789\r\x0b\u2028\xa0"), min_size=0, max_size=14),
    min_size=1,
    max_size=8,
)


@given(lines=LISTS, trailing=st.sampled_from(["", "\n", "\n\n"]))
def test_every_family_counts_lines_as_the_parser_does(tokenizer, lines: list[str], trailing: str) -> None:
    text = "\n".join(lines) + trailing
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        return
    table = _table(tokenizer)
    decoded = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    units = segment_ranks(torch.tensor([ids]), torch.ones(1, len(ids)), table, num_ranks=20)[0]
    parsed = parse_list(decoded)
    assert units.max().item() + 1 == max(len(parsed), 1)
    for rank, line in enumerate(parsed):
        members = torch.tensor(ids)[units == rank].tolist()
        written = tokenizer.decode(members, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # Tokens that reach over a break bring the end of another line along; the line's own text must be there.
        assert decoded[line.start : line.end][:3].strip() in written


@given(st.data())
def test_every_family_decodes_the_lines_that_its_tokens_count(tokenizer, data: st.DataObject) -> None:
    """Of any tokens: a policy writes bytes that are no whole character, and byte-fallback decoders swallow more."""
    any_token = st.integers(0, len(tokenizer) - 1).filter(lambda token: token != tokenizer.eos_token_id)
    named = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in (0x0A, 0x20, 0x41, 0xE5, 0x97, 0xA5)]
    byte_tokens = [token for token in named if token not in (None, tokenizer.unk_token_id)]
    of_bytes = st.sampled_from(byte_tokens) if byte_tokens else any_token
    ids = data.draw(st.lists(any_token | of_bytes, min_size=1, max_size=12))
    units = segment_ranks(torch.tensor([ids]), torch.ones(1, len(ids)), _table(tokenizer), num_ranks=20)
    (text,) = completion_texts(tokenizer, [ids])
    assert units.max().item() + 1 == max(len(parse_list(text)), 1)


def test_a_line_break_among_broken_bytes_is_one(llama2_tokenizer) -> None:
    broken, newline = llama2_tokenizer.convert_tokens_to_ids(["<0xE5>", "<0x0A>"])
    ids = [*llama2_tokenizer.encode("aa", add_special_tokens=False), broken, newline]
    ids += llama2_tokenizer.encode("bb", add_special_tokens=False)
    assert "\n" not in llama2_tokenizer.decode(ids), "the decoder has changed: completion_texts may be simpler"
    assert [line.strip() for line in completion_texts(llama2_tokenizer, [ids])[0].split("\n")] == ["aa\ufffd", "bb"]


_TABLES: dict[int, LineTable] = {}


def _table(tokenizer) -> LineTable:
    return _TABLES.setdefault(id(tokenizer), LineTable.from_tokenizer(tokenizer))


def test_special_token_in_mid_list_leaves_no_text(qwen2_tokenizer) -> None:
    table = LineTable.from_tokenizer(qwen2_tokenizer)
    special = qwen2_tokenizer.convert_tokens_to_ids("<|im_start|>")
    ids = [*qwen2_tokenizer.encode("Heat\n"), special, *qwen2_tokenizer.encode("Alien")]
    units = segment_ranks(torch.tensor([ids]), torch.ones(1, len(ids)), table, 20)[0].tolist()
    assert units[ids.index(special)] == 0
    assert units[-1] == 1


def test_tokenizer_without_newline_is_refused(wordpiece_tokenizer) -> None:
    with pytest.raises(ValueError, match="cannot write a newline"):
        LineTable.from_tokenizer(wordpiece_tokenizer)


def test_tokenizer_without_end_token_is_refused(endless_tokenizer) -> None:
    with pytest.raises(ValueError, match="no end token"):
        LineTable.from_tokenizer(endless_tokenizer)
