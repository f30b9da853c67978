"""Augmented labels: what would suit a user though no one named it (arXiv 2508.05657)."""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.labels.agreement import teacher_agreement as teacher_agreement
    from rankrl.labels.local import LocalScorer as LocalScorer
    from rankrl.labels.local import encode_pairs as encode_pairs
    from rankrl.labels.scores_file import ScoredDialogue as ScoredDialogue
    from rankrl.labels.scores_file import ScoredItem as ScoredItem
    from rankrl.labels.scores_file import load_scores as load_scores
    from rankrl.labels.scores_file import save_scores as save_scores

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "agreement": ["teacher_agreement"],
        "local": ["LocalScorer", "encode_pairs"],
        "scores_file": ["ScoredDialogue", "ScoredItem", "load_scores", "save_scores"],
    },
)
