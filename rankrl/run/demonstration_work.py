"""Demonstrations up to what is global: lists, texts, vectors, Remap, ratings; of all dialogues or a shard's share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from catalog import Catalog
from rankrl.data import Dialogue, dialogue_of
from rankrl.demonstrations import Adjustment, BuildSettings, Candidates, RawLists
from rankrl.demonstrations.build import check_data, check_inputs, rated_items, remap_dialogues
from rankrl.demonstrations.texts import NOTHING, dialogue_text, item_text
from rankrl.encoders import Vectors
from rankrl.run.arguments import DemonstrationArguments
from rankrl.run.start import read_data, resolve_dialogues
from rankrl.run.teacher import TeacherWork
from rankrl.run.texts import make_encoder, try_encoder
from rankrl.shards import Parts, Shard, digest
from rankrl.teachers import TeacherConfig, load_teacher
from rankrl.teachers.shard import ShardTeacher


@dataclass(frozen=True)
class Encoded:
    """Vectors of one encoder, and what decides them.

    Attributes:
        titles: `(C, d)`, the teacher's titles.
        items: `(N, d)`.
        dialogues: `(D, d)`.
        title_texts, dialogue_texts: what was encoded.
        basis: hash of the item texts and of the encoder.
    """

    titles: Vectors
    items: Vectors
    dialogues: Vectors
    title_texts: Sequence[str]
    dialogue_texts: Sequence[str]
    basis: str


@dataclass(frozen=True)
class DemonstrationWork:
    """The input of a run and the work on it. Made by `load`, which finds what is wrong with the settings.

    Attributes:
        catalog: N items.
        dialogues: D dialogues.
        truth, seen: per dialogue what was wanted and what was mentioned.
        adjustment: an earlier fit to use.
        teacher_work: the teacher's part.
        shard: whose share is done; None for all.
    """

    args: DemonstrationArguments
    settings: BuildSettings
    catalog: Catalog
    dialogues: Sequence[Dialogue]
    truth: list[dict[int, float]]
    seen: list[set[int]]
    adjustment: Adjustment | None
    teacher_work: TeacherWork
    shard: Shard | None

    @classmethod
    def load(cls, args: DemonstrationArguments, teacher_args: TeacherConfig) -> DemonstrationWork:
        """Read everything that the arguments name.

        Raises:
            ValueError, OSError: if something is wrong with it: before the first call is paid for.
        """
        shard = Shard.parse(args.shard) if args.shard else None
        check_settings(args)
        settings = build_settings(args)
        catalog, dialogues = read_data(args, allow_empty_truth=args.allow_empty_truth)
        adjustment = Adjustment.load(args.adjustment, catalog) if args.adjustment else None
        teacher = load_teacher(teacher_args, shard=shard) if teacher_args.is_named else None
        truth, seen = resolve_dialogues(catalog, dialogues, unknown_limit=args.unknown_limit)
        check_inputs(settings, judge=teacher is not None, truth=any(truth), adjustment=adjustment is not None)
        teacher_work = TeacherWork.load(args, teacher, catalog, dialogues)
        work = cls(args, settings, catalog, dialogues, truth, seen, adjustment, teacher_work, shard)
        fitted_on = truth if adjustment is None else None
        check_data(settings, len(catalog), args.teacher_ranks, seen=work.excluded, truth=fitted_on, groups=work.groups)
        if settings.steps and not args.dry_run:
            try_encoder(args, dialogue_text(dialogues[0].messages))
        return work

    @property
    def groups(self) -> list[str]:
        """Per row its dialogue: what folds keep together."""
        return [dialogue_of(dialogue.id) for dialogue in self.dialogues]

    @property
    def excluded(self) -> list[set[int]] | None:
        """Per dialogue what must not be listed; None to allow all."""
        return None if self.args.keep_seen else self.seen

    @property
    def parts(self) -> Parts:
        """Where shards keep Remap's scores until the run is finished."""
        return Parts(Path(self.args.output_dir) / "shards" / "remap", self.shard)

    def encode(self, raw: RawLists) -> Encoded:
        """The items, the teacher's titles and the dialogues as vectors.

        A title that is an item has the item's text; others, and items that the catalogue says nothing of, are described
        by the teacher where `describe` says so.
        """
        written = self.teacher_work.descriptions(raw)
        items = self.teacher_work.texts.of_items(written)
        titles = [
            items[item] if item >= 0 else item_text(title, written.get(title, NOTHING))
            for title, item in zip(raw.titles, raw.same_item.tolist(), strict=True)
        ]
        dialogues = [dialogue_text(dialogue.messages) for dialogue in self.dialogues]
        encoder = make_encoder(self.args, items)
        vectors = encoder.encode([*titles, *items, *dialogues])  # at once: what shards share, they wait for once
        ends = np.cumsum([len(titles), len(items)])
        basis = digest([getattr(encoder, "identity", encoder.name), self.catalog.version, items])
        return Encoded(vectors[: ends[0]], vectors[ends[0] : ends[1]], vectors[ends[1] :], titles, dialogues, basis)

    def remapped(self, raw: RawLists, encoded: Encoded) -> Candidates | None:
        """Remap's scores of the shard's dialogues, kept for the run that finishes; in that run those of all dialogues,
        read where they were kept. None where no shard was at work.
        """
        if self.shard is None and not self.parts.folder.is_dir():
            return None
        rows = range(len(self.dialogues))[self.shard.rows if self.shard else slice(None)]
        settings = [self.settings.context_weight, self.settings.num_candidates]
        texts = encoded.title_texts
        keys = []
        for row in rows:
            listed = [(texts[title], int(raw.same_item[title])) for title in raw.ranks[row].tolist() if title >= 0]
            keys.append(digest([encoded.basis, settings, encoded.dialogue_texts[row], listed]))

        def remap(places: list[int]) -> tuple[Any, Any]:
            chosen = [rows[place] for place in places]
            vectors = (encoded.titles, encoded.items, encoded.dialogues)
            scores = remap_dialogues(raw, *vectors, self.settings, chosen)
            return scores.items, scores.scores

        if not keys:
            return None
        items, scores = self.parts.own(keys, remap)
        return Candidates(items, scores, len(self.catalog))

    def finish(self) -> None:
        """Remove what shards kept of Remap: it is in the results now."""
        shutil.rmtree(Path(self.args.output_dir) / "shards", ignore_errors=True)


def run_shard(args: DemonstrationArguments, teacher_args: TeacherConfig) -> None:
    """Do the share of `args.shard` of everything that can be done before Adjust, which looks at all dialogues.

    Raises:
        OtherShards: if a step needs what other shards have not done yet.
        TeacherError: if the teacher cannot go on.
    """
    work = DemonstrationWork.load(args, teacher_args)
    assert work.shard is not None  # the caller
    raw = work.teacher_work.raw_lists()
    if not work.settings.steps:
        return
    scores = work.remapped(raw, work.encode(raw))
    if scores is None or "reflect" not in work.settings.steps:
        return
    rows, teacher = work.shard.rows, work.teacher_work.teacher
    own = replace(
        work.teacher_work,
        dialogues=work.dialogues[rows],
        teacher=teacher.whole if isinstance(teacher, ShardTeacher) else teacher,  # no other shard rates these
    )
    if (judge := own.judge()) is not None:
        judge(rated_items(scores, work.settings.num_rated, work.excluded, rows))


def check_settings(args: DemonstrationArguments) -> None:
    """Refuse numbers out of range, of those that `BuildSettings` does not hold.

    Raises:
        ValueError: for such a number.
    """
    score = args.fuzzy_min_score
    ranges = {
        **{name: (getattr(args, name) >= 1, "at least 1") for name in ("teacher_ranks", "num_orders", "window")},
        "fuzzy_min_score": (score is None or 1 < score <= 100, "a score above 1, at most 100, such as 90, or null"),
    }
    for name, (fits, expected) in ranges.items():
        if not fits:
            raise ValueError(f"{name} is {getattr(args, name)}; expected {expected}")


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
