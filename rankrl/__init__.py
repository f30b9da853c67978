"""rankrl: teach a language model to recommend, one rank at a time.

Names are loaded on first use, so `import rankrl` brings in nothing heavy.
"""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.grpo import RankGRPOConfig as RankGRPOConfig
    from rankrl.grpo import RankGRPOTrainer as RankGRPOTrainer
    from rankrl.rewards import RankReward as RankReward

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"grpo": ["RankGRPOConfig", "RankGRPOTrainer"], "rewards": ["RankReward"]}
)
