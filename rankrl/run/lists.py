"""A trained model at work: dialogues in, ranked lists as text out, with the prompt it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, PromptTemplate, context_length
from rankrl.evaluation import generate_lists
from rankrl.run.arguments import WriterArguments
from rankrl.run.models import load_policy, load_tokenizer
from rankrl.run.start import make_renderer


@dataclass(frozen=True)
class ListWriter:
    """A model with its prompt.

    Attributes:
        model: a causal language model, in eval mode while it writes.
        tokenizer: its tokenizer.
        renderer: its prompt.
        max_completion_length: tokens a list may take.
    """

    model: Any
    tokenizer: Any
    renderer: PromptRenderer
    max_completion_length: int

    @classmethod
    def load(cls, args: WriterArguments, catalog: Catalog) -> ListWriter:
        """Load model, tokenizer and prompt; a model without a recorded prompt gets the one the arguments describe."""
        path = args.model_name_or_path
        tokenizer = load_tokenizer(path)
        model = load_policy(path, trainable=False, dtype=args.dtype)
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        try:
            recorded = PromptRenderer.load(path, tokenizer, allow_mismatch=args.allow_prompt_mismatch)
        except FileNotFoundError:
            renderer, length = make_renderer(
                replace(args, prompt_template=args.prompt_template or "movie"),
                *(tokenizer, model.config, catalog, args.num_ranks or 20, args.max_completion_length),
            )
            return cls(model, tokenizer, renderer, length)
        _refuse_other_prompt(args, recorded)
        length = args.max_completion_length or recorded.max_completion_tokens(catalog.lines)
        room = min(recorded.max_prompt_tokens, context_length(model.config) - length)
        room = min(room, args.max_prompt_length or room)
        renderer = PromptRenderer.load(
            path, tokenizer, max_prompt_tokens=room, allow_mismatch=args.allow_prompt_mismatch
        )
        return cls(model, tokenizer, renderer, length)

    def write(self, dialogues: Sequence[Dialogue], batch_size: int = 64, progress: bool = True) -> list[str]:
        """One greedy list for each dialogue, as the model wrote it."""
        prompts = [self.renderer.render(dialogue.messages).token_ids for dialogue in dialogues]
        return generate_lists(
            self.model,
            self.tokenizer,
            prompts,
            max_new_tokens=self.max_completion_length,
            batch_size=batch_size,
            progress=progress,
        )


def _refuse_other_prompt(args: WriterArguments, recorded: PromptRenderer) -> None:
    advice = "Leave it out: a trained model brings its own prompt."
    if args.num_ranks not in (None, recorded.num_ranks):
        raise ValueError(
            f"num_ranks is {args.num_ranks}, but {args.model_name_or_path} was trained to write {recorded.num_ranks} "
            f"items a list. {advice}"
        )
    if args.prompt_template and PromptTemplate.load(args.prompt_template).source != recorded.template.source:
        raise ValueError(
            f"prompt_template is {args.prompt_template!r}, but {args.model_name_or_path} was trained with another one, "
            f"{recorded.template.name!r}. {advice}"
        )
