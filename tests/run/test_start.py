"""The start of a run: data as the arguments filter it, a prompt that leaves room for the list, where to go on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, save_dialogues
from rankrl.run.arguments import DataArguments
from rankrl.run.start import make_renderer, read_data, resolve_dialogues, show_example

CATALOG = Catalog([("Heat", 1995), ("Amélie", 2001), ("2001: A Space Odyssey", 1968), ("The Godfather", 1972)])
DIALOGUES = [
    Dialogue("s:0:0", [{"role": "user", "content": "A heist?"}], [], [("Heat", 1995)], domain="movie"),
    Dialogue("s:1:0", [{"role": "user", "content": "Heat again?"}], [("Heat", 1995)], [("Heat", 1995)], domain="movie"),
    Dialogue("s:2:0", [{"role": "user", "content": "A novel?"}], [], [("The Godfather", 1972)], domain="book"),
]


@pytest.fixture
def arguments(tmp_path: Path) -> DataArguments:
    CATALOG.save(tmp_path / "catalog.jsonl")
    save_dialogues(tmp_path / "dialogues.jsonl", DIALOGUES)
    (tmp_path / "prompt.jinja").write_text("{% block user %}{{ turns[-1].content }} {{ num_ranks }}:{% endblock %}")
    names = ("catalog.jsonl", "dialogues.jsonl", "prompt.jinja")
    catalog, dialogues, prompt = (str(tmp_path / name) for name in names)
    return DataArguments(catalog=catalog, dialogues=dialogues, prompt_template=prompt)


# ---- Data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, ["s:0:0", "s:2:0"]),
        ({"only_new_items": False}, ["s:0:0", "s:1:0", "s:2:0"]),
        ({"domain": "book"}, ["s:2:0"]),
        ({"limit": 1}, ["s:0:0"]),
    ],
)
def test_reads_the_dialogues_that_are_asked_for(
    settings: dict[str, Any], ids: list[str], arguments: DataArguments
) -> None:
    catalog, dialogues = read_data(replace(arguments, **settings))
    assert [dialogue.id for dialogue in dialogues] == ids
    assert catalog.version == CATALOG.version


def test_items_are_written_by_the_line_template(arguments: DataArguments) -> None:
    catalog, _ = read_data(replace(arguments, line_template="{year}: {title}"))
    assert catalog.lines[0] == "1995: Heat"


def test_truth_and_seen_become_ids_and_an_unknown_truth_stays_empty() -> None:
    """Heat is item 0, Amélie 1, The Godfather 3; Up is in no catalogue."""
    rows = [
        replace(DIALOGUES[0], ground_truth=[("Heat", 1995), ("Up", 2009)], seen=[("Amélie", 2001)]),
        replace(DIALOGUES[1], ground_truth=[]),
        DIALOGUES[2],
    ]
    truth, seen = resolve_dialogues(CATALOG, rows, unknown_limit=0.5)
    assert [list(row) for row in truth] == [[0], [], [3]]
    assert [row - {-1} for row in seen] == [{1}, {0}, set()]
    with pytest.raises(ValueError, match="Up"):
        resolve_dialogues(CATALOG, rows, unknown_limit=0.1)


def test_dialogues_without_any_truth_are_no_error() -> None:
    rows = [replace(dialogue, ground_truth=[]) for dialogue in DIALOGUES]
    assert resolve_dialogues(CATALOG, rows, unknown_limit=0.0)[0] == [{}, {}, {}]


# ---- Prompt ----------------------------------------------------------------------------------------------------------


def make(
    arguments: DataArguments, tokenizer: Any, *, context: int = 200, **settings: Any
) -> tuple[PromptRenderer, int]:
    return make_renderer(arguments, tokenizer, GPT2Config(n_positions=context), CATALOG, 3, **settings)


def test_prompt_and_list_share_the_context(arguments: DataArguments, gpt2_tokenizer: Any) -> None:
    renderer, completion = make(arguments, gpt2_tokenizer)
    assert completion == renderer.max_completion_tokens(CATALOG.lines)
    assert renderer.max_prompt_tokens + completion == 200


def test_limits_that_are_given_are_kept(arguments: DataArguments, gpt2_tokenizer: Any) -> None:
    renderer, completion = make(replace(arguments, max_prompt_length=50), gpt2_tokenizer, max_completion_length=120)
    assert (renderer.max_prompt_tokens, completion) == (50, 120)
    renderer, _ = make(replace(arguments, max_prompt_length=190), gpt2_tokenizer, max_completion_length=120)
    assert renderer.max_prompt_tokens == 80, "never more than the context leaves"


def test_a_list_that_cannot_fit_is_refused(arguments: DataArguments, gpt2_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="max_completion_length=5 cuts the list"):
        make(arguments, gpt2_tokenizer, max_completion_length=5)
    _, completion = make(arguments, gpt2_tokenizer)
    with pytest.raises(ValueError, match="max_prompt_tokens=1 leaves no room for a dialogue"):
        make(arguments, gpt2_tokenizer, context=completion + 1)


def test_the_example_shows_the_list_as_the_model_reads_it(
    tokenizer: Any, arguments: DataArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer, _ = make(arguments, tokenizer, context=400)
    lines = ["The Godfather (1972)", "Amélie 漢字 (2001)", "[bold] 2001: A Space Odyssey"]
    show_example("What about [red]these?", renderer.completion(lines), tokenizer, 3)

    printed = capsys.readouterr().out
    assert "What about [red]these?" in printed
    assert "\n".join(lines) + tokenizer.eos_token in printed
