"""Dialogues and prompts: conversations from any common source, and one renderer of prompts for every stage."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.data.fitting import Rendered as Rendered
    from rankrl.data.loaders import load_dialogues as load_dialogues
    from rankrl.data.loaders import only_new_items as only_new_items
    from rankrl.data.loaders import save_dialogues as save_dialogues
    from rankrl.data.loaders import to_dataset as to_dataset
    from rankrl.data.prompts import PromptRenderer as PromptRenderer
    from rankrl.data.prompts import context_length as context_length
    from rankrl.data.schema import Dialogue as Dialogue
    from rankrl.data.schema import DialogueError as DialogueError
    from rankrl.data.schema import dialogue_from_row as dialogue_from_row
    from rankrl.data.template import PromptTemplate as PromptTemplate

_MODULES = {
    "Dialogue": "rankrl.data.schema",
    "DialogueError": "rankrl.data.schema",
    "PromptRenderer": "rankrl.data.prompts",
    "PromptTemplate": "rankrl.data.template",
    "Rendered": "rankrl.data.fitting",
    "context_length": "rankrl.data.prompts",
    "dialogue_from_row": "rankrl.data.schema",
    "load_dialogues": "rankrl.data.loaders",
    "only_new_items": "rankrl.data.loaders",
    "save_dialogues": "rankrl.data.loaders",
    "to_dataset": "rankrl.data.loaders",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
