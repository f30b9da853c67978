"""Teachers: black-box language models that write lists, describe items and rate candidates; each call is paid once."""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.teachers.budget import Budget as Budget
    from rankrl.teachers.cache import AnswerCache as AnswerCache
    from rankrl.teachers.cache import CacheError as CacheError
    from rankrl.teachers.cached import CachedTeacher as CachedTeacher
    from rankrl.teachers.cached import Estimate as Estimate
    from rankrl.teachers.config import TeacherConfig as TeacherConfig
    from rankrl.teachers.config import load_budget as load_budget
    from rankrl.teachers.config import load_teacher as load_teacher
    from rankrl.teachers.local import LocalTeacher as LocalTeacher
    from rankrl.teachers.openai_teacher import OpenAITeacher as OpenAITeacher
    from rankrl.teachers.prompts import JudgeTemplate as JudgeTemplate
    from rankrl.teachers.prompts import Metadata as Metadata
    from rankrl.teachers.prompts import MetadataTemplate as MetadataTemplate
    from rankrl.teachers.prompts import RecommendTemplate as RecommendTemplate
    from rankrl.teachers.prompts import parse_metadata as parse_metadata
    from rankrl.teachers.protocol import Answer as Answer
    from rankrl.teachers.protocol import BatchNotReady as BatchNotReady
    from rankrl.teachers.protocol import BudgetExceeded as BudgetExceeded
    from rankrl.teachers.protocol import Messages as Messages
    from rankrl.teachers.protocol import Teacher as Teacher
    from rankrl.teachers.protocol import TeacherError as TeacherError
    from rankrl.teachers.rating import LABEL_SCALE as LABEL_SCALE
    from rankrl.teachers.rating import REFLECT_SCALE as REFLECT_SCALE
    from rankrl.teachers.rating import Ratings as Ratings
    from rankrl.teachers.rating import judge_requests as judge_requests
    from rankrl.teachers.rating import plan_showings as plan_showings
    from rankrl.teachers.rating import rate as rate
    from rankrl.teachers.rating_statistics import RatingStatistics as RatingStatistics
    from rankrl.teachers.recorded import MissingRecording as MissingRecording
    from rankrl.teachers.recorded import RecordedTeacher as RecordedTeacher
    from rankrl.teachers.recorded import load_recorded_texts as load_recorded_texts

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "budget": ["Budget"],
        "cache": ["AnswerCache", "CacheError"],
        "cached": ["CachedTeacher", "Estimate"],
        "config": ["TeacherConfig", "load_budget", "load_teacher"],
        "local": ["LocalTeacher"],
        "openai_teacher": ["OpenAITeacher"],
        "prompts": ["JudgeTemplate", "Metadata", "MetadataTemplate", "RecommendTemplate", "parse_metadata"],
        "protocol": ["Answer", "BatchNotReady", "BudgetExceeded", "Messages", "Teacher", "TeacherError"],
        "rating": ["LABEL_SCALE", "REFLECT_SCALE", "Ratings", "judge_requests", "plan_showings", "rate"],
        "rating_statistics": ["RatingStatistics"],
        "recorded": ["MissingRecording", "RecordedTeacher", "load_recorded_texts"],
    },
)
