"""Every plan that the documentation shows says what is written below it; with it every preset fits its machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rankrl.plan.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "recipes" / "configs"
FOLDERS = sorted(CONFIGS.glob("reddit_v2_*"))
PAGES = [*(folder / "README.md" for folder in FOLDERS), REPOSITORY / "docs" / "scaling.md"]
SHOWN = re.compile(
    r"^python -m rankrl\.plan (?P<flags>--config .+)\n"
    r"# (?P<memory>[\d.]+) GB: (?P<verdict>fits in \d+ GB)\. (?P<steps>[\d,]+) steps of (?P<seconds>[\d.]+) s "
    r"(?P<split>\(.+\)): (?P<hours>[\d.]+) hours$",
    re.MULTILINE,
)
PLANS = [(page, shown) for page in PAGES for shown in SHOWN.finditer(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "shown"), PLANS, ids=lambda value: getattr(value, "parent", Path("plan")).name)
def test_a_plan_says_what_is_written_below_it(
    page: Path, shown: re.Match[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    status = main(shlex.split(shown["flags"]))
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "it is tight" not in printed
    for text in (
        f" {shown['memory']} │ {shown['verdict']} ",
        f"│ {shown['steps']} ",
        f"│ {shown['seconds']} {shown['split']} ",
        f"│ {shown['hours']}, on paper",
        " = 384 ",
    ):
        assert text in printed, f"{page}: {text}\n{printed}"
    if "--scale" in shown["flags"]:
        table = printed[printed.rindex("┏") :].strip()
        assert table in page.read_text(encoding="utf-8"), table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_no_plan_is_shown_without_its_figures(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^python -m rankrl\.plan --config ", text, re.MULTILINE)) == len(SHOWN.findall(text)) > 0


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_preset_is_planned(folder: Path) -> None:
    files = {path.relative_to(REPOSITORY).as_posix() for path in folder.rglob("*.yaml")}
    planned = {shlex.split(shown["flags"])[1] for page, shown in PLANS if page.parent == folder}
    assert files - planned == {(folder / "demonstrations.yaml").relative_to(REPOSITORY).as_posix()}
    assert {path.parent.name for path in folder.glob("*/*.yaml")} == {"1x24gb", "1x80gb", "8x80gb"}


def test_there_are_three_of_the_papers_models() -> None:
    assert [folder.name.rpartition("_")[2] for folder in FOLDERS] == ["1b", "3b", "0.5b"]
