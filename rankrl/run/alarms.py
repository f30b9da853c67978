"""Alarms for a run that collapses: seen in the training log, told once, with what is healthy and what to change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger(__name__)

# One noisy line is no collapse: healthy runs of the demo's model touch the KL's ceiling for a line.
LINES = 3


@dataclass
class AlarmArguments:
    """When a run of stage 2 looks broken. The figures of a healthy run beside each limit: docs/rank_grpo.md.

    Args:
        stop_on_alarm: save and stop at the first alarm; only warn by default.
        informative_floor: informative cells below this share of their first logged value.
        entropy_floor: entropy below this share of its first logged value.
        kl_ceiling: KL to the start above so many nats a token.
        repeat_rise: share of repeated items so much above its first logged value.
        catalog_fall: share of lines in the catalogue so much below its first logged value.
        length_drift: lists farther from K lines than at the start, by more than this share of K.

    Raises:
        ValueError: for a limit that is negative, or a floor of 1 or more.
    """

    stop_on_alarm: bool = field(default=False, metadata={"help": "Save and stop at the first alarm."})
    informative_floor: float = field(
        default=0.33, metadata={"help": "Alarm below this share of the first informative cells."}
    )
    entropy_floor: float = field(default=0.2, metadata={"help": "Alarm below this share of the first entropy."})
    kl_ceiling: float = field(default=1.5, metadata={"help": "Alarm above this KL, in nats a token."})
    repeat_rise: float = field(
        default=0.25, metadata={"help": "Alarm if the share of repeats rises by more than this."}
    )
    catalog_fall: float = field(
        default=0.2, metadata={"help": "Alarm if the in-catalogue share falls by more than this."}
    )
    length_drift: float = field(
        default=0.25, metadata={"help": "Alarm if lists get longer or shorter by this share of K."}
    )

    def __post_init__(self) -> None:
        for name in ("informative_floor", "entropy_floor", "kl_ceiling", "repeat_rise", "catalog_fall", "length_drift"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"{name} is {value}; expected 0 or more.")
        for name in ("informative_floor", "entropy_floor"):
            if getattr(self, name) >= 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected a share of the value at the start, below 1."
                )


@dataclass(frozen=True)
class Alarm:
    """One sign of collapse.

    Attributes:
        key: of the training log.
        name: what the number is.
        limit: the first logged value -> the last value that is healthy.
        advice: what to change.
        above: is more than the limit unhealthy, or less?
    """

    key: str
    name: str
    limit: Callable[[float], float]
    advice: str
    above: bool

    def rings(self, values: Sequence[float]) -> bool:
        """Are the last `LINES` logged values all beyond the limit? Takes every value since the start, in order."""
        if len(values) < LINES:
            return False
        limit = self.limit(values[0])
        healthy = (value <= limit if self.above else value >= limit for value in values[-LINES:])
        return not any(healthy)  # NaN is not healthy

    def sentence(self, values: Sequence[float]) -> str:
        """What was seen, what is healthy, what to change."""
        seen = ", ".join(f"{value:.3g}" for value in values[-LINES:])
        healthy = f"{'at most' if self.above else 'at least'} {self.limit(values[0]):.3g}"
        return (
            f"{self.name} ({self.key}): {seen} in the last {LINES} lines of the log. Healthy is {healthy}; it began at "
            f"{values[0]:.3g}. {self.advice}"
        )


def make_alarms(args: AlarmArguments, num_ranks: int) -> list[Alarm]:
    """The alarms that the arguments describe.

    Args:
        args: the limits. Most are relative to the first logged value, because what is healthy differs from model to
            model; the KL begins at 0, and its limit is absolute.
        num_ranks: K; a list that was too short or too long at the start may come nearer to K without an alarm.
    """
    return [
        Alarm(
            "informative/all",
            "share of cells in which lists of a prompt differ",
            lambda first: args.informative_floor * first,
            "Lists of a prompt are nearly equal, so there is little left to compare, and what is left is drift. More "
            "dialogues help most; then a lower learning rate, beta above 0, or the best checkpoint.",
            above=False,
        ),
        Alarm(
            "entropy/all",
            "entropy",
            lambda first: args.entropy_floor * first,
            "The policy hardly explores any more: lists of a prompt are nearly equal, and the advantages are noise. "
            "Lower the learning rate, raise beta, or go on from the best checkpoint.",
            above=False,
        ),
        Alarm(
            "kl/all",
            "KL to the policy at the start, in nats a token",
            lambda _: args.kl_ceiling,
            "The policy has left the start far behind, and what it knew of titles may be lost. Lower the learning rate "
            "or raise beta; does validation NDCG still rise?",
            above=True,
        ),
        Alarm(
            "repeat/all",
            "share of items that a list names twice",
            lambda first: first + args.repeat_rise,
            "A few popular items fill the lists. Set a repeat_penalty (-0.3 in the demo), or lower the learning rate.",
            above=True,
        ),
        Alarm(
            "in_catalog/all",
            "share of lines in the catalogue",
            lambda first: first - args.catalog_fall,
            "The policy forgets how titles are written. Raise beta or lower the learning rate; train SFT for longer.",
            above=False,
        ),
        *_length_alarms(args, num_ranks),
    ]


def _length_alarms(args: AlarmArguments, num_ranks: int) -> list[Alarm]:
    margin = args.length_drift * num_ranks
    key, name = "list_length", "lines of a list"
    return [
        Alarm(
            key,
            name,
            lambda first: min(first, num_ranks) - margin,
            f"Lists should have {num_ranks} lines. Make early_stop_penalty more negative; look whether "
            "max_completion_length cuts them.",
            above=False,
        ),
        Alarm(
            key,
            name,
            lambda first: max(first, num_ranks) + margin,
            f"Lists should have {num_ranks} lines. Make overflow_penalty more negative.",
            above=True,
        ),
    ]


class Alarms(TrainerCallback):
    """Warns once for each alarm that rings, and stops training if it should.

    The values since the start are read from the trainer's own history, which checkpoints hold: a resumed run is
    measured by its first beginning.

    Args:
        args: limits, and whether to stop.
        num_ranks: K.
    """

    def __init__(self, args: AlarmArguments, num_ranks: int) -> None:
        self.stops = args.stop_on_alarm
        self.silent = make_alarms(args, num_ranks)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        values = {
            key: [entry[key] for entry in state.log_history if key in entry]
            for key in {alarm.key for alarm in self.silent} & set(logs or {})
        }
        ringing = [alarm for alarm in self.silent if alarm.rings(values.get(alarm.key, []))]
        self.silent = [alarm for alarm in self.silent if alarm not in ringing]
        if ringing and self.stops:
            control.should_save = control.should_training_stop = True
        if state.is_world_process_zero:
            for alarm in ringing:
                logger.warning("step %d: %s", state.global_step, alarm.sentence(values[alarm.key]))
            if ringing and self.stops:
                logger.warning("stopping after step %d, because stop_on_alarm is set", state.global_step)
