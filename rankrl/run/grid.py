"""A grid of training runs: arms that differ in a few settings, each run from the same starts with several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rankrl.lazy import load_object
from rankrl.run.parser import load_yaml
from rankrl.shards import Shard

START_FILES = ("catalog", "dialogues", "model_name_or_path", "test")
_RECIPE = "recipes.rank_grpo"
_FORMS = (("arms", dict, "`name: settings`"), ("seeds", list, "a list of numbers"))
_OF_THE_COMPARISON = ("seed", "output_dir", "resume_from_checkpoint")
# Not which dialogues (`limit`, `split`), and not the prompt, which a model brings along.
_READING = (
    *("line_template", "columns", "catalog_columns", "domain", "only_new_items", "year_tolerance"),
    *("max_prompt_length", "shorten_last_turn", "enable_thinking"),
)


@dataclass(frozen=True)
class Start:
    """What every arm of a seed starts from.

    Attributes:
        catalog: catalogue file.
        dialogues: training dialogues.
        model_name_or_path: the SFT model.
        test: held-out dialogues, scored once at the end.
        validation: held-out dialogues of their own, to choose a checkpoint by.
    """

    catalog: str
    dialogues: str
    model_name_or_path: str
    test: str
    validation: str | None = None


@dataclass(frozen=True)
class Arm:
    """One line of the comparison.

    Attributes:
        name: as in tables; also its folder.
        settings: options of the recipe, over those of the grid.
        recipe: the module that trains it. One of your own takes the options of `recipes.rank_grpo`.
    """

    name: str
    settings: Mapping[str, Any]
    recipe: str = _RECIPE


@dataclass(frozen=True)
class Grid:
    """A comparison as a YAML file describes it.

    Attributes:
        arms: what is compared.
        seeds: each arm is run with each of them.
        start: import path of a function that takes a folder and a seed, prepares the seed's start and returns a
            `Start`; or a `Start` whose paths may hold `{seed}`.
        config: the recipe's own YAML, below all settings.
        settings: options of the recipe that all arms share.
        baseline: the arm that the others are compared with.
        launch: what to put before `-m recipe`; this Python by default, e.g. `accelerate launch --config_file ...`.
    """

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    start: Callable[[Path, int], Start] | Start
    config: str
    settings: Mapping[str, Any]
    baseline: str
    launch: str | None = None

    @classmethod
    def load(cls, path: str | Path) -> Grid:
        """Read a grid. It may build on another file, its `base`, and name only what differs, among `settings` too.

        Raises:
            ValueError: for a key that is unknown or missing, a baseline that is no arm, or a start that cannot be used.
        """
        values = load_yaml(path, merge=["settings"])
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"{path}: {', '.join(unknown)}: unknown; a grid has the keys {', '.join(sorted(known))}.")
        missing = [name for name in ("arms", "seeds", "start", "config", "baseline") if not values.get(name)]
        if missing:
            raise ValueError(f"{path}: {', '.join(missing)}: missing or empty.")
        for name, form, expected in _FORMS:
            if not isinstance(values[name], form):
                raise ValueError(f"{path}: {name} is {values[name]!r}; expected {expected}.")
        seeds = values["seeds"]
        if len(set(seeds)) < len(seeds) or not all(type(seed) is int for seed in seeds):
            raise ValueError(f"{path}: seeds is {seeds}; expected whole numbers, each once.")
        grid = cls(
            arms=tuple(_arm(path, name, settings) for name, settings in values["arms"].items()),
            seeds=tuple(values["seeds"]),
            start=_start(path, values["start"]),
            config=values["config"],
            settings=_settings(path, "settings", values["settings"]),
            baseline=str(values["baseline"]),
            launch=values.get("launch"),
        )
        try:
            return grid.against(grid.baseline)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def against(self, baseline: str) -> Grid:
        """The same grid, with another arm as the one that the others are compared with.

        Raises:
            ValueError: if it is no arm.
        """
        names = [arm.name for arm in self.arms]
        if baseline not in names:
            raise ValueError(f"baseline is {baseline!r}; expected one of the arms, {', '.join(names)}.")
        return replace(self, baseline=baseline)

    @property
    def reading(self) -> dict[str, Any]:
        """What config and settings of all arms say of how dialogues are read: those of the test are read so, too."""
        values = {**load_yaml(self.config), **self.settings}
        return {name: values[name] for name in _READING if values.get(name) is not None}

    @property
    def facts(self) -> dict[str, Any]:
        """What was compared, as JSON."""
        settings = {
            arm.name: {**self.settings, **arm.settings, **({} if arm.recipe == _RECIPE else {"recipe": arm.recipe})}
            for arm in self.arms
        }
        return {"config": self.config, "baseline": self.baseline, "arms": settings}

    @property
    def same_test(self) -> bool:
        """Are all seeds tested on the same dialogues? Otherwise each has dialogues of its own."""
        return isinstance(self.start, Start) and "{seed}" not in self.start.test

    def runs(self, part: str | None = None) -> list[tuple[int, Arm]]:
        """All runs, seed by seed; with `part="i/n"` the i-th of n equal parts, counted from 1.

        Raises:
            ValueError: for a part that is not `i/n` with 1 <= i <= n.

        Example:
            >>> [(seed, arm.name) for seed, arm in grid.runs("2/2")]
            [(0, 'grpo'), (1, 'grpo')]
        """
        runs = [(seed, arm) for seed in self.seeds for arm in self.arms]
        if part is None:
            return runs
        return Shard.parse(part, "--arm").of(runs)

    def start_of(self, folder: Path, seed: int) -> Start:
        """What the arms of a seed start from; prepared in `folder` if the grid says how."""
        if not isinstance(self.start, Start):
            return self.start(folder, seed)
        try:
            places = {name: value and value.format(seed=seed) for name, value in vars(self.start).items()}
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"start: {error}: in its paths {{seed}} alone may stand in braces.") from None
        return Start(**places)


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as a recipe's command line takes them; a list becomes several words, a mapping JSON.

    Example:
        >>> flags({"beta": 0.02, "use_peft": True, "lora_target_modules": ["q_proj", "v_proj"]})
        ['--beta', '0.02', '--use_peft', 'true', '--lora_target_modules', 'q_proj', 'v_proj']
    """
    words = []
    for name, value in settings.items():
        words += [f"--{name}", *(_word(each) for each in (value if isinstance(value, list) else [value]))]
    return words


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _arm(path: str | Path, name: str, settings: Any) -> Arm:
    settings = _settings(path, f"arm {name!r}", {} if settings is None else settings)
    recipe = settings.get("recipe", _RECIPE)
    return Arm(str(name), {option: value for option, value in settings.items() if option != "recipe"}, recipe)


def _settings(path: str | Path, where: str, settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: {where} is {settings!r}; expected its settings, as `option: value`.")
    if empty := [option for option, value in settings.items() if value is None]:
        raise ValueError(f"{path}: {where}: {', '.join(empty)}: no value. Leave out what is to keep its default.")
    if taken := [option for option in settings if option in _OF_THE_COMPARISON]:
        raise ValueError(f"{path}: {where}: {', '.join(taken)}: set by the comparison itself. Leave it out.")
    return settings


def _start(path: str | Path, start: Any) -> Callable[[Path, int], Start] | Start:
    if isinstance(start, str):
        try:
            return load_object(start)
        except (ValueError, ModuleNotFoundError) as error:
            raise ValueError(f"{path}: start: {error}") from error
    known = [field.name for field in fields(Start)]
    if not isinstance(start, dict):
        raise ValueError(
            f"{path}: start is {start!r}; expected `package.module:function`, or files: {', '.join(known)}."
        )
    missing = [name for name in START_FILES if name not in start]
    unknown = [name for name in start if name not in known]
    if missing or unknown:
        raise ValueError(f"{path}: start has the keys {', '.join(start)}; expected {', '.join(known)}.")
    return Start(**start)
