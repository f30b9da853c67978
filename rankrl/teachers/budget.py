"""What a run may spend on a teacher, and what it has spent."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rankrl.teachers.protocol import Answer, BudgetExceeded


@dataclass
class Usage:
    """What was asked and answered in this run.

    Attributes:
        calls: requests that were sent and answered.
        cached: requests whose answer was there already: from an earlier run, or the same request in this one.
        cached_prompt_tokens, cached_completion_tokens: what those that came from an earlier run took then.
        prompt_tokens, completion_tokens: of the calls.
        refused, empty: answers without a text, among the calls.
        cut: answers that met the length limit, among the calls.
    """

    calls: int = 0
    cached: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: int = 0
    empty: int = 0
    cut: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of requests and answers together."""
        return self.prompt_tokens + self.completion_tokens


class Budget:
    """Limits of one run, and its ledger. Several teachers may share one, and all their threads.

    The number of calls is never passed. Tokens and money of a call are known only afterwards: calls under way are
    taken to cost as much as those before them did on average. The first calls, as many as run at once, have nothing to
    be judged by, so a limit that they alone exhaust is passed by them.

    Args:
        calls: most requests to send; retries of one request count once. With 0, only what is in the cache is answered.
        tokens: most tokens, of requests and answers together.
        money: most money, in the currency of the prices.
        input_price: price of a million tokens of requests.
        output_price: price of a million tokens of answers. (Batch endpoints have their own, lower prices.)

    Attributes:
        usage: what was spent so far.

    Raises:
        ValueError: for a negative limit, one price without the other, or `money` without prices.
    """

    def __init__(
        self,
        calls: int | None = None,
        tokens: int | None = None,
        money: float | None = None,
        *,
        input_price: float | None = None,
        output_price: float | None = None,
    ) -> None:
        for name, limit in {"calls": calls, "tokens": tokens, "money": money}.items():
            if limit is not None and not (limit > 0 or (limit == 0 and name == "calls")):
                raise ValueError(
                    f"the budget's {name} is {limit}; a limit is above 0 (calls: 0 or more), None for none"
                )
        if (input_price is None) != (output_price is None):
            raise ValueError("a price for input tokens needs one for output tokens and the other way round")
        if money is not None and input_price is None:
            raise ValueError(
                f"a budget of {money} in money needs input_price and output_price, the prices of a million tokens"
            )
        self.calls, self.tokens, self.money = calls, tokens, money
        self.input_price, self.output_price = input_price, output_price
        self.usage = Usage()
        self._under_way = 0
        self._access = threading.Lock()

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """What tokens cost, in the currency of the prices; None without prices."""
        if self.input_price is None or self.output_price is None:
            return None
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1e6

    @property
    def spent(self) -> float | None:
        """Money spent so far; None without prices."""
        return self.cost(self.usage.prompt_tokens, self.usage.completion_tokens)

    def start_call(self) -> None:
        """Take leave for one call; `end_call` has to follow.

        Raises:
            BudgetExceeded: if the call would pass a limit.
        """
        with self._access:
            usage = self.usage
            share = (self._under_way + 1) / max(usage.calls, 1)  # what is under way, in calls already paid for
            prompt, completion = (n * (1 + share) for n in (usage.prompt_tokens, usage.completion_tokens))
            self._check(usage.calls + self._under_way + 1, prompt, completion)
            self._under_way += 1

    def end_call(self, answer: Answer | None) -> None:
        """Enter a call into the ledger; None if it failed and so cost nothing."""
        with self._access:
            self._under_way -= 1
            self._enter(answer)

    def count(self, answer: Answer) -> None:
        """Enter a call that `check_planned` allowed."""
        with self._access:
            self._enter(answer)

    def count_cached(self, number: int = 1, answers: Iterable[Answer] = ()) -> None:
        """Enter requests that needed no call, and the answers of an earlier run that served them."""
        with self._access:
            self.usage.cached += number
            for answer in answers:
                self.usage.cached_prompt_tokens += answer.prompt_tokens
                self.usage.cached_completion_tokens += answer.completion_tokens

    def check_planned(self, calls: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Allow so many further calls at once, before any of them is sent.

        Raises:
            BudgetExceeded: if they would pass a limit.
        """
        with self._access:
            usage = self.usage
            self._check(
                usage.calls + calls, usage.prompt_tokens + prompt_tokens, usage.completion_tokens + completion_tokens
            )

    def __str__(self) -> str:
        usage, money = self.usage, self.spent
        spent = f"{usage.calls:,} calls · {usage.cached:,} from the cache · {usage.tokens:,} tokens"
        return spent if money is None else f"{spent} · cost {money:,.4f}"

    def report(self) -> dict[str, Any]:
        """The ledger as plain data, for cards and manifests; what costs money is None without prices."""
        usage = self.usage
        earlier = self.cost(usage.cached_prompt_tokens, usage.cached_completion_tokens)
        return {**asdict(usage), "money": self.spent, "money_of_earlier_runs": earlier}

    def _enter(self, answer: Answer | None) -> None:
        if answer is None:
            return
        usage = self.usage
        usage.calls += 1
        usage.prompt_tokens += answer.prompt_tokens
        usage.completion_tokens += answer.completion_tokens
        usage.refused += answer.status == "refused"
        usage.empty += answer.status == "empty"
        usage.cut += answer.finish_reason == "length"

    def _check(self, calls: float, prompt_tokens: float, completion_tokens: float) -> None:
        wanted = {
            "calls": (calls, self.calls),
            "tokens": (prompt_tokens + completion_tokens, self.tokens),
            "money": (self.cost(prompt_tokens, completion_tokens) or 0.0, self.money),
        }
        for name, (amount, limit) in wanted.items():
            if limit is not None and amount > limit:
                raise BudgetExceeded(f"the next call would pass the budget of {limit:,} ({name})")
