"""Evaluation: lists from a model, scores with intervals, and a report that a person wants to look at."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.evaluation.evaluator import Scores, evaluate, evaluate_ranked
    from rankrl.evaluation.examples import Example, ListLine, mark_list
    from rankrl.evaluation.generation import generate_lists
    from rankrl.evaluation.pictures import Curve, bar_picture, curve_picture, rank_picture, save_png
    from rankrl.evaluation.report import comparison_table, write_pictures, write_report
    from rankrl.evaluation.significance import Interval, bootstrap_difference, bootstrap_mean, dialogue_of

__all__ = [
    "Curve",
    "Example",
    "Interval",
    "ListLine",
    "Scores",
    "bar_picture",
    "bootstrap_difference",
    "bootstrap_mean",
    "comparison_table",
    "curve_picture",
    "dialogue_of",
    "evaluate",
    "evaluate_ranked",
    "generate_lists",
    "mark_list",
    "rank_picture",
    "save_png",
    "write_pictures",
    "write_report",
]

_MODULES = {
    "Curve": "pictures",
    "Example": "examples",
    "Interval": "significance",
    "ListLine": "examples",
    "Scores": "evaluator",
    "bar_picture": "pictures",
    "bootstrap_difference": "significance",
    "bootstrap_mean": "significance",
    "comparison_table": "report",
    "curve_picture": "pictures",
    "dialogue_of": "significance",
    "evaluate": "evaluator",
    "evaluate_ranked": "evaluator",
    "generate_lists": "generation",
    "mark_list": "examples",
    "rank_picture": "pictures",
    "save_png": "pictures",
    "write_pictures": "report",
    "write_report": "report",
}
_EXTRAS = {"matplotlib": "report", "jinja2": "report", "rich": "report", "torch": "train", "transformers": "train"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        message = f"{name} needs {error.name}: pip install 'rankrl[{_EXTRAS[error.name]}]'"
        raise ModuleNotFoundError(message, name=error.name) from error


def __dir__() -> list[str]:
    return sorted(__all__)
