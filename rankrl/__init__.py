"""rankrl: teach a language model to recommend, one rank at a time.

Names are loaded on first use, so `import rankrl` brings in nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
    from rankrl.rewards import RankReward

__version__ = "0.1.0"
__all__ = ["RankGRPOConfig", "RankGRPOTrainer", "RankReward", "__version__"]

_MODULES = {
    "RankGRPOConfig": "rankrl.grpo",
    "RankGRPOTrainer": "rankrl.grpo",
    "RankReward": "rankrl.rewards",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
