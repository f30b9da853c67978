"""The start of a run: read catalogue and dialogues, build the prompt, show one example."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from transformers.trainer import TRAINER_STATE_NAME

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, load_dialogues, only_new_items
from rankrl.data.prompts import context_length
from rankrl.grpo import LineTable, segment_ranks
from rankrl.rewards import TruthResolver
from rankrl.run.arguments import CatalogArguments, DialogueArguments, PromptArguments
from rankrl.run.choosing import VALIDATION_FILE
from rankrl.run.manifest import write_manifest

logger = logging.getLogger(__name__)

_RANK_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")


def read_data(args: DialogueArguments, *, allow_empty_truth: bool = False) -> tuple[Catalog, list[Dialogue]]:
    """The catalogue and the dialogues that the arguments name, filtered as they say.

    Raises:
        ValueError: if no dialogue is left.
    """
    catalog = load_catalog(args)
    dialogues = read_dialogues(args, args.dialogues, allow_empty_truth=allow_empty_truth)
    if not dialogues:
        raise ValueError(
            f"{args.dialogues} has no dialogue to work on: it is empty, or all of its truth was mentioned before "
            "(only_new_items: true leaves such rows out)."
        )
    logger.info("%d dialogues, catalogue of %d items (version %s)", len(dialogues), len(catalog), catalog.version[:12])
    return catalog, dialogues


def load_catalog(args: CatalogArguments) -> Catalog:
    """The catalogue that the arguments name.

    Raises:
        FileNotFoundError: if there is no such file.
        CatalogError: for what is no catalogue.
    """
    if not Path(args.catalog).exists():
        raise FileNotFoundError(f"catalog is {args.catalog}, and there is no such file (from {Path.cwd()}).")
    return Catalog.load(args.catalog, args.line_template, columns=args.catalog_columns)


def read_dialogues(args: DialogueArguments, source: str, *, allow_empty_truth: bool = False) -> list[Dialogue]:
    """Dialogues of any source, read and filtered as the arguments say; those without a truth only where allowed."""
    dialogues = load_dialogues(
        source,
        columns=args.columns,
        split=args.split,
        domain=args.domain,
        limit=args.limit,
        allow_empty_truth=allow_empty_truth,
    )
    if args.only_new_items:
        dialogues, dropped = only_new_items(dialogues, keep_empty=allow_empty_truth)
        if dropped.items or dropped.dialogues:
            logger.info(
                "%d items were mentioned before, and %d dialogues held nothing else", dropped.items, dropped.dialogues
            )
    return dialogues


def resolve_dialogues(
    catalog: Catalog, dialogues: Sequence[Dialogue], *, unknown_limit: float
) -> tuple[list[dict[int, float]], list[set[int]]]:
    """Per dialogue the true labels, empty where nobody knows them, and the ids of what was mentioned.

    Raises:
        ValueError: if more of the truth is missing from the catalogue than `unknown_limit` allows.
    """
    resolver = TruthResolver(catalog, unknown_limit=unknown_limit)
    known = [dialogue.ground_truth for dialogue in dialogues if dialogue.ground_truth]
    resolved = iter(resolver.truth(known) if known else [])
    truth = [next(resolved) if dialogue.ground_truth else {} for dialogue in dialogues]
    return truth, resolver.seen([dialogue.seen for dialogue in dialogues])


def make_renderer(
    args: PromptArguments,
    tokenizer: Any,
    model_config: Any,
    catalog: Catalog,
    num_ranks: int,
    max_completion_length: int | None = None,
) -> tuple[PromptRenderer, int]:
    """The prompt as the arguments say, in what the model's context leaves beside the list.

    Args:
        args: template, limit of the prompt, thinking switch.
        tokenizer: of the model.
        model_config: says how long the context is.
        catalog: its lines say how many tokens a list takes.
        num_ranks: K.
        max_completion_length: tokens a list may take; by default proposed from the catalogue.

    Returns:
        The renderer, and the tokens a list may take.

    Raises:
        ValueError: if the catalogue has fewer than K items, or K lines cannot fit the completion, or the context.
    """
    if num_ranks > len(catalog):
        raise ValueError(
            f"num_ranks is {num_ranks}, but the catalogue holds {len(catalog)} items: a list would have to repeat "
            "some. Lower num_ranks, or look whether it is the whole catalogue."
        )

    def renderer(max_prompt_tokens: int) -> PromptRenderer:
        return PromptRenderer(
            tokenizer,
            args.prompt_template,
            num_ranks=num_ranks,
            max_prompt_tokens=max_prompt_tokens,
            shorten_last_turn=args.shorten_last_turn,
            enable_thinking=args.enable_thinking,
        )

    context = context_length(model_config)
    roomy = renderer(context)
    completion = max_completion_length or roomy.max_completion_tokens(catalog.lines)
    roomy.check_completion_budget(completion, catalog.lines)
    if completion >= context:
        raise ValueError(
            f"a list of {num_ranks} lines may take {completion} tokens (max_completion_length), which leaves no room "
            f"for a dialogue in the model's context of {context}. Ask for fewer ranks (num_ranks), or take a model "
            "with a longer context."
        )
    return renderer(min(args.max_prompt_length or context, context - completion)), completion


def show_example(prompt: str, completion_ids: list[int], tokenizer: Any, num_ranks: int) -> None:
    """Print one rendered example, the tokens of its list coloured by the rank that they are credited to."""
    table = LineTable.from_tokenizer(tokenizer)
    ids = torch.tensor([completion_ids])
    units = segment_ranks(ids, torch.ones_like(ids), table, num_ranks)[0].tolist()
    text = Text()
    written = ""
    for end, unit in enumerate(units, start=1):
        if end < len(units) and units[end] == unit:
            continue  # a unit is decoded whole: a character may be split over tokens
        so_far = tokenizer.decode(completion_ids[:end], clean_up_tokenization_spaces=False)
        piece, written = so_far[len(written) :], so_far
        text.append(piece, style=_RANK_COLOURS[unit % len(_RANK_COLOURS)] if unit < num_ranks else "reverse")
    console = Console()
    console.rule("one example as the model sees it: prompt")
    console.print(Text(prompt, style="dim"))
    console.rule(f"its list, coloured by rank (K = {num_ranks})")
    console.print(text, soft_wrap=True)
    console.rule()


def leave_record(
    trainer: Any,
    renderer: PromptRenderer,
    catalog: Catalog,
    dialogue: Dialogue,
    lines: Sequence[str],
    *configs: Any,
    checkpoint: str | None = None,
    **facts: Any,
) -> None:
    """Write down what a training is, before it begins, and show one example of it; on the first process alone.

    Prompt and tokenizer come first, so that a checkpoint of an unfinished run can be evaluated too.

    Args:
        trainer: about to train; its `output_dir` is written to.
        renderer: of the prompt.
        catalog: of the run.
        dialogue: the example's.
        lines: K lines of a list, to show.
        *configs: settings, for the manifest.
        checkpoint: that training goes on from; what the run was before is kept.
        **facts: further entries of the manifest.
    """
    if not trainer.is_world_process_zero():
        return
    folder, tokenizer = trainer.args.output_dir, trainer.processing_class
    if checkpoint is None:
        # What an earlier run left in the same place would pass for this one's.
        for name in (VALIDATION_FILE, TRAINER_STATE_NAME):
            (Path(folder) / name).unlink(missing_ok=True)
    renderer.save(folder)
    tokenizer.save_pretrained(folder)
    logger.info("%s", renderer.report())
    show_example(renderer.render(dialogue.messages).text, renderer.completion(lines), tokenizer, len(lines))
    write_manifest(folder, catalog, renderer.hash, *configs, resumed_from=checkpoint, **facts)
