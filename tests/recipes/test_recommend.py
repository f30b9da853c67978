"""A request in, a ranked list out; and a conversation that goes on from it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from catalog import Catalog, parse_list
from rankrl.run.arguments import WriterArguments
from rankrl.run.lists import ListWriter
from recipes import recommend
from tests.recipes.runs import NUM_RANKS, Files, run


def test_answers_one_request(files: Files, sft_adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(recommend, catalog=files.catalog, model_name_or_path=sft_adapter, request="Something like Heat (1995).")

    arguments = WriterArguments(model_name_or_path=str(sft_adapter))
    writer = ListWriter.load(arguments, Catalog.load(files.catalog))
    prompt = writer.renderer.render([{"role": "user", "content": "Something like Heat (1995)."}])
    assert "Something like Heat (1995)." in prompt.text
    printed = capsys.readouterr().out.splitlines()
    ranks = [line.split(".")[0].strip() for line in printed if line.split(".")[0].strip().isdigit()]
    assert ranks == [str(rank) for rank in range(1, len(ranks) + 1)]
    assert 1 <= len(ranks) <= NUM_RANKS


def test_hits_are_written_as_the_catalogue_writes_them_and_the_rest_as_it_stands(
    files: Files, sft_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog.load(files.catalog)
    arguments = WriterArguments(model_name_or_path=str(sft_adapter))
    writer = ListWriter.load(arguments, catalog)
    known = catalog.lines[0]
    text = f"1. {known.upper()}\n\nNobody Made This (1990)\n{known}\none line too many"
    monkeypatch.setattr(ListWriter, "write", lambda *args, **kwargs: [text])

    answer = recommend.recommend(writer, catalog, [{"role": "user", "content": "?"}])

    assert [known_item for _, known_item in answer] == [True, False, True]
    assert [line for line, _ in answer] == [known, "Nobody Made This (1990)", known]
    assert len(parse_list(text)) == NUM_RANKS + 1


def test_holds_a_conversation_until_an_empty_line(
    files: Files, sft_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    def listen(writer: ListWriter, catalog: Catalog, messages: list[dict[str, str]]) -> list[tuple[str, bool]]:
        heard.append([dict(message) for message in messages])
        return [("Heat (1995)", True), ("Nobody Made This", False)]

    monkeypatch.setattr(recommend, "recommend", listen)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a thriller\nan older one\n\nnot read\n"))
    run(recommend, catalog=files.catalog, model_name_or_path=sft_adapter)

    answer = {"role": "assistant", "content": "Heat (1995)\nNobody Made This"}
    first, second = ({"role": "user", "content": text} for text in ("a thriller", "an older one"))
    assert heard == [[first], [first, answer, second]]
