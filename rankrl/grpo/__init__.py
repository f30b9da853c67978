"""Stage 2, Rank-GRPO: each rank of the list is the unit of credit (arXiv 2510.20150).

`segments`, `advantages` and `objective` are pure torch and import nothing else, so that they can be used in any
trainer; `RankGRPOConfig` and `RankGRPOTrainer` load TRL, and only when they are asked for.
"""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.grpo.advantages import decoupled_advantages as decoupled_advantages
    from rankrl.grpo.advantages import rank_advantages as rank_advantages
    from rankrl.grpo.config import RankGRPOConfig as RankGRPOConfig
    from rankrl.grpo.objective import rank_grpo_loss as rank_grpo_loss
    from rankrl.grpo.objective import rank_log_ratio as rank_log_ratio
    from rankrl.grpo.sampling import forget_generation_config as forget_generation_config
    from rankrl.grpo.sampling import sampling_settings as sampling_settings
    from rankrl.grpo.segments import LineTable as LineTable
    from rankrl.grpo.segments import segment_ranks as segment_ranks
    from rankrl.grpo.trainer import RankGRPOTrainer as RankGRPOTrainer

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "advantages": ["decoupled_advantages", "rank_advantages"],
        "config": ["RankGRPOConfig"],
        "objective": ["rank_grpo_loss", "rank_log_ratio"],
        "sampling": ["forget_generation_config", "sampling_settings"],
        "segments": ["LineTable", "segment_ranks"],
        "trainer": ["RankGRPOTrainer"],
    },
)
