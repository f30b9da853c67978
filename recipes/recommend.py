"""Type a request, get a ranked list: hits of the catalogue in order, what is not in it marked.

python recipes/recommend.py --model_name_or_path runs/rank_grpo --catalog CATALOG
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field

from rich.console import Console

from catalog import Catalog, parse_list
from rankrl.data import Dialogue
from rankrl.run.arguments import CatalogArguments, WriterArguments
from rankrl.run.console import show_log
from rankrl.run.errors import explain_errors
from rankrl.run.lists import ListWriter
from rankrl.run.parser import RecipeParser
from rankrl.run.start import load_catalog


@dataclass(kw_only=True)
class RecommendArguments(CatalogArguments, WriterArguments):
    """A catalogue, a model, and requests.

    Args:
        request: answer this one request and stop; otherwise requests are read line by line.
    """

    request: str | None = field(default=None, metadata={"help": "Answer this one request and stop."})


def recommend(writer: ListWriter, catalog: Catalog, messages: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """The list for a conversation: each line, and whether it is an item of the catalogue."""
    dialogue = Dialogue("request", messages, [], [])
    (text,) = writer.write([dialogue], progress=False)
    lines = parse_list(text)[: writer.renderer.num_ranks]
    (ranked,) = catalog.ranked([text], writer.renderer.num_ranks)
    return [
        (catalog.lines[item] if item >= 0 else text[line.start : line.end], bool(item >= 0))
        for line, item in zip(lines, ranked, strict=False)
    ]


def main(args: RecommendArguments) -> None:
    """Answer one request, or hold a conversation until an empty line."""
    console = Console()
    catalog = load_catalog(args)
    writer = ListWriter.load(args, catalog)
    messages: list[dict[str, str]] = []
    while True:
        request = args.request or _ask(console)
        if not request:
            return
        messages.append({"role": "user", "content": request})
        answer = recommend(writer, catalog, messages)
        if not answer:
            console.print("(the model wrote an empty list)", style="dim")
        for rank, (line, known) in enumerate(answer, start=1):
            console.print(f"{rank:3}. {line}", style=None if known else "dim strike", markup=False, highlight=False)
        if args.request:
            return
        messages.append({"role": "assistant", "content": "\n".join(line for line, _ in answer)})


def _ask(console: Console) -> str:
    if sys.stdin.isatty():
        console.print("What are you in the mood for? (an empty line ends)", style="bold")
    return sys.stdin.readline().strip()


def cli() -> None:
    """Parse YAML and flags, and recommend."""
    explain_errors()
    show_log(logging.WARNING)
    main(*RecipeParser((RecommendArguments,), __doc__).parse_args_and_config())


if __name__ == "__main__":
    cli()
