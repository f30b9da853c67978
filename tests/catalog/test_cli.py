import json
import subprocess
import sys

import pytest


def run(*arguments, text=""):
    return subprocess.run(
        [sys.executable, "-m", "catalog", *map(str, arguments)], input=text.encode(), capture_output=True
    )


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def films(tmp_path):
    rows = [
        {"id": "a", "title": "Heat", "year": 1995},
        {"id": "b", "title": "The Shawshank Redemption", "year": 1994},
        {"id": "c", "title": "Heat", "year": 201},
        {"id": "d", "title": "Amélie", "aliases": ["Le Fabuleux Destin"]},
    ]
    return write(tmp_path / "films.jsonl", rows)


def test_resolve(films):
    done = run(
        *("resolve", films, "--year-tolerance", 1),
        text="Heat (1995)\n\n2. heat (1996)\nThe Shawshenk Redemption (1994)\nGilda\n",
    )
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert rows[0] == ["LINE", "HOW", "SCORE", "ID", "KEY"]
    assert [row[-4:] for row in rows[1:]] == [
        ["exact", "100", "0", "a"],
        ["year", "100", "0", "a"],
        ["fuzzy", "95", "1", "b"],
        ["none", "0", "-1", "-"],
    ]
    assert (done.returncode, done.stderr) == (1, b"")


def test_resolve_exactly(films):
    assert run("resolve", films, text="Heat (1995)\namelie").returncode == 0
    done = run("resolve", films, "--exact", text="The Shawshenk Redemption (1994)")
    assert b"none" in done.stdout
    assert done.returncode == 1
    assert run("resolve", films, text="").returncode == 0


def test_stats(films):
    done = run("stats", films)
    text = done.stdout.decode()
    lines = dict(line.split("  ", 1) for line in text.splitlines() if "  " in line.strip())
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines["items"].strip() == "4"
    assert lines["years"].strip() == "201 to 1995"
    assert lines["items without a year"].strip() == "1"
    assert lines["items with aliases"].strip() == "1"
    assert lines["titles of several items"].strip().startswith("1 (2 items")
    assert "films.jsonl:3: year 201 of 'Heat' is impossible" in text


def test_diff(films, tmp_path):
    rows = [json.loads(line) for line in films.read_text().splitlines()]
    rows[1]["title"] = "The Redemption"
    new = write(tmp_path / "new.jsonl", [rows[1], rows[0], rows[3], {"id": "e", "title": "Up", "year": 2009}])
    done = run("diff", films, new)
    assert done.stdout.decode().splitlines() == [
        "+ e  'Up' 2009",
        "- c  'Heat' 201",
        "~ b  title: 'The Shawshank Redemption' -> 'The Redemption'",
        "1 added, 1 removed, 1 changed, 2 the same",
    ]
    assert (done.returncode, run("diff", films, films).returncode) == (1, 0)


def test_columns_and_template(tmp_path):
    path = write(tmp_path / "p.jsonl", [{"asin": 1, "name": "Kettle"}, {"asin": 2, "name": "Kettle"}])
    options = ("--columns", "title=name", "id=asin", "--line-template", "{title} [{key}]")
    assert b"2" in run("resolve", path, *options, text="Kettle [2]").stdout
    assert run("stats", path, "--columns", "name").returncode == 2


def test_errors_have_no_traceback(tmp_path):
    path = write(tmp_path / "bad.jsonl", [{"title": "Heat", "year": "soon"}])
    for arguments, message in [
        (("stats", path), b"bad.jsonl:1: field 'year'"),
        (("stats", tmp_path / "absent.jsonl"), b"absent.jsonl"),
        (("diff", path, path), b"'soon'"),
        ((), b"usage"),
    ]:
        done = run(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert b"Traceback" not in done.stderr


def test_bytes_that_are_no_text_are_lines_too(films):
    done = subprocess.run(
        [sys.executable, "-m", "catalog", "resolve", films], input=b"\xff\xfe\nHeat (1995)", capture_output=True
    )
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3


def test_min_score_out_of_range(films):
    done = run("resolve", films, "--min-score", "0.9", text="Het (1995)")
    assert done.returncode == 2
    assert b"expected a fuzz.ratio" in done.stderr
    assert b"Traceback" not in done.stderr
