"""Stage 1: lists for the model to imitate.

Remap, Reflect and Adjust (arXiv 2510.20150, appendix A) turn the lists of a black-box teacher into lists of the
catalogue; they need `rankrl[teacher]`. `truth_then_popular` does without a teacher.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.demonstrations.adjust import Adjustment, Movement
    from rankrl.demonstrations.candidates import Candidates, top_items, top_overlap
    from rankrl.demonstrations.objective import FitReport
    from rankrl.demonstrations.popular import popular_items, truth_then_popular
    from rankrl.demonstrations.reflect import reflect_scores
    from rankrl.demonstrations.remap import remap_candidates, remap_scores

__all__ = [
    "Adjustment",
    "Candidates",
    "FitReport",
    "Movement",
    "popular_items",
    "reflect_scores",
    "remap_candidates",
    "remap_scores",
    "top_items",
    "top_overlap",
    "truth_then_popular",
]

_MODULES = {
    "Adjustment": "adjust",
    "Candidates": "candidates",
    "FitReport": "objective",
    "Movement": "adjust",
    "popular_items": "popular",
    "reflect_scores": "reflect",
    "remap_candidates": "remap",
    "remap_scores": "remap",
    "top_items": "candidates",
    "top_overlap": "candidates",
    "truth_then_popular": "popular",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
