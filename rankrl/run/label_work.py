"""Label work up to what is global: texts, vectors, retrieval and scores, of all dialogues or of a shard's share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog import Catalog
from rankrl.data import Dialogue
from rankrl.demonstrations.texts import dialogue_text
from rankrl.labels import LocalScorer, Retrieved, Scored, encoder_scores, local_scores, retrieve, teacher_scores
from rankrl.labels.score import candidate_lines
from rankrl.labels.scores_file import HIGHEST
from rankrl.labels.unfinished import unfinished_files
from rankrl.run.arguments import LabelArguments
from rankrl.run.start import read_data, resolve_dialogues
from rankrl.run.texts import ItemTexts, make_encoder, own_texts, try_encoder
from rankrl.shards import Shard
from rankrl.teachers import (
    JudgeTemplate,
    Messages,
    Teacher,
    TeacherConfig,
    judge_requests,
    load_teacher,
    plan_showings,
)
from rankrl.teachers.rating import LABEL_SCALE
from rankrl.teachers.shard import ShardTeacher


@dataclass(frozen=True)
class LabelWork:
    """The input of a run, who says how well items suit a dialogue (a teacher, a local scorer, or the encoder that
    retrieved them), and the work on it. Made by `load`, which finds what is wrong with the settings.

    Attributes:
        catalog: N items.
        dialogues: D dialogues.
        truth, seen: per dialogue what was wanted and what was mentioned.
        texts: what is known of the items.
        shard: whose share is done; None for all.
    """

    args: LabelArguments
    catalog: Catalog
    dialogues: Sequence[Dialogue]
    truth: list[dict[int, float]]
    seen: list[set[int]]
    texts: ItemTexts
    teacher: Teacher | None
    judging: JudgeTemplate
    local: LocalScorer | None
    shard: Shard | None

    @classmethod
    def load(cls, args: LabelArguments, teacher_args: TeacherConfig) -> LabelWork:
        """Read everything that the arguments name.

        Raises:
            ValueError, OSError: if something is wrong with it: before the first call is paid for.
        """
        shard = Shard.parse(args.shard) if args.shard else None
        catalog, dialogues = read_data(args, allow_empty_truth=args.allow_empty_truth)
        truth, seen = resolve_dialogues(catalog, dialogues, unknown_limit=args.unknown_limit)
        check_settings(args, any(truth))
        teacher = load_teacher(teacher_args, shard=shard) if teacher_args.is_named else None
        if teacher is None and args.scorer == "teacher":
            raise ValueError("nobody scores: name a teacher (teacher_model), or set scorer to encoder")
        texts = ItemTexts(args, catalog)
        judging = JudgeTemplate.load(args.judge_template or args.teacher_domain)
        local = None if args.scorer in ("teacher", "encoder") else LocalScorer.load(args.scorer)
        if not args.dry_run:
            try_encoder(args, dialogue_text(dialogues[0].messages))
        return cls(args, catalog, dialogues, truth, seen, texts, teacher, judging, local, shard)

    @property
    def rows(self) -> slice:
        """The dialogues whose items are retrieved and scored."""
        return self.shard.rows if self.shard else slice(None)

    @property
    def undescribed(self) -> list[str]:
        """Lines of the items that the teacher is to describe."""
        return self.texts.undescribed() if self.teacher is not None else []

    def retrieved(self) -> Retrieved:
        """The items nearest to each dialogue."""
        items = self.texts.of_items(self.texts.describe(self.teacher, self.undescribed))
        dialogues = [dialogue_text(dialogue.messages) for dialogue in self.dialogues]
        # At once: what shards share, they wait for once.
        vectors = make_encoder(self.args, items).encode([*items, *dialogues])
        of_items, of_dialogues = vectors[: len(items)], vectors[len(items) :]
        return retrieve(of_dialogues[self.rows], of_items, self.args.num_candidates, exclude=self.seen[self.rows])

    def score(self, retrieved: Retrieved) -> Scored:
        """The retrieved items with their scores."""
        if self.args.scorer == "encoder":
            return encoder_scores(retrieved, self.encoder_name)
        messages = [dialogue.messages for dialogue in self.dialogues[self.rows]]
        if self.local is not None:
            texts = own_texts(self.catalog)
            return local_scores(self.local, messages, retrieved.items, texts, keep=self._unfinished, shard=self.shard)
        # What dialogues are scored by one shard, no other asks about.
        teacher = self.teacher.whole if isinstance(self.teacher, ShardTeacher) else self.teacher
        assert teacher is not None  # load
        return teacher_scores(
            teacher,
            messages,
            retrieved.items,
            self.catalog.lines,
            template=self.judging,
            num_orders=self.args.num_orders,
            window=self.args.window,
            seed=self.args.seed,
            reasons=self.args.reasons,
        )

    def requests(self, items: NDArray[np.int64]) -> list[Messages]:
        """What the teacher would be asked of `(D, M)` items."""
        candidates = candidate_lines(items, self.catalog.lines)
        showings = plan_showings(
            candidates, num_orders=self.args.num_orders, window=self.args.window, seed=self.args.seed
        )
        messages = [dialogue.messages for dialogue in self.dialogues]
        return judge_requests(
            messages, candidates, showings, template=self.judging, scale=LABEL_SCALE, reasons=self.args.reasons
        )

    @property
    def encoder_name(self) -> str:
        """What cards call the encoder."""
        return "TF-IDF" if self.args.encoder == "tfidf" else Path(self.args.encoder).name

    def finish(self) -> None:
        """Remove what was kept of a local scorer's scores: they are in the results now."""
        for path in unfinished_files(self._unfinished):
            path.unlink()

    @property
    def _unfinished(self) -> Path:
        """Where a local scorer's scores are kept until all are there."""
        return Path(self.args.output_dir) / "scores.part"


def run_shard(args: LabelArguments, teacher_args: TeacherConfig) -> None:
    """Do the share of `args.shard` of everything that can be done before trust, which looks at all dialogues.

    Raises:
        OtherShards: if a step needs what other shards have not done yet.
        TeacherError: if the teacher cannot go on.
    """
    work = LabelWork.load(args, teacher_args)
    retrieved = work.retrieved()
    if len(retrieved.items):  # there may be more shards than dialogues
        work.score(retrieved)


def check_settings(args: LabelArguments, truth_is_known: bool) -> None:
    """Refuse what cannot work.

    Raises:
        ValueError: if trust has to be measured and no truth is known, or a number is out of range.
    """
    if args.trust is None and not truth_is_known:
        raise ValueError(
            "trust is measured by how often labels find true ones, and no dialogue has any: say how much the labels "
            "may count, such as --trust 0.3"
        )
    if args.scorer not in ("teacher", "encoder") and not Path(args.scorer).is_dir():
        raise ValueError(
            f"scorer is {args.scorer!r}; expected teacher, encoder, or the directory of a local scorer, which "
            "recipes/tune_scorer.py makes"
        )
    ranges = {
        "min_label_score": (0 < args.min_label_score <= HIGHEST, f"a score above 0, at most {HIGHEST:g}"),
        "trust": (args.trust is None or 0 <= args.trust <= 1, "0 (labels count nothing) to 1 (as much as true ones)"),
        "prior": (args.prior >= 0, "0 (each dialogue by itself) or more"),
        "corrupt": (0 <= args.corrupt <= 1, "a share of the labels, 0 to 1"),
        **{name: (getattr(args, name) >= 1, "at least 1") for name in ("num_candidates", "num_orders", "window")},
    }
    for name, (fits, expected) in ranges.items():
        if not fits:
            raise ValueError(f"{name} is {getattr(args, name)}; expected {expected}")
