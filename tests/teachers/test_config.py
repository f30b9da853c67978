"""A teacher from YAML; its budget; its progress."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from trl import TrlParser

from rankrl.teachers import (
    Answer,
    Budget,
    BudgetExceeded,
    LocalTeacher,
    OpenAITeacher,
    RecordedTeacher,
    TeacherConfig,
    load_teacher,
)
from rankrl.teachers.progress import AskProgress
from tests.teachers.server import messages, serving

CALL = Answer.of("text", prompt_tokens=20, completion_tokens=10)


def from_yaml(folder: Path, text: str) -> TeacherConfig:
    (folder / "config.yaml").write_text(text)
    (config,) = TrlParser((TeacherConfig,)).parse_args_and_config(["--config", str(folder / "config.yaml")])
    return config


def test_a_server_from_yaml(tmp_path: Path) -> None:
    with serving() as server:
        config = from_yaml(
            tmp_path,
            f"""
teacher_model: m
teacher_base_url: {server.url}
teacher_cache: {tmp_path}/runs/answers.sqlite
teacher_temperature: null
teacher_max_tokens: null
teacher_parameters: {{max_completion_tokens: 50}}
teacher_max_calls: 1
teacher_max_money: 2.5
teacher_input_price: 1
teacher_output_price: 4
""",
        )
        teacher = load_teacher(config, quiet=True)
        assert isinstance(teacher, OpenAITeacher)
        teacher.ask([messages("a")])
        assert server.calls == [{"model": "m", "messages": messages("a"), "max_completion_tokens": 50}]
        assert teacher.budget.report()["money"] == pytest.approx((20 * 1 + 10 * 4) / 1e6)
        with pytest.raises(BudgetExceeded):
            teacher.ask([messages("b")])


def test_the_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages("a"), "answer": "Heat"}))
    recorded = load_teacher(TeacherConfig(teacher="recorded", teacher_model=str(tmp_path / "a.jsonl")))
    assert isinstance(recorded, RecordedTeacher)
    cache = str(tmp_path / "answers.sqlite")
    budget = Budget(calls=3)
    local = load_teacher(TeacherConfig(teacher="local", teacher_model="m", teacher_cache=cache), budget=budget)
    assert isinstance(local, LocalTeacher)
    assert local.budget is budget


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TeacherConfig(), "teacher_model is missing"),
        (
            TeacherConfig(teacher="oracle", teacher_model="m"),
            "expected openai, local, recorded or package.module:function",
        ),  # type: ignore
        (TeacherConfig(teacher_model="m", teacher_max_money=5), "needs input_price and output_price"),
        (TeacherConfig(teacher_model="m", teacher_input_price=5), "needs one for output"),
        (TeacherConfig(teacher_model="m", teacher_max_calls=-1), "budget's calls is -1"),
        (TeacherConfig(teacher_model="m", teacher_max_spent_tokens=0), "budget's tokens is 0"),
    ],
)
def test_settings_that_make_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: TeacherConfig, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_teacher(config)


def test_the_ledger_expects_calls_under_way_to_cost_what_others_did() -> None:
    budget = Budget(tokens=100)
    budget.start_call()
    budget.end_call(CALL)
    budget.start_call()  # 60 tokens expected
    budget.start_call()  # 90
    with pytest.raises(BudgetExceeded, match=r"100 \(tokens\)"):
        budget.start_call()  # 120
    budget.end_call(None)  # one failed
    budget.start_call()
    for _ in range(2):
        budget.end_call(CALL)
    assert budget.usage.tokens == 90


def test_no_calls_allowed_means_the_cache_alone() -> None:
    with pytest.raises(BudgetExceeded):
        Budget(calls=0).start_call()


def test_answers_of_an_earlier_run_keep_their_price() -> None:
    budget = Budget(input_price=1.0, output_price=2.0)
    budget.count_cached(3, [Answer("a", "ok", prompt_tokens=1000, completion_tokens=500, cached=True)])
    report = budget.report()
    assert (report["calls"], report["cached"], report["money"]) == (0, 3, 0.0)
    assert report["money_of_earlier_runs"] == pytest.approx(0.002)


def progress_of(console: Console, every: float, *, quiet: bool = False) -> None:
    budget = Budget(input_price=1, output_price=1)
    budget.count_cached(2)
    with AskProgress(4, budget, "Asking m", console=console, every=every, quiet=quiet) as progress:
        progress.advance(2)
        for _ in range(2):
            budget.start_call()
            budget.end_call(CALL)
            progress.advance()


def test_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=200)
    progress_of(console, every=0.0)
    assert console.file.getvalue().splitlines() == [
        "Asking m: 2 of 4 · 0 calls · 2 from the cache · 0 tokens · cost 0.0000",
        "Asking m: 3 of 4 · 1 calls · 2 from the cache · 30 tokens · cost 0.0000",
        "Asking m: 4 of 4 · 2 calls · 2 from the cache · 60 tokens · cost 0.0001",
    ]


def test_a_short_run_is_silent_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=200)
    progress_of(console, every=3600.0)
    assert console.file.getvalue() == ""


def test_a_bar_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    progress_of(console, every=0.0)
    assert "4/4" in console.file.getvalue()
    assert "2 calls · 2 from the cache · 60 tokens · cost 0.0001" in console.file.getvalue()
    quiet = Console(file=io.StringIO(), force_terminal=True, width=200)
    progress_of(quiet, every=0.0, quiet=True)
    assert quiet.file.getvalue() == ""
