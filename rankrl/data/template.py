"""Prompt templates: jinja2 files with two blocks, `system` (may be empty) and `user` (instruction and transcript)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

logger = logging.getLogger(__name__)

BUNDLED = ("movie", "book", "generic")
VARIABLES = {"turns", "num_ranks"}

# Sandboxed: the source may come with somebody else's checkpoint.
_ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt template.

    The blocks may use `turns` (a list of `{"role", "content"}`, oldest first, already shortened to what fits) and
    `num_ranks`. White space around a block is removed.

    Args:
        name: what to call it in messages.
        source: the text of the jinja2 file.

    Raises:
        ValueError: if the source is no jinja2, lacks the `user` block, never prints the turns or asks for other
            variables.

    Example:
        >>> PromptTemplate("mine", "{% block user %}{{ turns[-1].content }} {{ num_ranks }} items:{% endblock %}")
    """

    name: str
    source: str

    def __post_init__(self) -> None:
        try:
            names = meta.find_undeclared_variables(_ENVIRONMENT.parse(self.source))
            blocks = set(_compile(self.source).blocks)
        except TemplateError as error:
            raise ValueError(f"prompt template {self.name!r} is no jinja2: {error}") from error
        if "user" not in blocks:
            raise ValueError(
                f"prompt template {self.name!r} has the blocks {sorted(blocks)}; it needs {{% block user %}} "
                "(instruction and transcript) and may have {% block system %}"
            )
        if unknown := sorted(names - VARIABLES):
            raise ValueError(f"prompt template {self.name!r} asks for {unknown}; it is given {sorted(VARIABLES)}")
        if "turns" not in names:
            raise ValueError(f"prompt template {self.name!r} never prints the dialogue: use {{% for turn in turns %}}")
        if "num_ranks" not in names:
            logger.warning("prompt template %r never says how many items to list: use {{ num_ranks }}", self.name)

    @classmethod
    def load(cls, name: str | Path) -> PromptTemplate:
        """A bundled template by name, or any file by its path.

        Raises:
            FileNotFoundError: if there is neither.
        """
        if name in BUNDLED:
            return cls(str(name), files("rankrl.data").joinpath(f"templates/{name}.jinja").read_text(encoding="utf-8"))
        if not Path(name).is_file():
            raise FileNotFoundError(f"no prompt template {str(name)!r}: use {', '.join(BUNDLED)} or the path of a file")
        return cls(Path(name).name, Path(name).read_text(encoding="utf-8"))

    def render(self, turns: Sequence[Mapping[str, str]], num_ranks: int) -> tuple[str, str]:
        """The system text (`""` if there is none) and the user text."""
        template = _compile(self.source)
        context = template.new_context({"turns": turns, "num_ranks": num_ranks})
        system, user = (
            "".join(template.blocks[name](context)).strip() if name in template.blocks else ""
            for name in ("system", "user")
        )
        return system, user


# Apart from the class, so that a template is plain data: comparable, and picklable for worker processes.
@cache
def _compile(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)
