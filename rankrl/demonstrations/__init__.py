"""Stage 1: lists for the model to imitate.

Remap, Reflect and Adjust (arXiv 2510.20150, appendix A) turn the lists of a black-box teacher into lists of the
catalogue; they need `rankrl[teacher]`. `truth_then_popular` does without a teacher.
"""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.demonstrations.adjust import Adjustment as Adjustment
    from rankrl.demonstrations.adjust import Movement as Movement
    from rankrl.demonstrations.build import BuildSettings as BuildSettings
    from rankrl.demonstrations.build import Demonstrations as Demonstrations
    from rankrl.demonstrations.build import build_demonstrations as build_demonstrations
    from rankrl.demonstrations.candidates import Candidates as Candidates
    from rankrl.demonstrations.candidates import top_items as top_items
    from rankrl.demonstrations.candidates import top_overlap as top_overlap
    from rankrl.demonstrations.objective import FitReport as FitReport
    from rankrl.demonstrations.popular import popular_items as popular_items
    from rankrl.demonstrations.popular import truth_then_popular as truth_then_popular
    from rankrl.demonstrations.reflect import reflect_scores as reflect_scores
    from rankrl.demonstrations.remap import remap_candidates as remap_candidates
    from rankrl.demonstrations.remap import remap_scores as remap_scores
    from rankrl.demonstrations.replies import RawLists as RawLists
    from rankrl.demonstrations.replies import read_lists as read_lists

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "adjust": ["Adjustment", "Movement"],
        "build": ["BuildSettings", "Demonstrations", "build_demonstrations"],
        "candidates": ["Candidates", "top_items", "top_overlap"],
        "objective": ["FitReport"],
        "popular": ["popular_items", "truth_then_popular"],
        "reflect": ["reflect_scores"],
        "remap": ["remap_candidates", "remap_scores"],
        "replies": ["RawLists", "read_lists"],
    },
)
