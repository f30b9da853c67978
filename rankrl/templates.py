"""Prompt templates: jinja2 files with two blocks, `system` (may be empty) and `user`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

BUNDLED = ("movie", "book", "generic")

# Sandboxed: the source may come with somebody else's checkpoint.
_ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)


@dataclass(frozen=True)
class BlockTemplate:
    """A prompt template of one kind; a subclass says where the bundled ones lie and which variables they are given.

    White space around a block is removed.

    Args:
        name: what to call it in messages.
        source: the text of the jinja2 file.

    Raises:
        ValueError: if the source is no jinja2, lacks the `user` block, asks for a variable it is not given or leaves
            out one that it must print.
    """

    name: str
    source: str

    folder: ClassVar[tuple[str, str]]  # package, and the folder in it that holds movie.jinja, book.jinja, ...
    variables: ClassVar[frozenset[str]]
    required: ClassVar[Mapping[str, str]]  # variable -> the complaint if the template never prints it

    def __post_init__(self) -> None:
        try:
            names = self.prints
            blocks = set(_compile(self.source).blocks)
        except TemplateError as error:
            raise ValueError(f"prompt template {self.name!r} is no jinja2: {error}") from error
        if "user" not in blocks:
            raise ValueError(
                f"prompt template {self.name!r} has the blocks {sorted(blocks)}; it needs {{% block user %}} "
                "(instruction and transcript) and may have {% block system %}"
            )
        if unknown := sorted(names - self.variables):
            raise ValueError(f"prompt template {self.name!r} asks for {unknown}; it is given {sorted(self.variables)}")
        for variable, complaint in self.required.items():
            if variable not in names:
                raise ValueError(f"prompt template {self.name!r} {complaint}")

    @property
    def prints(self) -> set[str]:
        """The variables that the template uses."""
        return meta.find_undeclared_variables(_ENVIRONMENT.parse(self.source))

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A bundled template by name, or any file by its path.

        Raises:
            FileNotFoundError: if there is neither.
        """
        if name in BUNDLED:
            package, folder = cls.folder
            return cls(str(name), files(package).joinpath(f"{folder}/{name}.jinja").read_text(encoding="utf-8"))
        if not Path(name).is_file():
            raise FileNotFoundError(f"no prompt template {str(name)!r}: use {', '.join(BUNDLED)} or the path of a file")
        return cls(Path(name).name, Path(name).read_text(encoding="utf-8"))

    def fill(self, **values: Any) -> tuple[str, str]:
        """The system text (`""` if there is none) and the user text, from all of `variables`."""
        template = _compile(self.source)
        context = template.new_context(values)
        system, user = (
            "".join(template.blocks[name](context)).strip() if name in template.blocks else ""
            for name in ("system", "user")
        )
        return system, user


# Apart from the class, so that a template is plain data: comparable, and picklable for worker processes.
@cache
def _compile(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)
