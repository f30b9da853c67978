"""Names whose module is loaded on first use: those a package offers (PEP 562), and those a YAML file brings in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

# Third-party package -> the extra of rankrl that brings it.
EXTRAS = {
    "accelerate": "train",
    "datasets": "train",
    "jinja2": "report",
    "openai": "teacher",
    "matplotlib": "report",
    "peft": "train",
    "rich": "report",
    "scipy": "teacher",
    "sentence_transformers": "embeddings",
    "sklearn": "embeddings",
    "torch": "train",
    "transformers": "train",
    "trl": "train",
}


def lazy_exports(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package's `__init__` needs to offer names of its modules without loading them.

    Args:
        package: the package's `__name__`.
        modules: module, relative to the package -> the names it gives.

    Returns:
        The package's `__getattr__`, `__dir__` and `__all__`. A name whose module needs a package that is not installed
        raises a ModuleNotFoundError that says which extra brings it.

    Example:
        >>> __getattr__, __dir__, __all__ = lazy_exports(__name__, {"segments": ["LineTable", "segment_ranks"]})
    """
    home = {name: f"{package}.{module}" for module, names in modules.items() for name in names}

    def getattr_(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(home[name]), name)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            message = f"{name} needs {error.name}: pip install 'rankrl[{EXTRAS[error.name]}]'"
            raise ModuleNotFoundError(message, name=error.name) from error

    names = sorted(home)
    return getattr_, lambda: names, names


def load_object(name: str) -> Any:
    """What `package.module:name` names: how a YAML file brings in code of your own.

    Raises:
        ValueError: if the name has another form, or the module does not define it.
        ModuleNotFoundError: if there is no such module.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{name!r} names no object; expected package.module:name")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and needs another that is not
        raise ModuleNotFoundError(
            f"{name!r} names no module that Python finds: there is no {error.name!r}. Install it, or start with "
            "PYTHONPATH set to the folder that holds it, as in `PYTHONPATH=. accelerate launch ...`.",
            name=error.name,
        ) from error
    except AttributeError as error:
        raise ValueError(f"{name!r} names no object: module {module!r} does not define {attribute!r}") from error
