"""What every teacher with a cache does alike: look up, ask for the rest, keep the ledger, estimate before asking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from rankrl.teachers.budget import Budget
from rankrl.teachers.cache import AnswerCache, request_key
from rankrl.teachers.progress import AskProgress
from rankrl.teachers.protocol import Answer, BudgetExceeded, Messages, approximate_prompt_tokens, encodable

ASSUMED_COMPLETION_TOKENS = 500  # where neither answers nor a limit say more
_SHOWN = 3


class CachedTeacher(ABC):
    """A teacher that answers from its cache first and keeps every new answer there.

    Args:
        name: the model's name.
        parameters: everything else that decides an answer; part of the key in the cache.
        cache: where answers are kept.
        budget: limits and ledger of this run; without one there are no limits.
        quiet: show no progress.

    Attributes:
        destination: where requests go, in words.
        leaves_machine: do they leave this machine?
    """

    destination: str
    leaves_machine: bool = False

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Any],
        cache: AnswerCache,
        budget: Budget | None,
        *,
        quiet: bool = False,
    ) -> None:
        self.name = name
        self.parameters = dict(parameters)
        self.cache = cache
        self.budget = budget or Budget()
        self.quiet = quiet

    def body(self, messages: Messages) -> dict[str, Any]:
        """The request as it is sent: model, messages and parameters."""
        return {"model": self.name, "messages": messages, **self.parameters}

    def key(self, messages: Messages) -> str:
        """The request's name in the cache."""
        return request_key(self.body(messages))

    def ask(self, requests: Sequence[Messages]) -> list[Answer]:
        """Answer many requests; see `Teacher.ask`. Equal requests are asked once.

        Raises:
            TeacherError: if it cannot go on: `BudgetExceeded`, `BatchNotReady`, `CacheError`, or whatever the server
                says. Everything that was answered is in the cache, so the same call goes on from there.
        """
        # Half an emoji, which the escapes of JSON let in, cannot be sent.
        requests = [[{**turn, "content": encodable(turn["content"])} for turn in messages] for messages in requests]
        keys = [self.key(messages) for messages in requests]
        answers = self.cache.get(list(dict.fromkeys(keys)))
        missing = {key: messages for key, messages in zip(keys, requests, strict=True) if key not in answers}
        self.budget.count_cached(len(requests) - len(missing), answers.values())
        with AskProgress(len(requests), self.budget, f"Asking {self.name}", quiet=self.quiet) as progress:
            progress.advance(len(requests) - len(missing))
            try:
                for key, answer in self._answer(missing) if missing else ():
                    answers[key] = answer
                    progress.advance()
            except BudgetExceeded as reason:
                left = len(missing) - len(self.cache.get(list(missing)))
                raise BudgetExceeded(
                    f"{reason}. Spent in this run: {self.budget}. {left:,} requests are left. What was answered is "
                    f"kept in {self.cache.path}: raise the limit and run again, nothing is asked twice."
                ) from None
        return list(_repeats_marked(keys, answers))

    @abstractmethod
    def _answer(self, missing: Mapping[str, Messages]) -> Iterator[tuple[str, Answer]]:
        """Answer requests by key, each kept in the cache and entered in the budget before it is yielded."""

    def estimate(self, requests: Sequence[Messages]) -> Estimate:
        """What `ask` would take, without asking: the dry run.

        Tokens of requests are a quarter of their UTF-8 bytes, and 4 a message. An answer is taken to be as long as
        those to these requests that are in the cache; if there are none, as long as allowed (`max_tokens`), which is an
        upper bound; if there is no limit, 500 tokens.
        """
        bodies = {self.key(messages): messages for messages in requests}
        known = self.cache.get(list(bodies))
        missing = [messages for key, messages in bodies.items() if key not in known]
        per_answer, basis = self._expected_length(known.values())
        prompt_tokens = sum(map(approximate_prompt_tokens, missing))
        completion_tokens = round(per_answer * len(missing))
        return Estimate(
            requests=len(requests),
            calls=len(missing),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            money=self.budget.cost(prompt_tokens, completion_tokens),
            destination=self.destination,
            leaves_machine=self.leaves_machine,
            basis=basis,
            examples=tuple(self.body(messages) for messages in (missing or list(bodies.values()))[:_SHOWN]),
        )

    def _expected_length(self, known: Any) -> tuple[float, str]:
        if lengths := [answer.completion_tokens for answer in known]:
            return mean(lengths), f"answers as long as the {len(lengths):,} in the cache"
        for name in ("max_tokens", "max_completion_tokens"):
            if limit := self.parameters.get(name):
                return limit, f"answers as long as {name} allows, an upper bound"
        return ASSUMED_COMPLETION_TOKENS, f"{ASSUMED_COMPLETION_TOKENS} tokens an answer, a guess"


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        requests: in all.
        calls: those that are neither in the cache nor repeats.
        prompt_tokens, completion_tokens: of the calls, estimated.
        money: their cost, in the currency of the prices; None without prices.
        destination: where the calls go.
        leaves_machine: do dialogues leave this machine?
        basis: how the length of the answers was estimated.
        examples: up to three exact requests, those to be sent first.
    """

    requests: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None
    destination: str
    leaves_machine: bool
    basis: str
    examples: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        cost = "unknown (no prices were given)" if self.money is None else f"{self.money:,.4f}"
        where = f"{self.destination}, so the dialogues leave this machine" if self.leaves_machine else self.destination
        lines = [
            f"{self.requests:,} requests, {self.calls:,} of them not answered yet",
            f"tokens: about {self.prompt_tokens:,} in (a quarter of the bytes) and {self.completion_tokens:,} out "
            f"({self.basis})",
            f"cost: {cost}",
            f"sent to: {where}",
        ]
        for number, example in enumerate(self.examples, start=1):
            settings = ", ".join(f"{name}={value!r}" for name, value in example.items() if name != "messages")
            lines.append(f"\nrequest {number} ({settings})")
            lines += [f"[{message['role']}]\n{message['content']}" for message in example["messages"]]
        return "\n".join(lines)


def _repeats_marked(keys: Sequence[str], answers: Mapping[str, Answer]) -> Iterator[Answer]:
    """The answer to each key; from its second place on, an answer cost nothing."""
    met = set()
    for key in keys:
        yield replace(answers[key], cached=True) if key in met else answers[key]
        met.add(key)
