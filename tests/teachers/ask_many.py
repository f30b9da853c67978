"""A process that asks a server many questions: `python -m tests.teachers.ask_many URL CACHE COUNT CONCURRENCY`."""

import sys

from rankrl.teachers import AnswerCache, OpenAITeacher
from tests.teachers.server import numbered

if __name__ == "__main__":
    url, path, count, concurrency = sys.argv[1:]
    teacher = OpenAITeacher("m", url, cache=AnswerCache(path), concurrency=int(concurrency), quiet=True)
    answers = teacher.ask(numbered(int(count)))
    assert [answer.text for answer in answers] == [f"answer to question {n}" for n in range(int(count))]
