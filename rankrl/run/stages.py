"""The two stages that train, and the arguments that their recipes take."""

from __future__ import annotations

from typing import Literal

from trl import ModelConfig, SFTConfig

from rankrl.grpo import RankGRPOConfig
from rankrl.run.alarms import AlarmArguments
from rankrl.run.arguments import RewardArguments, SFTArguments, ValidationArguments
from rankrl.run.parser import RecipeParser
from rankrl.run.schedule import ScheduleArguments

Stage = Literal["sft", "rank_grpo"]
STAGES: dict[Stage, tuple[type, ...]] = {
    "sft": (SFTArguments, SFTConfig, ModelConfig),
    "rank_grpo": (
        RewardArguments,
        RankGRPOConfig,
        ModelConfig,
        ValidationArguments,
        AlarmArguments,
        ScheduleArguments,
    ),
}


def stage_parser(stage: Stage, description: str | None = None) -> RecipeParser:
    """The parser of a stage's recipe: what it gives are the arguments of its `main`, in their order."""
    parser = RecipeParser(STAGES[stage], description)
    if stage == "rank_grpo":
        parser.set_defaults(max_completion_length=None)  # then proposed from the catalogue
    return parser
