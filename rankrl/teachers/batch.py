"""The batch endpoint, cheaper and slower: submit, write down what was submitted, collect in a later run."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.files import whole_file
from rankrl.teachers.completions import FILTER_CODES, explain, read_completion
from rankrl.teachers.protocol import Answer, BatchNotReady, Messages, TeacherError

if TYPE_CHECKING:
    from rankrl.teachers.openai_teacher import OpenAITeacher

logger = logging.getLogger(__name__)

ENDPOINT = "/v1/chat/completions"
MAX_REQUESTS, MAX_BYTES = 50_000, 100_000_000  # of one batch; OpenAI takes 50,000 requests and 200 MB
FINISHED = {"completed", "expired", "cancelled", "failed"}
_TAG = "rankrl_submission"
_SEARCHED = 1000  # newest batches among which a lost submission is looked for


@dataclass(frozen=True)
class Job:
    """One batch under way.

    Attributes:
        server: its base_url.
        submission: our own name for it, chosen before anything is sent and attached to the batch, so that a batch whose
            id was lost (a kill in that very moment) is found again and not paid for twice.
        batch_id: the server's name for it; None until it is known.
        keys: the cache keys of its requests.
    """

    server: str
    submission: str
    batch_id: str | None
    keys: list[str]


class JobFile:
    """The batches under way, in `<cache>.batches.json` beside the cache. Used under the cache's claim on `NAME`."""

    NAME = "batches"

    def __init__(self, cache_path: Path) -> None:
        self.path = Path(f"{cache_path}.batches.json")
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else "[]"
        self.jobs = {job["submission"]: Job(**job) for job in json.loads(text)}

    def write(self, job: Job) -> None:
        """Add or update a job."""
        self.jobs[job.submission] = job
        self._save()

    def drop(self, job: Job) -> None:
        """Forget a job."""
        del self.jobs[job.submission]
        self._save()

    def _save(self) -> None:
        with whole_file(self.path) as file:
            file.write(json.dumps([asdict(job) for job in self.jobs.values()], indent=1).encode())


def answer_in_batches(
    teacher: OpenAITeacher, client: Any, missing: Mapping[str, Messages]
) -> Iterator[tuple[str, Answer]]:
    """Collect what is ready, submit what was never submitted, and answer if that is everything.

    Raises:
        BatchNotReady: if some answers are still being written.
        BudgetExceeded: if what has to be submitted would pass the budget; nothing is submitted then.
        TeacherError: if the server refused a batch or single requests of it, or may have lost one.
    """
    from openai import OpenAIError

    with teacher.cache.claim(JobFile.NAME):
        file = JobFile(teacher.cache.path)
        try:
            waiting = _collect(teacher, client, file, missing)
            answers = teacher.cache.get(list(missing))
            under_way = {key for job in file.jobs.values() if job.server == teacher.base_url for key in job.keys}
            if left := {key: messages for key, messages in missing.items() if key not in answers.keys() | under_way}:
                waiting += _submit(teacher, client, file, left)
            problem: TeacherError | None = None
        except OpenAIError as error:
            problem = explain(error, teacher)
    if problem:
        raise problem  # out here, so that no traceback chains to the client's error and the request in it
    if len(answers) < len(missing):
        raise BatchNotReady(
            f"{len(missing) - len(answers):,} of {len(missing):,} requests are at {teacher.host}'s batch endpoint: "
            f"{'; '.join(waiting)}. Their ids are in {file.path}. Run the same command again later to collect the "
            "answers; nothing is submitted twice."
        )
    yield from answers.items()


def _collect(teacher: OpenAITeacher, client: Any, file: JobFile, missing: Mapping[str, Messages]) -> list[str]:
    """Keep the answers of all finished batches; returns what the others are doing."""
    waiting = []
    for job in [job for job in file.jobs.values() if job.server == teacher.base_url]:
        batch = _find(client, job, file)
        if batch is None:
            file.drop(job)  # never reached the server
        elif batch.status in FINISHED:
            failures = _keep(teacher, client, batch, missing)
            file.drop(job)
            _report(teacher, batch, failures)
        else:
            if job.batch_id is None:
                file.write(Job(job.server, job.submission, batch.id, job.keys))
            waiting.append(_progress(batch))
    return waiting


def _find(client: Any, job: Job, file: JobFile) -> Any:
    from openai import NotFoundError

    if job.batch_id is None:
        newest = (batch for _, batch in zip(range(_SEARCHED), client.batches.list(limit=100), strict=False))
        return next((batch for batch in newest if (batch.metadata or {}).get(_TAG) == job.submission), None)
    try:
        return client.batches.retrieve(job.batch_id)
    except NotFoundError:
        problem = (
            f"{job.server} does not know the batch {job.batch_id}, which {file.path} says was submitted there. Is this "
            f"another account's key? If the batch is gone for good, delete {file.path} and run again: its "
            f"{len(job.keys):,} requests are then submitted anew."
        )
    raise TeacherError(problem)


def _keep(teacher: OpenAITeacher, client: Any, batch: Any, missing: Mapping[str, Messages]) -> list[dict[str, Any]]:
    """Put the answers of a finished batch into the cache; returns what is no answer."""
    failures = []
    for file_id in (batch.output_file_id, batch.error_file_id):
        # Lines end at \n alone: an answer may hold other characters that splitlines() takes for line ends.
        for line in client.files.content(file_id).text.split("\n") if file_id else ():
            if not line.strip():
                continue
            row = json.loads(line)
            answer = _read_row(teacher, row, missing.get(row["custom_id"], []))
            if answer is None:
                failures.append(row)
                continue
            teacher.cache.put(row["custom_id"], teacher.name, answer)
            teacher.budget.count(answer)
    return failures


def _read_row(teacher: OpenAITeacher, row: Mapping[str, Any], messages: Messages) -> Answer | None:
    """The answer in a row of a batch's output; None where it holds none, and the request has to be submitted again."""
    response = row.get("response") or {}
    if response.get("status_code") == 200:
        try:
            return read_completion(response.get("body"), messages, teacher.scrub)
        except TeacherError:  # one broken row must not stand before all that follow it, in this run and the next
            return None
    if _error(row).get("code") in FILTER_CODES:
        return Answer.of(None, refused=True, finish_reason="content_filter")
    return None


def _error(row: Mapping[str, Any]) -> Mapping[str, Any]:
    body = (row.get("response") or {}).get("body") or {}
    return row.get("error") or (body.get("error") if isinstance(body, dict) else None) or {}


def _report(teacher: OpenAITeacher, batch: Any, failures: list[dict[str, Any]]) -> None:
    """Raise for what would fail again; the rest is submitted once more and only mentioned."""
    final = [row for row in failures if 400 <= ((row.get("response") or {}).get("status_code") or 500) < 500]
    errors = [_error(row).get("message") or str(row) for row in final]
    if batch.status == "failed":
        errors += [error.message for error in (batch.errors.data if batch.errors else None) or []] or [
            "no reason given"
        ]
    if errors:
        raise TeacherError(
            f"{teacher.host} refused {len(errors):,} part(s) of batch {batch.id}, the first because "
            f"{teacher.scrub(str(errors[0]))[:300]!r}. Its answers are kept. Change the settings, or run again to "
            "submit the rest once more."
        )
    if failures or batch.status in ("expired", "cancelled"):
        logger.warning(
            "batch %s is %s with %d failed requests; what it left unanswered is submitted again",
            batch.id, batch.status, len(failures),
        )  # fmt: skip


def _submit(teacher: OpenAITeacher, client: Any, file: JobFile, left: Mapping[str, Messages]) -> list[str]:
    plan = teacher.estimate(list(left.values()))
    teacher.budget.check_planned(plan.calls, plan.prompt_tokens, plan.completion_tokens)
    submitted = []
    for keys, content in _chunks(teacher, left):
        job = Job(teacher.base_url, uuid.uuid4().hex, None, keys)
        file.write(job)
        upload = client.files.create(file=("requests.jsonl", content), purpose="batch")
        batch = _create(teacher, client, upload.id, job)
        file.write(Job(job.server, job.submission, batch.id, keys))
        submitted.append(_progress(batch, len(keys)))
    return submitted


def _create(teacher: OpenAITeacher, client: Any, input_file: str, job: Job) -> Any:
    """Start a batch. Sent once: a server may have taken what it gave no answer to, and each of two would be paid."""
    from openai import OpenAIError

    try:
        return client.with_options(max_retries=0).batches.create(
            input_file_id=input_file, endpoint=ENDPOINT, completion_window="24h", metadata={_TAG: job.submission}
        )
    except OpenAIError as error:
        problem = explain(error, teacher, once=True)
    raise TeacherError(
        f"{problem} Should the server have taken the batch all the same, the next run finds it by its metadata "
        f"({_TAG}: {job.submission}) and does not submit it again."
    )


def _chunks(teacher: OpenAITeacher, left: Mapping[str, Messages]) -> Iterator[tuple[list[str], bytes]]:
    """Keys and file content of as many batches as the endpoint's limits ask for."""
    keys: list[str] = []
    lines: list[bytes] = []
    size = 0
    for key, messages in left.items():
        row = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": teacher.body(messages)}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        if keys and (len(keys) == MAX_REQUESTS or size + len(line) > MAX_BYTES):
            yield keys, b"".join(lines)
            keys, lines, size = [], [], 0
        keys.append(key)
        lines.append(line)
        size += len(line)
    yield keys, b"".join(lines)


def _progress(batch: Any, total: int | None = None) -> str:
    counts = batch.request_counts
    total = total or (counts.total if counts else 0)
    return f"{batch.id} is {batch.status} ({counts.completed if counts else 0:,} of {total:,} done)"
