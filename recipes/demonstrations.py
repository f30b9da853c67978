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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from trl import TrlParser

from catalog import Catalog
from rankrl.data import Dialogue, PromptTemplate
from rankrl.demonstrations import Adjustment, BuildSettings, Demonstrations, RawLists, build_demonstrations, read_lists
from rankrl.demonstrations.build import Judge, check_inputs
from rankrl.demonstrations.rows import named_lists, write_rows
from rankrl.demonstrations.texts import (
    NOTHING,
    Retriever,
    catalog_metadata,
    describe,
    describe_requests,
    dialogue_text,
    item_text,
)
from rankrl.encoders import CachedEncoder, SentenceTransformerEncoder, TfidfEncoder
from rankrl.evaluation import comparison_table
from rankrl.evaluation.card import card_columns, write_card
from rankrl.evaluation.significance import dialogue_of
from rankrl.rewards import TruthResolver
from rankrl.run.arguments import DemonstrationArguments
from rankrl.run.start import read_data, versions, write_manifest
from rankrl.teachers import (
    JudgeTemplate,
    Messages,
    Metadata,
    MetadataTemplate,
    Ratings,
    RecommendTemplate,
    Teacher,
    TeacherConfig,
    TeacherError,
    judge_requests,
    load_object,
    load_recorded_texts,
    load_teacher,
    plan_showings,
    rate,
)

logger = logging.getLogger("rankrl.demonstrations")
console = Console()


@dataclass(frozen=True)
class Prompts:
    """How the teacher is asked for lists, descriptions and ratings, and what finds evidence for descriptions."""

    recommend: RecommendTemplate
    metadata: MetadataTemplate
    judge: JudgeTemplate
    retriever: Retriever | None

    @classmethod
    def load(cls, args: DemonstrationArguments) -> Prompts:
        """The templates that the arguments name."""
        return cls(
            RecommendTemplate.load(args.recommend_template or args.teacher_domain),
            MetadataTemplate.load(args.metadata_template or args.teacher_domain),
            JudgeTemplate.load(args.judge_template or args.teacher_domain),
            load_object(args.retriever) if args.retriever else None,
        )


def main(args: DemonstrationArguments, teacher_args: TeacherConfig) -> Demonstrations | None:
    """Build demonstrations and write them, their card and the adjustment to `args.output_dir`."""
    # Whatever can be wrong with the settings is found before the first call is paid for.
    settings, prompts, answered = build_settings(args), Prompts.load(args), PromptTemplate.load(args.prompt_template)
    catalog, dialogues = read_data(args)
    known = catalog_metadata(catalog, args.text_fields)
    adjustment = Adjustment.load(args.adjustment, catalog) if args.adjustment else None
    teacher = load_teacher(teacher_args) if teacher_args.teacher_model or ":" in teacher_args.teacher else None
    check_inputs(settings, judge=teacher is not None, truth=True, adjustment=adjustment is not None)
    if args.dry_run:
        show_plan(args, prompts, teacher, catalog, known, dialogues)
        return None
    resolver = TruthResolver(catalog, unknown_limit=args.unknown_limit)
    truth = resolver.truth([dialogue.ground_truth for dialogue in dialogues])
    seen = [set(row) for row in resolver.seen([dialogue.seen for dialogue in dialogues])]

    raw = raw_lists(args, prompts, teacher, catalog, dialogues)
    if settings.steps:
        items, titles, requests = encode(args, prompts, teacher, catalog, known, raw, dialogues)
        demonstrations = build_demonstrations(
            raw,
            titles,
            items,
            requests,
            settings,
            seen=None if args.keep_seen else seen,
            judge=make_judge(args, prompts, teacher, catalog, dialogues),
            truth=truth,
            groups=[dialogue_of(dialogue.id) for dialogue in dialogues],
            adjustment=adjustment,
        )
    else:
        demonstrations = Demonstrations({"raw": raw.resolved(args.num_ranks)})

    output = Path(args.output_dir)
    write_manifest(output, catalog, "", args, teacher_args)
    if demonstrations.adjustment is not None and args.folds < 2:
        demonstrations.adjustment.save(output / "adjustment.npz", catalog)
    lists = named_lists(demonstrations, raw, catalog, args.num_ranks)
    write_rows(output / "demonstrations.jsonl", lists, dialogues, catalog, answered, args.num_ranks)
    systems = write_card(
        output,
        demonstrations=demonstrations,
        raw=raw,
        dialogues=dialogues,
        truth=truth,
        seen=seen,
        catalog=catalog,
        facts={
            "Teacher": teacher_facts(args, teacher),
            "Settings": settings_of(args),
            "Versions": versions(),
        },
        held_out=args.folds > 1 or adjustment is not None,
    )
    save_json(output / "metrics.json", systems)
    columns = [name for name in card_columns(systems) if not name.endswith("@20") and name != "popularity"]
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


def raw_lists(
    args: DemonstrationArguments,
    prompts: Prompts,
    teacher: Teacher | None,
    catalog: Catalog,
    dialogues: Sequence[Dialogue],
) -> RawLists:
    """The teacher's lists.

    Raises:
        ValueError: if there are none, with the first answer.
    """
    replies = teacher_replies(args, prompts, teacher, dialogues)
    raw = read_lists(replies, catalog, args.teacher_ranks, min_score=args.min_score)
    if not raw.titles:
        raise ValueError(
            f"none of the {len(replies)} answers holds a list; expected one title per line. The first answer is "
            f"{(replies[0] or '(empty or refused)')[:300]!r}"
        )
    return raw


def teacher_replies(
    args: DemonstrationArguments, prompts: Prompts, teacher: Teacher | None, dialogues: Sequence[Dialogue]
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
    return [answer.text for answer in teacher.ask(recommend_requests(args, prompts, dialogues))]


def recommend_requests(args: DemonstrationArguments, prompts: Prompts, dialogues: Sequence[Dialogue]) -> list[Messages]:
    """What a teacher is asked for the raw lists."""
    return [prompts.recommend.messages(dialogue.messages, args.teacher_ranks) for dialogue in dialogues]


def encode(
    args: DemonstrationArguments,
    prompts: Prompts,
    teacher: Teacher | None,
    catalog: Catalog,
    known: Sequence[Metadata],
    raw: RawLists,
    dialogues: Sequence[Dialogue],
) -> tuple[Any, Any, Any]:
    """Vectors of the items, the teacher's titles and the dialogues.

    A title that is an item has the item's text; others, and items that the catalogue says nothing of, are described by
    the teacher where `describe` says so.
    """
    written = {}
    if teacher is not None:
        wanted = undescribed(args, catalog, known, raw)
        written = dict(zip(wanted, describe(teacher, wanted, prompts.metadata, prompts.retriever), strict=True))
    item_texts = [
        item_text(line, written.get(line, NOTHING) if own == NOTHING else own)
        for line, own in zip(catalog.lines, known, strict=True)
    ]
    title_texts = [
        item_texts[item] if item >= 0 else item_text(title, written.get(title, NOTHING))
        for title, item in zip(raw.titles, raw.same_item.tolist(), strict=True)
    ]
    encoder = make_encoder(args, item_texts)
    texts = (item_texts, title_texts, [dialogue_text(dialogue.messages) for dialogue in dialogues])
    return tuple(encoder.encode(part) for part in texts)  # type: ignore[return-value]


def undescribed(
    args: DemonstrationArguments, catalog: Catalog, known: Sequence[Metadata], raw: RawLists | None
) -> list[str]:
    """What the teacher is to describe: items without a description, and titles outside the catalogue (if known)."""
    lines = []
    if args.describe == "missing":
        lines += [line for line, own in zip(catalog.lines, known, strict=True) if own == NOTHING]
    if args.describe != "none" and raw is not None:
        lines += [title for title, item in zip(raw.titles, raw.same_item.tolist(), strict=True) if item < 0]
    return list(dict.fromkeys(lines))


def make_encoder(args: DemonstrationArguments, item_texts: Sequence[str]) -> Any:
    """The encoder that the arguments name."""
    if args.encoder == "tfidf":
        return TfidfEncoder.fit(item_texts)
    encoder = SentenceTransformerEncoder(args.encoder)
    return CachedEncoder(encoder, args.vector_cache) if args.vector_cache else encoder


def make_judge(
    args: DemonstrationArguments,
    prompts: Prompts,
    teacher: Teacher | None,
    catalog: Catalog,
    dialogues: Sequence[Dialogue],
) -> Judge | None:
    """What rates candidates: the teacher, shown each dialogue with some of the catalogue's lines."""
    if teacher is None:
        return None

    def judge(rated: NDArray[np.int64]) -> Ratings:
        return rate(
            teacher,
            [dialogue.messages for dialogue in dialogues],
            [[catalog.lines[item] for item in row] for row in rated.tolist()],
            template=prompts.judge,
            num_orders=args.num_orders,
            window=args.window,
            seed=args.seed,
        )

    return judge


def show_plan(
    args: DemonstrationArguments,
    prompts: Prompts,
    teacher: Teacher | None,
    catalog: Catalog,
    known: Sequence[Metadata],
    dialogues: Sequence[Dialogue],
) -> None:
    """What the teacher would be asked: exact for the lists; for descriptions and ratings as far as it is known.

    Nothing is asked of a retriever either, so its evidence is not in the descriptions' requests.
    """
    estimate = getattr(teacher, "estimate", None)
    if teacher is None or estimate is None:
        console.print("No teacher that costs anything: nothing to plan.")
        return
    plans = {} if args.raw_lists else {"the teacher's lists": estimate(recommend_requests(args, prompts, dialogues))}
    known_lists = not any(plan.calls for plan in plans.values())
    if args.steps != "none":
        raw = raw_lists(args, prompts, teacher, catalog, dialogues) if known_lists else None
        plans["descriptions"] = estimate(describe_requests(undescribed(args, catalog, known, raw), prompts.metadata))
    if "reflect" in args.steps:
        heading = "ratings (candidates are not known yet: any items stand in for them)"
        plans[heading] = plan_ratings(args, prompts, estimate, catalog, dialogues)
    for heading, plan in plans.items():
        console.rule(heading)
        console.print(str(plan), highlight=False, markup=False, soft_wrap=True)
    console.rule("in all")
    tokens = sum(plan.prompt_tokens + plan.completion_tokens for plan in plans.values())
    console.print(f"{sum(plan.calls for plan in plans.values()):,} calls, about {tokens:,} tokens", highlight=False)
    if not known_lists and args.steps != "none" and args.describe != "none":
        most = len(dialogues) * args.teacher_ranks
        console.print(
            f"and a description of each title outside the catalogue: at most {most:,} calls more. Once the lists are "
            "in the cache, a dry run counts them.",
            highlight=False,
        )


def plan_ratings(
    args: DemonstrationArguments, prompts: Prompts, estimate: Any, catalog: Catalog, dialogues: Sequence[Dialogue]
) -> Any:
    """The estimate of the ratings."""
    candidates = [catalog.lines[: args.num_rated]] * len(dialogues)
    showings = plan_showings(candidates, num_orders=args.num_orders, window=args.window, seed=args.seed)
    return estimate(judge_requests([d.messages for d in dialogues], candidates, showings, template=prompts.judge))


def teacher_facts(args: DemonstrationArguments, teacher: Teacher | None) -> dict[str, Any]:
    """Who wrote the lists, who described and judged, and what that cost in this run, for the card."""
    facts: dict[str, Any] = {"lists": args.raw_lists} if args.raw_lists else {}
    if teacher is not None:
        budget = getattr(teacher, "budget", None)
        facts |= {"name": teacher.name, **(budget.report() if budget else {})}
    return {name.replace("_", " "): value for name, value in facts.items() if value is not None}


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
