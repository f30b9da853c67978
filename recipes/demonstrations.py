"""Stage 1, before SFT: a teacher's raw lists become lists of the catalogue, by Remap, Reflect and Adjust.

    python recipes/demonstrations.py --config recipes/configs/demonstrations.yaml --catalog CATALOG \\
        --dialogues TRAIN.jsonl --dry_run true      # what will be asked, and what it costs
    python recipes/demonstrations.py ...            # the same without --dry_run
    accelerate launch recipes/sft.py --dialogues runs/demonstrations/demonstrations.jsonl ...

Every answer is kept (`teacher_cache`), so a run that was stopped goes on where it was, at no further cost.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from trl import TrlParser

from catalog import Catalog, ItemReference
from rankrl.data import Dialogue, PromptTemplate
from rankrl.demonstrations import Adjustment, BuildSettings, Demonstrations, RawLists, build_demonstrations, read_lists
from rankrl.demonstrations.texts import (
    NOTHING,
    catalog_metadata,
    describe,
    dialogue_text,
    item_text,
)
from rankrl.encoders import CachedEncoder, SentenceTransformerEncoder, TfidfEncoder
from rankrl.evaluation import comparison_table
from rankrl.evaluation.card import write_card
from rankrl.evaluation.significance import dialogue_of
from rankrl.rewards import TruthResolver
from rankrl.run.arguments import DemonstrationArguments
from rankrl.run.start import read_data, versions, write_manifest
from rankrl.teachers import (
    JudgeTemplate,
    MetadataTemplate,
    Ratings,
    RecommendTemplate,
    Teacher,
    TeacherConfig,
    TeacherError,
    load_object,
    load_recorded_texts,
    load_teacher,
    rate,
)

logger = logging.getLogger("rankrl.demonstrations")
console = Console()


def main(args: DemonstrationArguments, teacher_args: TeacherConfig) -> Demonstrations | None:
    """Build demonstrations and write them, their card and the adjustment to `args.output_dir`."""
    catalog, dialogues = read_data(args)
    teacher = load_teacher(teacher_args) if teacher_args.teacher_model or ":" in teacher_args.teacher else None
    if args.dry_run:
        show_plan(args, teacher, catalog, dialogues)
        return None
    resolver = TruthResolver(catalog, unknown_limit=args.unknown_limit)
    truth = resolver.truth([dialogue.ground_truth for dialogue in dialogues])
    seen = [set(row) for row in resolver.seen([dialogue.seen for dialogue in dialogues])]

    raw = read_lists(teacher_replies(args, teacher, dialogues), catalog, args.teacher_ranks, min_score=args.min_score)
    items, titles, requests = encode(args, teacher, catalog, raw.titles, raw.same_item, dialogues)
    adjustment = Adjustment.load(args.adjustment, catalog) if args.adjustment else None
    demonstrations = build_demonstrations(
        raw,
        titles,
        items,
        requests,
        build_settings(args),
        seen=None if args.keep_seen else seen,
        judge=make_judge(args, teacher, catalog, dialogues),
        truth=truth,
        groups=[dialogue_of(dialogue.id) for dialogue in dialogues],
        adjustment=adjustment,
    )

    output = Path(args.output_dir)
    write_manifest(output, catalog, "", args, teacher_args)
    if demonstrations.adjustment is not None and args.folds < 2:
        demonstrations.adjustment.save(output / "adjustment.npz", catalog)
    lists = named_lists(demonstrations, raw, catalog, args.num_ranks)
    write_demonstrations(output / "demonstrations.jsonl", args, lists, catalog, dialogues)
    budget = getattr(teacher, "budget", None)
    systems = write_card(
        output,
        demonstrations=demonstrations,
        raw=raw,
        dialogues=dialogues,
        truth=truth,
        seen=seen,
        catalog=catalog,
        facts={
            "Teacher": {"name": teacher.name if teacher else args.raw_lists, **(budget.report() if budget else {})},
            "Settings": settings_of(args),
            "Versions": versions(),
        },
        held_out=args.folds > 1 or adjustment is not None,
    )
    save_json(output / "metrics.json", systems)
    columns = [f"ndcg@{min(10, args.num_ranks)}", f"recall@{min(10, args.num_ranks)}", "in_catalog", "tail"]
    console.print(comparison_table(systems, columns, title=f"{len(dialogues):,} dialogues, 95 % intervals"))
    console.print(f"Demonstrations, card and adjustment: [bold]{output}[/bold]")
    return demonstrations


def build_settings(args: DemonstrationArguments) -> BuildSettings:
    """The settings of the steps."""
    return BuildSettings(
        steps=() if args.steps == "none" else tuple(step.strip() for step in args.steps.split(",")),
        num_ranks=args.num_ranks,
        context_weight=args.context_weight,
        num_candidates=args.num_candidates,
        num_rated=args.num_rated,
        rating_weight=args.rating_weight,
        regularization=args.regularization,
        adjust_on=args.adjust_on,
        folds=args.folds,
    )


def teacher_replies(
    args: DemonstrationArguments, teacher: Teacher | None, dialogues: Sequence[Dialogue]
) -> list[str | None]:
    """The teacher's answer to each dialogue: recorded, or asked for.

    Raises:
        ValueError: if there is neither a recording nor a teacher, or the recording lacks a dialogue.
    """
    if args.raw_lists:
        texts = load_recorded_texts(args.raw_lists, where=args.raw_where)
        if missing := [dialogue.id for dialogue in dialogues if dialogue.id not in texts]:
            raise ValueError(
                f"{args.raw_lists} holds no list for {len(missing)} of {len(dialogues)} dialogues, such as "
                f"{missing[0]!r}; its ids look like {next(iter(texts))!r}"
            )
        return [texts[dialogue.id] for dialogue in dialogues]
    if teacher is None:
        raise ValueError("nobody writes the lists: name a teacher (teacher_model), or a recording (raw_lists)")
    return [answer.text for answer in teacher.ask(recommend_requests(args, dialogues))]


def recommend_requests(args: DemonstrationArguments, dialogues: Sequence[Dialogue]) -> list[Any]:
    """What a teacher is asked for the raw lists."""
    template = RecommendTemplate.load(args.recommend_template or args.teacher_domain)
    return [template.messages(dialogue.messages, args.teacher_ranks) for dialogue in dialogues]


def encode(
    args: DemonstrationArguments,
    teacher: Teacher | None,
    catalog: Catalog,
    titles: Sequence[str],
    same_item: NDArray[np.int64],
    dialogues: Sequence[Dialogue],
) -> tuple[Any, Any, Any]:
    """Vectors of the items, the teacher's titles and the dialogues.

    A title that is an item has the item's text; others, and items that the catalogue says nothing of, are described by
    the teacher where `describe` says so.
    """
    items = catalog_metadata(catalog, args.text_fields)
    outside = [row for row, item in enumerate(same_item.tolist()) if item < 0]
    bare = [item for item, known in enumerate(items) if known == NOTHING] if args.describe == "missing" else []
    written = {}
    if teacher is not None and args.describe != "none":
        wanted = [*(catalog.lines[item] for item in bare), *(titles[row] for row in outside)]
        template = MetadataTemplate.load(args.metadata_template or args.teacher_domain)
        retriever = load_object(args.retriever) if args.retriever else None
        written = dict(zip(wanted, describe(teacher, wanted, template, retriever), strict=True))
    item_texts = [
        item_text(line, written.get(line, NOTHING) if known == NOTHING else known)
        for line, known in zip(catalog.lines, items, strict=True)
    ]
    title_texts = [
        item_texts[item] if item >= 0 else item_text(title, written.get(title, NOTHING))
        for title, item in zip(titles, same_item.tolist(), strict=True)
    ]
    encoder = make_encoder(args, item_texts)
    texts = (item_texts, title_texts, [dialogue_text(dialogue.messages) for dialogue in dialogues])
    return tuple(encoder.encode(part) for part in texts)  # type: ignore[return-value]


def make_encoder(args: DemonstrationArguments, item_texts: Sequence[str]) -> Any:
    """The encoder that the arguments name."""
    if args.encoder == "tfidf":
        return TfidfEncoder.fit(item_texts)
    encoder = SentenceTransformerEncoder(args.encoder)
    return CachedEncoder(encoder, args.vector_cache) if args.vector_cache else encoder


def make_judge(
    args: DemonstrationArguments, teacher: Teacher | None, catalog: Catalog, dialogues: Sequence[Dialogue]
) -> Any:
    """What rates candidates: the teacher, shown each dialogue with some of the catalogue's lines."""
    if teacher is None:
        return None
    template = JudgeTemplate.load(args.judge_template or args.teacher_domain)

    def judge(rated: NDArray[np.int64]) -> Ratings:
        return rate(
            teacher,
            [dialogue.messages for dialogue in dialogues],
            [[catalog.lines[item] for item in row] for row in rated.tolist()],
            template=template,
            num_orders=args.num_orders,
            window=args.window,
            seed=args.seed,
        )

    return judge


def write_demonstrations(
    path: Path,
    args: DemonstrationArguments,
    lists: Mapping[str, Sequence[Sequence[ItemReference]]],
    catalog: Catalog,
    dialogues: Sequence[Dialogue],
) -> None:
    """One row per dialogue: the dialogue, what a chat model is to answer, and the list after every step.

    `recommendations` is what `sft.py` imitates; `prompt` and `completion` are the same for any other trainer.
    """
    template = PromptTemplate.load(args.prompt_template)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", encoding="utf-8") as file:
        for row, dialogue in enumerate(dialogues):
            steps = {step: rows[row] for step, rows in lists.items()}
            final = list(steps.values())[-1]
            system, user = template.render(dialogue.messages, args.num_ranks)
            lines = (catalog.lines[catalog.index(item.key)] if item.key else str(item.title) for item in final)
            turns = [("system", system), ("user", user)] if system else [("user", user)]
            record = {
                **replace(dialogue, recommendations=list(final)).to_row(),
                "prompt": [{"role": role, "content": content} for role, content in turns],
                "completion": [{"role": "assistant", "content": "\n".join(lines)}],
                "lists": {step: [item.to_struct() for item in items] for step, items in steps.items()},
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    unfinished.replace(path)


def named_lists(demonstrations: Demonstrations, raw: RawLists, catalog: Catalog, num_ranks: int) -> dict[str, Any]:
    """The list of every step as references; the raw one also names what is outside the catalogue, as it was written."""
    items = [ItemReference(item.key, item.title, item.year) for item in catalog]
    titles = [
        items[item] if item >= 0 else ItemReference(title=title)
        for title, item in zip(raw.titles, raw.same_item.tolist(), strict=True)
    ]
    named = {"raw": [[titles[title] for title in row[:num_ranks] if title >= 0] for row in raw.ranks.tolist()]}
    for step, ranked in demonstrations.lists.items():
        if step != "raw":
            named[step] = [[items[item] for item in row] for row in ranked.tolist()]
    return named


def show_plan(
    args: DemonstrationArguments, teacher: Teacher | None, catalog: Catalog, dialogues: Sequence[Dialogue]
) -> None:
    """What the teacher would be asked: exact for the lists; for descriptions and ratings as far as it is known."""
    estimate = getattr(teacher, "estimate", None)
    if teacher is None or estimate is None:
        console.print("No teacher that costs anything: nothing to plan.")
        return
    if not args.raw_lists:
        console.rule("the teacher's lists")
        console.print(str(estimate(recommend_requests(args, dialogues))), highlight=False, markup=False)
    if "reflect" in args.steps:
        console.rule("ratings (candidates are not known yet: any items stand in for them)")
        console.print(str(plan_ratings(args, estimate, catalog, dialogues)), highlight=False, markup=False)
    if args.describe != "none":
        console.print("Descriptions: one call for each title outside the catalogue; known when the lists are there.")


def plan_ratings(args: DemonstrationArguments, estimate: Any, catalog: Catalog, dialogues: Sequence[Dialogue]) -> Any:
    """The estimate of the ratings."""
    from rankrl.teachers import judge_requests, plan_showings

    candidates = [catalog.lines[: args.num_rated]] * len(dialogues)
    showings = plan_showings(candidates, num_orders=args.num_orders, window=args.window, seed=args.seed)
    template = JudgeTemplate.load(args.judge_template or args.teacher_domain)
    return estimate(judge_requests([d.messages for d in dialogues], candidates, showings, template=template))


def settings_of(args: DemonstrationArguments) -> dict[str, Any]:
    """The settings that decide a list, for the card."""
    names = (
        *("steps", "encoder", "num_ranks", "teacher_ranks", "min_score", "context_weight", "num_candidates"),
        *("num_rated", "num_orders", "window", "rating_weight", "regularization", "adjust_on", "folds", "keep_seen"),
    )
    return {name: getattr(args, name) for name in names}


def save_json(path: Path, systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Metrics with intervals as JSON."""
    plain = {
        name: {metric: value.to_json() if hasattr(value, "to_json") else value for metric, value in values.items()}
        for name, values in systems.items()
    }
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def cli() -> None:
    """Parse YAML and flags, and build."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        main(*TrlParser((DemonstrationArguments, TeacherConfig)).parse_args_and_config())
    except TeacherError as error:
        sys.exit(f"{error}\nThe same command goes on from here.")


if __name__ == "__main__":
    cli()
