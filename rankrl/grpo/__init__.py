"""Stage 2, Rank-GRPO: each rank of the list is the unit of credit (arXiv 2510.20150).

`segments` and `objective` are pure torch and import nothing else, so that they can be used in any trainer;
`RankGRPOConfig` and `RankGRPOTrainer` load TRL, and only when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.grpo.config import RankGRPOConfig
    from rankrl.grpo.objective import place_units, rank_advantages, rank_grpo_loss, rank_log_ratio
    from rankrl.grpo.segments import LineTable, segment_ranks
    from rankrl.grpo.trainer import RankGRPOTrainer

_HOMES = {
    "LineTable": "segments",
    "segment_ranks": "segments",
    "place_units": "objective",
    "rank_advantages": "objective",
    "rank_grpo_loss": "objective",
    "rank_log_ratio": "objective",
    "RankGRPOConfig": "config",
    "RankGRPOTrainer": "trainer",
}

__all__ = [
    "LineTable",
    "RankGRPOConfig",
    "RankGRPOTrainer",
    "place_units",
    "rank_advantages",
    "rank_grpo_loss",
    "rank_log_ratio",
    "segment_ranks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
