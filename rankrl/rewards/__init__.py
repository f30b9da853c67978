"""What a ranked list earns, as plain NumPy arrays: relevance, returns, and `RankReward` for any trainer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rankrl.rewards.relevance import relevance  # not lazily: the module of the same name would hide the function
from rankrl.rewards.returns import rank_returns
from rankrl.rewards.tokens import place_on_tokens

if TYPE_CHECKING:
    from rankrl.rewards.reward import RankReward, RankScores
    from rankrl.rewards.truth import TruthResolver, resolve_truth

__all__ = [
    "RankReward",
    "RankScores",
    "TruthResolver",
    "place_on_tokens",
    "rank_returns",
    "relevance",
    "resolve_truth",
]

_MODULES = {
    "RankReward": "rankrl.rewards.reward",
    "RankScores": "rankrl.rewards.reward",
    "TruthResolver": "rankrl.rewards.truth",
    "resolve_truth": "rankrl.rewards.truth",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
