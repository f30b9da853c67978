"""Stage 1: lists for the model to imitate."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.demonstrations.popular import popular_items, truth_then_popular

__all__ = ["popular_items", "truth_then_popular"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.popular"), name)
