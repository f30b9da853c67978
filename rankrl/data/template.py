"""The template of the model's own prompt: instruction and transcript."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rankrl.templates import BlockTemplate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptTemplate(BlockTemplate):
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

    folder = ("rankrl.data", "templates")
    variables = frozenset({"turns", "num_ranks"})
    required: ClassVar = {"turns": "never prints the dialogue: use {% for turn in turns %}"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if "num_ranks" not in self.prints:
            logger.warning("prompt template %r never says how many items to list: use {{ num_ranks }}", self.name)

    def render(self, turns: Sequence[Mapping[str, str]], num_ranks: int) -> tuple[str, str]:
        """The system text (`""` if there is none) and the user text."""
        return self.fill(turns=turns, num_ranks=num_ranks)
