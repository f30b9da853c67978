"""What a teacher does for one run of stage 1: it writes lists, describes titles, rates candidates."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog import Catalog
from rankrl.data import Dialogue
from rankrl.demonstrations import RawLists, read_lists
from rankrl.demonstrations.build import Judge
from rankrl.run.arguments import DemonstrationArguments
from rankrl.run.texts import ItemTexts
from rankrl.shards import OtherShards, Parts, Shard, digest
from rankrl.teachers import (
    JudgeTemplate,
    Messages,
    Metadata,
    Ratings,
    RecommendTemplate,
    Teacher,
    TeacherError,
    judge_requests,
    load_recorded_texts,
    plan_showings,
    rate,
)

LISTS, DESCRIPTIONS = "the teacher's lists", "descriptions"
RATINGS = "ratings (candidates are not known yet: any items stand in for them)"


@dataclass(frozen=True)
class TeacherWork:
    """The teacher at work on a run's dialogues. Made by `load`, which finds what is wrong with the settings.

    Attributes:
        args: the run's settings.
        teacher: who is asked; None where a recording is enough.
        catalog: N items.
        dialogues: D dialogues.
        texts: what is known of the items.
    """

    args: DemonstrationArguments
    teacher: Teacher | None
    catalog: Catalog
    dialogues: Sequence[Dialogue]
    texts: ItemTexts
    recommend: RecommendTemplate
    judging: JudgeTemplate

    @classmethod
    def load(
        cls, args: DemonstrationArguments, teacher: Teacher | None, catalog: Catalog, dialogues: Sequence[Dialogue]
    ) -> TeacherWork:
        """Load the templates and the retriever that the arguments name.

        Raises:
            ValueError, OSError: if one of them is unusable, a field is in no item, or nobody writes the lists.
        """
        if teacher is None and not args.raw_lists:
            raise ValueError("nobody writes the lists: name a teacher (teacher_model), or a recording (raw_lists)")
        return cls(
            args,
            teacher,
            catalog,
            dialogues,
            ItemTexts(args, catalog),
            RecommendTemplate.load(args.recommend_template or args.teacher_domain),
            JudgeTemplate.load(args.judge_template or args.teacher_domain),
        )

    def raw_lists(self) -> RawLists:
        """The lists: recorded, or asked for.

        Raises:
            ValueError: if the recording lacks a dialogue, or no answer holds a list.
        """
        replies = self._replies()
        raw = read_lists(replies, self.catalog, self.args.teacher_ranks, resolve=self._resolve)
        if not raw.titles:
            raise ValueError(
                f"none of the {len(replies)} answers holds a list; expected one title per line. The first answer is "
                f"{(replies[0] or '(empty or refused)')[:300]!r}"
            )
        return raw

    def descriptions(self, raw: RawLists) -> Mapping[str, Metadata]:
        """Line -> what the teacher wrote of it: of items that it is to describe and of titles outside the catalogue."""
        return self.texts.describe(self.teacher, self._undescribed(raw))

    def judge(self) -> Judge | None:
        """What rates candidates: the teacher, shown each dialogue with some of the catalogue's lines."""
        if (teacher := self.teacher) is None:
            return None

        def judge(rated: NDArray[np.int64]) -> Ratings:
            return rate(
                teacher,
                [dialogue.messages for dialogue in self.dialogues],
                [[self.catalog.lines[item] for item in row] for row in rated.tolist()],
                template=self.judging,
                num_orders=self.args.num_orders,
                window=self.args.window,
                seed=self.args.seed,
            )

        return judge

    def plan(self) -> dict[str, Any] | None:
        """Estimates of what would be asked, by kind; None for a teacher that costs nothing.

        Exact for lists. Titles outside the catalogue count as soon as the lists are known, and of a retriever nothing
        is asked, so its evidence is not in the requests for descriptions.
        """
        estimate = getattr(self.teacher, "estimate", None)
        if estimate is None:
            return None
        plans = {} if self.args.raw_lists else {LISTS: estimate(self._list_requests())}
        if self.args.steps != "none":
            raw = self.raw_lists() if _all_answered(plans) else None
            plans[DESCRIPTIONS] = estimate(self.texts.requests(self._undescribed(raw)))
        if "reflect" in self.args.steps:
            plans[RATINGS] = estimate(self._rating_requests())
        return plans

    def most_unplanned(self, plans: Mapping[str, Any]) -> int:
        """How many calls a plan may leave out: descriptions of titles that are not known yet."""
        lists = {name: plan for name, plan in plans.items() if name == LISTS}
        if _all_answered(lists) or self.args.steps == "none" or self.args.describe == "none":
            return 0
        return len(self.dialogues) * self.args.teacher_ranks

    def facts(self) -> dict[str, Any]:
        """Who wrote the lists, who described and judged, and what that cost in this run, for the card."""
        facts: dict[str, Any] = {"lists": self.args.raw_lists} if self.args.raw_lists else {}
        return facts | teacher_facts(self.teacher)

    def _resolve(self, lines: Sequence[str]) -> NDArray[np.int64]:
        """The items of lines. Shards share what takes long: to find misspelt titles."""
        args, folder = self.args, Path(self.args.output_dir) / "shards" / "titles"
        resolve = partial(self.catalog.match, min_score=args.fuzzy_min_score)
        if args.fuzzy_min_score is None or (args.shard is None and not folder.is_dir()):
            return resolve(lines)
        keys = [digest([self.catalog.version, args.fuzzy_min_score, line]) for line in lines]
        parts = Parts(folder, Shard.parse(args.shard) if args.shard else None)
        return parts.shared(keys, lambda places: (resolve([lines[at] for at in places]),), "titles")[0]

    def _replies(self) -> list[str | None]:
        path = self.args.raw_lists
        if not path:
            assert self.teacher is not None  # load
            return [answer.text for answer in self.teacher.ask(self._list_requests())]
        texts = load_recorded_texts(path, where=self.args.raw_where)
        if missing := [dialogue.id for dialogue in self.dialogues if dialogue.id not in texts]:
            raise ValueError(
                f"{path} holds no list for {len(missing)} of {len(self.dialogues)} dialogues, such as "
                f"{missing[0]!r}; its ids look like {next(iter(texts))!r}"
            )
        return [texts[dialogue.id] for dialogue in self.dialogues]

    def _list_requests(self) -> list[Messages]:
        return [self.recommend.messages(dialogue.messages, self.args.teacher_ranks) for dialogue in self.dialogues]

    def _rating_requests(self) -> list[Messages]:
        """As many and as long as the real ones, but of the catalogue's first items."""
        candidates = [self.catalog.lines[: self.args.num_rated]] * len(self.dialogues)
        showings = plan_showings(
            candidates, num_orders=self.args.num_orders, window=self.args.window, seed=self.args.seed
        )
        return judge_requests([d.messages for d in self.dialogues], candidates, showings, template=self.judging)

    def _undescribed(self, raw: RawLists | None) -> list[str]:
        """What the teacher is to describe; of titles outside the catalogue those that are known yet."""
        lines = self.texts.undescribed()
        if self.args.describe != "none" and raw is not None:
            lines += [title for title, item in zip(raw.titles, raw.same_item.tolist(), strict=True) if item < 0]
        return list(dict.fromkeys(lines))


def teacher_facts(teacher: Teacher | None) -> dict[str, Any]:
    """Who was asked, and what that cost in this run, for a card."""
    if teacher is None:
        return {}
    budget = getattr(teacher, "budget", None)
    facts = {"name": teacher.name, **(budget.report() if budget else {})}
    return {name.replace("_", " "): value for name, value in facts.items() if value is not None}


@contextmanager
def stopped_in_words() -> Iterator[None]:
    """End the process with a sentence where the teacher cannot go on, a shard waits, or somebody presses Ctrl-C."""
    try:
        yield
    except OtherShards as waits:
        print(waits)
    except TeacherError as error:
        sys.exit(f"{error}\nThe same command goes on from here.")
    except KeyboardInterrupt:
        print("\nstopped. What the teacher answered is kept; the same command goes on from there.")
        sys.exit(128 + signal.SIGINT)


def _all_answered(plans: Mapping[str, Any]) -> bool:
    return not any(plan.calls for plan in plans.values())
