"""What a ranked list earns, as plain NumPy arrays: relevance, returns, and `RankReward` for any trainer."""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports
from rankrl.rewards.relevance import relevance  # not lazily: the module of the same name would hide the function

if TYPE_CHECKING:
    from rankrl.rewards.blend import LabelSchedule as LabelSchedule
    from rankrl.rewards.blend import LabelWeights as LabelWeights
    from rankrl.rewards.blend import blend_labels as blend_labels
    from rankrl.rewards.popularity import inverse_propensity_weights as inverse_propensity_weights
    from rankrl.rewards.returns import list_returns as list_returns
    from rankrl.rewards.returns import rank_returns as rank_returns
    from rankrl.rewards.reward import RankReward as RankReward
    from rankrl.rewards.reward import RankScores as RankScores
    from rankrl.rewards.tokens import place_on_tokens as place_on_tokens
    from rankrl.rewards.truth import TruthResolver as TruthResolver
    from rankrl.rewards.truth import resolve_truth as resolve_truth

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "blend": ["LabelSchedule", "LabelWeights", "blend_labels"],
        "popularity": ["inverse_propensity_weights"],
        "returns": ["list_returns", "rank_returns"],
        "reward": ["RankReward", "RankScores"],
        "tokens": ["place_on_tokens"],
        "truth": ["TruthResolver", "resolve_truth"],
    },
)
__all__ += ["relevance"]
