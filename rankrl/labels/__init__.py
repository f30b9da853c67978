"""Augmented labels: what would suit the user of a dialogue, beside what the log happens to hold (arXiv 2508.05657).

Retrieve the items nearest to a dialogue, score them, trust the scores as far as they find hidden true labels. What
comes out is `augmented` of the dialogues; `rankrl.rewards` says how much it counts.
"""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.labels.agreement import teacher_agreement as teacher_agreement
    from rankrl.labels.augment import AugmentedLabels as AugmentedLabels
    from rankrl.labels.augment import kept_labels as kept_labels
    from rankrl.labels.augment import replace_at_random as replace_at_random
    from rankrl.labels.augment import weigh_by_trust as weigh_by_trust
    from rankrl.labels.local import LocalScorer as LocalScorer
    from rankrl.labels.local import encode_pairs as encode_pairs
    from rankrl.labels.retrieval import Retrieved as Retrieved
    from rankrl.labels.retrieval import retrieve as retrieve
    from rankrl.labels.score import Scored as Scored
    from rankrl.labels.score import encoder_scores as encoder_scores
    from rankrl.labels.score import local_scores as local_scores
    from rankrl.labels.score import teacher_scores as teacher_scores
    from rankrl.labels.scores_file import ScoredDialogue as ScoredDialogue
    from rankrl.labels.scores_file import ScoredItem as ScoredItem
    from rankrl.labels.scores_file import load_scores as load_scores
    from rankrl.labels.scores_file import save_scores as save_scores
    from rankrl.labels.trust import CalibrationBin as CalibrationBin
    from rankrl.labels.trust import Reliability as Reliability
    from rankrl.labels.trust import calibration as calibration
    from rankrl.labels.trust import reliability as reliability

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "agreement": ["teacher_agreement"],
        "augment": ["AugmentedLabels", "kept_labels", "replace_at_random", "weigh_by_trust"],
        "local": ["LocalScorer", "encode_pairs"],
        "retrieval": ["Retrieved", "retrieve"],
        "score": ["Scored", "encoder_scores", "local_scores", "teacher_scores"],
        "scores_file": ["ScoredDialogue", "ScoredItem", "load_scores", "save_scores"],
        "trust": ["CalibrationBin", "Reliability", "calibration", "reliability"],
    },
)
