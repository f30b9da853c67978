"""Files that build on files: what is nearest wins, and what is misspelt is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from rankrl.run.grid import flags
from rankrl.run.parser import RecipeParser, load_yaml


@dataclass
class Numbers:
    one: int = 0
    two: int = 0
    three: float = 0.0
    names: dict | None = None
    kind: Literal["three", "four"] | None = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "near").mkdir()
    (tmp_path / "far.yaml").write_text("one: 1\ntwo: 1\nthree: .inf\n", encoding="utf-8")
    (tmp_path / "middle.yaml").write_text("base: far.yaml\none: 2\ntwo: 2\n", encoding="utf-8")
    (tmp_path / "near" / "near.yaml").write_text("base: ../middle.yaml\none: 3\n", encoding="utf-8")
    return tmp_path


def test_the_nearest_file_wins_and_a_flag_over_all(folder: Path) -> None:
    path = str(folder / "near" / "near.yaml")
    assert load_yaml(path) == {"one": 3, "two": 2, "three": float("inf")}
    parser = RecipeParser((Numbers,))
    assert parser.parse_args_and_config(["--config", path]) == (Numbers(3, 2, float("inf")),)
    assert RecipeParser((Numbers,)).parse_args_and_config(["--two", "9", "--config", path])[0].two == 9
    assert RecipeParser((Numbers,)).parse_args_and_config(["--one", "4"]) == (Numbers(4),)


def test_a_file_is_looked_for_beside_the_one_that_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "near")
    assert load_yaml("near.yaml")["two"] == 2


def test_what_cannot_be_meant_is_refused(folder: Path) -> None:
    (folder / "far.yaml").write_text("uno: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Unknown arguments from config file .*near.yaml: uno. Correct"):
        RecipeParser((Numbers,)).parse_args_and_config(["--config", str(folder / "near" / "near.yaml")])
    (folder / "far.yaml").write_text("base: near/near.yaml\n", encoding="utf-8")
    with pytest.raises(ValueError, match="builds on itself: .*near.yaml -> .*middle.yaml -> .*far.yaml -> .*near.yaml"):
        load_yaml(folder / "near" / "near.yaml")
    (folder / "far.yaml").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="far.yaml holds no settings"):
        load_yaml(folder / "middle.yaml")
    (folder / "far.yaml").unlink()
    with pytest.raises(FileNotFoundError, match="far.yaml, the base of .*middle.yaml, is not there"):
        load_yaml(folder / "middle.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one: [1\n", r"the config file .*far.yaml is no YAML: (.|\n)*line 2"),
        ("one: 1\ntwo: 2\none: 3\n", "far.yaml is no YAML: one stands on lines 1 and 3; keep one of them"),
        ("names: {a: 1, a: 2}\n", "far.yaml is no YAML: a stands twice on line 1; keep one of them"),
        ("kind: thre\n", "middle.yaml: kind is 'thre'; expected one of three, four"),
    ],
)
def test_a_file_that_cannot_be_meant_is_named(text: str, message: str, folder: Path) -> None:
    (folder / "far.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        RecipeParser((Numbers,)).parse_args_and_config(["--config", str(folder / "middle.yaml")])


def test_config_may_be_joined_to_its_file_and_is_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "middle.yaml")
    assert RecipeParser((Numbers,)).parse_args_and_config([f"--config={path}"])[0].two == 2
    for words, message in ((["--config", path, "--config", path], "given 2 times"), (["--config"], "has no file")):
        with pytest.raises(SystemExit):
            RecipeParser((Numbers,)).parse_args_and_config(words)
        assert message in capsys.readouterr().err


def test_a_flag_may_hold_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """As the grids of comparisons write them, too."""
    parser = RecipeParser(Numbers)
    (numbers,) = parser.parse_args_and_config(flags({"names": {"messages": "chat", "0.5": 1e-7}}))
    assert numbers.names == {"messages": "chat", "0.5": 1e-7}
    for text in ("messages: chat", "[1]"):
        with pytest.raises(SystemExit):
            parser.parse_args_and_config(["--names", text])
        assert f"argument --names: invalid JSON object value: '{text}'" in capsys.readouterr().err


def test_help_begins_with_what_a_recipe_does_and_names_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        RecipeParser((Numbers,), "Adds numbers.\n\nAnd more.").parse_args_and_config(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "[--config FILE.yaml] [--SETTING VALUE ...] Adds numbers. A YAML may hold" in said
    assert "And more" not in said
