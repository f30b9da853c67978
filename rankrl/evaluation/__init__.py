"""Evaluation: lists from a model, scores with intervals, and a report that a person wants to look at."""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.evaluation.evaluator import Scores as Scores
    from rankrl.evaluation.evaluator import evaluate as evaluate
    from rankrl.evaluation.evaluator import evaluate_ranked as evaluate_ranked
    from rankrl.evaluation.examples import Example as Example
    from rankrl.evaluation.examples import ListLine as ListLine
    from rankrl.evaluation.examples import mark_list as mark_list
    from rankrl.evaluation.generation import generate_lists as generate_lists
    from rankrl.evaluation.generation import greedy_config as greedy_config
    from rankrl.evaluation.pictures import Curve as Curve
    from rankrl.evaluation.pictures import bar_picture as bar_picture
    from rankrl.evaluation.pictures import curve_picture as curve_picture
    from rankrl.evaluation.pictures import rank_picture as rank_picture
    from rankrl.evaluation.pictures import save_png as save_png
    from rankrl.evaluation.report import comparison_table as comparison_table
    from rankrl.evaluation.report import write_pictures as write_pictures
    from rankrl.evaluation.report import write_report as write_report
    from rankrl.evaluation.significance import Interval as Interval
    from rankrl.evaluation.significance import bootstrap_mean as bootstrap_mean
    from rankrl.evaluation.significance import standard_error as standard_error

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "evaluator": ["Scores", "evaluate", "evaluate_ranked"],
        "examples": ["Example", "ListLine", "mark_list"],
        "generation": ["generate_lists", "greedy_config"],
        "pictures": ["Curve", "bar_picture", "curve_picture", "rank_picture", "save_png"],
        "report": ["comparison_table", "write_pictures", "write_report"],
        "significance": ["Interval", "bootstrap_mean", "standard_error"],
    },
)
