"""YAML and flags of a recipe, where a YAML may build on another one."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser


class RecipeParser(TrlParser):
    """TRL's parser of `--config FILE.yaml` and flags, for files that may name only what differs from another file:

        base: ../rank_grpo.yaml # from the folder of this file
        per_device_train_batch_size: 4

    Flags win over the file, and the file over its base.

    Args:
        dataclass_types: the arguments.
        description: what `--help` begins with: the first line of a recipe's docstring.

    Example:
        >>> parser = RecipeParser((SFTArguments, SFTConfig, ModelConfig), __doc__)
        >>> args, training_args, model_args = parser.parse_args_and_config(["--config", "1x24gb/sft.yaml"])
    """

    def __init__(self, dataclass_types: Any, description: str | None = None) -> None:
        first_line = (description or "").partition("\n")[0]
        super().__init__(
            dataclass_types,
            usage="%(prog)s [--config FILE.yaml] [--SETTING VALUE ...]",
            description=f"{first_line} A YAML may hold any of these settings (--config FILE.yaml); flags win over it.",
        )
        for action in self._actions:
            if getattr(action.type, "__name__", "") == "dict":  # which takes no text
                action.type = _settings

    def parse_args_and_config(self, args: Iterable[str] | None = None, **kwargs: Any) -> tuple[Any, ...]:
        words: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            words += word.split("=", 1) if word.startswith("--config=") else [word]
        if (count := words.count("--config")) > 1:
            self.error(f"--config is given {count} times: one YAML may build on another, by `base: OTHER.yaml` in it")
        if words[-1:] == ["--config"]:
            self.error("--config has no file: expected --config FILE.yaml")
        if count:
            at = words.index("--config")
            self.take_defaults(words[at + 1])
            del words[at : at + 2]
        return super().parse_args_and_config(words, **kwargs)

    def parse_args_into_dataclasses(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        *parsed, unknown = super().parse_args_into_dataclasses(*args, **{**kwargs, "return_remaining_strings": True})
        if unknown and not kwargs.get("return_remaining_strings"):
            known = [option for action in self._actions for option in action.option_strings]
            near = [find for word in unknown if word.startswith("--") for find in get_close_matches(word, known, n=1)]
            meant = f" Did you mean {', '.join(near)}?" if near else ""
            raise ValueError(f"this recipe has no such settings: {' '.join(unknown)}.{meant} --help lists all of them.")
        return (*parsed, unknown) if kwargs.get("return_remaining_strings") else tuple(parsed)

    def error(self, message: str) -> NoReturn:
        """argparse would print hundreds of options before the message."""
        print(f"{self.prog}: error: {message} (--help lists all settings)", file=sys.stderr)
        raise SystemExit(2)

    def take_defaults(self, path: str | Path) -> None:
        """Let a file say what is meant where no flag does.

        Raises:
            ValueError: for settings that no argument has, or a value that is none of an argument's choices.
        """
        values = load_yaml(path)
        os.environ.update({name: str(value) for name, value in values.pop("env", {}).items()})
        known = {action.dest for action in self._actions}
        if unknown := sorted(values.keys() - known):
            raise ValueError(
                f"Unknown arguments from config file {path}: {', '.join(unknown)}. Correct their spelling, or take "
                "them out: this recipe has no such settings."
            )
        for action in self._actions:
            if action.dest in values:
                _require_choice(path, action, values[action.dest])
        self.set_defaults_with_config(**values)


def _require_choice(path: str | Path, action: argparse.Action, value: Any) -> None:
    """argparse looks at the choices of flags only."""
    choices = action.choices
    if choices is None or value is None or value == action.default:
        return
    if wrong := [one for one in (value if isinstance(value, list) else [value]) if one not in choices]:
        raise ValueError(f"{path}: {action.dest} is {wrong[0]!r}; expected one of {', '.join(map(str, choices))}.")


def _settings(text: str) -> dict[str, Any] | None:
    """Settings that hold settings, on the command line; `null` for none."""
    value = json.loads(text)
    if not isinstance(value, dict | None):
        raise ValueError
    return value


_settings.__name__ = "JSON object"  # what argparse calls it in its message


def load_yaml(path: str | Path, *, merge: Collection[str] = ()) -> dict[str, Any]:
    """The settings of a file, with those of its `base`, and of that file's base, where it does not name them itself.

    Args:
        path: of the file.
        merge: settings that hold settings themselves, of which a file may name some and leave the rest to its base.

    Raises:
        ValueError: for what is no YAML, a setting that stands there twice, a file without settings, or files that are
            each other's base.
        FileNotFoundError: for a file that is not there.

    Example:
        >>> load_yaml("recipes/configs/reddit_v2_llama3.2_3b/1x24gb/rank_grpo.yaml")["num_ranks"]
        20
    """
    chain: list[Path] = []
    values: dict[str, Any] = {}
    wanted: Path | None = Path(path)
    while wanted is not None:
        if wanted.resolve() in chain:
            raise ValueError(f"{path} builds on itself: {' -> '.join(map(str, [*chain, wanted.resolve()]))}.")
        if not wanted.is_file():
            named = f", the base of {chain[-1]}," if chain else ""
            raise FileNotFoundError(f"the config file {wanted}{named} is not there.")
        chain.append(wanted.resolve())
        found = _read_yaml(wanted)
        if not isinstance(found, dict):
            raise ValueError(f"the config file {wanted} holds no settings; expected lines like `num_ranks: 20`.")
        base = found.pop("base", None)
        for name in merge:
            values[name] = (found.get(name) or {}) | values.get(name, {})
        values = found | values
        wanted = None if base is None else wanted.parent / base
    return values


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _EachKeyOnce)
    except yaml.YAMLError as error:
        raise ValueError(f"the config file {path} is no YAML: {error}") from None


class _EachKeyOnce(yaml.SafeLoader):
    """Of a key that stands there twice YAML takes the last, without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in lines:
                where = f"twice on line {line}" if lines[key] == line else f"on lines {lines[key]} and {line}"
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} stands {where}; keep one of them", key_node.start_mark
                )
            lines[key] = line
        return super().construct_mapping(node, deep)
