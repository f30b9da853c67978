import gzip
import json
from pathlib import Path

import pytest

from rankrl.jsonl import BadLine, read_lines, read_rows

BAD = {
    b'{"a": ': "expected one JSON object in UTF-8",
    b'{"a": "\xff"}': "expected one JSON object in UTF-8",
    b"[1]": "expected one JSON object",
    rb'{"a": "\ud83d"}': "not half an emoji",
}


@pytest.mark.parametrize("line", BAD)
def test_a_line_that_is_no_row_is_named_by_file_and_line(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=f"rows.jsonl:3: .*{BAD[line]}"):
        list(read_rows(path))


def test_all_bad_lines_can_be_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(BAD) + b'\n{"a": 1}')
    *bad, last = read_lines(path)
    assert [isinstance(row, BadLine) and number for number, row in bad] == [1, 2, 3, 4]
    assert last == (5, {"a": 1})


def test_a_whole_emoji_and_the_line_ends_of_windows_are_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps({"a": "\U0001f3ac\r"}).encode() + b"\r\n"))
    assert list(read_rows(path)) == [(1, {"a": "\U0001f3ac\r"})]
