"""Grids: what a YAML file means, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.run.grid import Arm, Grid, Start, flags

GRID = """
start: {catalog: C, dialogues: D, model_name_or_path: "runs/{seed}/sft", test: T}
seeds: [0, 1, 2]
baseline: grpo
config: base.yaml
settings: {beta: 0.02}
arms:
  grpo: {preset: grpo}
  ours: {recipe: my.recipe, gamma: 2.0}
"""


def load(folder: Path, text: str = GRID) -> Grid:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return Grid.load(path)


def test_arms_have_settings_and_perhaps_a_recipe_of_their_own(tmp_path: Path) -> None:
    assert load(tmp_path).arms == (
        Arm("grpo", {"preset": "grpo"}, "recipes.rank_grpo"),
        Arm("ours", {"gamma": 2.0}, "my.recipe"),
    )


def test_what_was_compared_says_what_each_arm_was_trained_with(tmp_path: Path) -> None:
    grid = load(tmp_path, GRID.replace("gamma: 2.0", "beta: 0.1"))
    arms = {"grpo": {"beta": 0.02, "preset": "grpo"}, "ours": {"beta": 0.1, "recipe": "my.recipe"}}
    assert grid.facts == {"config": "base.yaml", "baseline": "grpo", "arms": arms}
    assert grid.same_test
    assert not load(tmp_path, GRID.replace("test: T", 'test: "{seed}/test"')).same_test


def test_a_grid_names_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GRID, encoding="utf-8")
    text = "base: base.yaml\nseeds: [4]\nsettings: {gamma: 3.0}\nbaseline: log\narms: {log: {reward: log, beta: 0.1}}\n"
    grid = load(tmp_path, text)
    assert grid.settings == {"beta": 0.02, "gamma": 3.0}
    assert grid.arms == (Arm("log", {"reward": "log", "beta": 0.1}),)
    assert (grid.seeds, grid.config, grid.start_of(tmp_path, 4).test) == ((4,), "base.yaml", "T")


def test_a_start_may_depend_on_the_seed(tmp_path: Path) -> None:
    assert load(tmp_path).start_of(tmp_path, 7) == Start("C", "D", "runs/7/sft", "T", None)


def test_only_the_seed_may_stand_in_braces(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"start: 'Seed': in its paths \{seed\} alone"):
        load(tmp_path, GRID.replace("{seed}", "{Seed}")).start_of(tmp_path, 7)


def test_a_start_may_be_a_function(tmp_path: Path) -> None:
    grid = load(tmp_path, GRID.replace(GRID.splitlines()[1], "start: tests.run.test_grid:prepared"))
    assert grid.start_of(tmp_path, 7) == Start("C7", "D", "M", "T")


def prepared(folder: Path, seed: int) -> Start:
    return Start(f"C{seed}", "D", "M", "T")


def test_test_dialogues_are_read_as_config_and_settings_say(tmp_path: Path) -> None:
    text = "domain: movie\nlimit: 9\nlearning_rate: 1.0\ncolumns: null\n"
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    text = GRID.replace("base.yaml", str(tmp_path / "recipe.yaml"))
    grid = load(tmp_path, text.replace("{beta: 0.02}", "{beta: 0.02, only_new_items: false, domain: book}"))
    assert grid.reading == {"domain": "book", "only_new_items": False}


@given(st.integers(1, 9))
def test_parts_cover_every_run_once(tmp_path_factory: pytest.TempPathFactory, parts: int) -> None:
    grid = load(tmp_path_factory.getbasetemp())
    runs = [run for part in range(1, parts + 1) for run in grid.runs(f"{part}/{parts}")]
    assert sorted(runs, key=lambda run: (run[0], run[1].name)) == grid.runs()


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "-1/3"])
def test_a_part_that_is_none(tmp_path: Path, part: str) -> None:
    with pytest.raises(ValueError, match="expected i/n"):
        load(tmp_path).runs(part)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("baseline: grpo", "baseline: gspo", "expected one of the arms, grpo, ours"),
        ("seeds: [0, 1, 2]", "seeds: []", "seeds: missing or empty"),
        ("settings:", "setings:", "setings: unknown"),
        ("grpo: {preset: grpo}", "grpo: rank", "arm 'grpo' is 'rank'"),
        (", test: T}", "}", "expected catalog, dialogues, model_name_or_path, test, validation"),
        (", test: T}", ", tests: T}", "expected catalog"),
        (GRID.splitlines()[1], "start: no.such:thing", "start: 'no.such:thing' names no module that Python finds"),
        (GRID.splitlines()[1], "start: recipes.worlds", "start: 'recipes.worlds' names no object"),
        (GRID.splitlines()[1], "start: 5", "start is 5; expected `package.module:function`, or files"),
        ("seeds: [0, 1, 2]", "seeds: 3", "seeds is 3; expected a list of numbers"),
        (GRID[GRID.index("arms:") :], "arms: [grpo]", "expected `name: settings`"),
        ("{beta: 0.02}", "{beta: null}", "settings: beta: no value"),
        ("gamma: 2.0", "gamma: null", "arm 'ours': gamma: no value"),
        ("gamma: 2.0", "seed: 7", "arm 'ours': seed: set by the comparison itself"),
        ("{beta: 0.02}", "{output_dir: runs}", "settings: output_dir: set by the comparison itself"),
        ("seeds: [0, 1, 2]", "seeds: [0, 0]", "expected whole numbers, each once"),
        ("seeds: [0, 1, 2]", "seeds: [one]", "expected whole numbers, each once"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, GRID.replace(old, new))
    assert "grid.yaml" in str(error.value)


def test_an_arm_may_be_called_by_a_number(tmp_path: Path) -> None:
    grid = load(tmp_path, GRID.replace("baseline: grpo", "baseline: 8").replace("grpo: {preset: grpo}", "8: {}"))
    assert (grid.baseline, grid.arms[0]) == ("8", Arm("8", {}))


def test_settings_as_words() -> None:
    words = flags({"use_peft": True, "lora_target_modules": ["q", "v"], "learning_rate": 1.0e-6})
    assert words == ["--use_peft", "true", "--lora_target_modules", "q", "v", "--learning_rate", "1e-06"]
