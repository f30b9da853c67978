"""Dialogues and prompts: conversations from any common source, and one renderer of prompts for every stage."""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

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
    from rankrl.data.schema import dialogues_hash as dialogues_hash
    from rankrl.data.splitting import dialogue_of as dialogue_of
    from rankrl.data.splitting import hold_out as hold_out
    from rankrl.data.template import PromptTemplate as PromptTemplate

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "fitting": ["Rendered"],
        "loaders": ["load_dialogues", "only_new_items", "save_dialogues", "to_dataset"],
        "prompts": ["PromptRenderer", "context_length"],
        "schema": ["Dialogue", "DialogueError", "dialogue_from_row", "dialogues_hash"],
        "splitting": ["dialogue_of", "hold_out"],
        "template": ["PromptTemplate"],
    },
)
