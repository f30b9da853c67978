"""From (system text, user text) to the text a model reads, whatever its chat template does.

Chat templates differ in ways that break recommenders without a sound: some refuse a system role or leave it out, some
insert today's date (the prompt of a checkpoint then changes over night), some think aloud unless told not to, some
models have no template at all. `ChatFormat` finds out by trying, once, and then does the right thing for each prompt.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE_SYSTEM, PROBE_USER = "rankrl probe: system text", "rankrl probe: user text"
PLAIN_END = "\n\nRecommendations:\n"
"""What a model without a chat template reads last, so that its next token opens the list."""


class ChatFormat:
    """The chat format of one tokenizer, with date and thinking switch held fixed.

    Args:
        tokenizer: its chat template is used if it has one; otherwise prompts are plain text.
        date: the day that templates see as today, `YYYY-MM-DD`.
        enable_thinking: passed to the template. With `True` the thoughts come before the list, and as every non-blank
            line of a completion is a rank, they take the list's ranks: a warning says so.
        chat_template_kwargs: further variables of the template; they win over ours.

    Attributes:
        folds_system: the template has no system role, so the system text opens the user message.

    Raises:
        ValueError: if the template cannot print a single user message, or `date` is no date.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        date: str,
        enable_thinking: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        today = _read_date(date)
        template = tokenizer.get_chat_template() if tokenizer.chat_template else None
        self._template = _fix_clock(template, today) if template else None
        self._variables = {
            "enable_thinking": enable_thinking,
            "date_string": today.strftime("%d %b %Y"),
            **(chat_template_kwargs or {}),
        }
        self._begin = tokenizer.bos_token if template is None and _adds_begin_token(tokenizer) else ""
        self._control = _control_tokens(tokenizer, template or "")
        self.folds_system = self._template is not None and not self._has_system_role()
        self._check(enable_thinking)

    def text(self, system: str, user: str) -> str:
        """The whole prompt up to where the answer begins, including begin tokens.

        It has to be tokenized with `add_special_tokens=False`: Llama-like tokenizers would add a second begin token.
        """
        if self._template is None:
            return self._begin + "\n\n".join(part for part in (system, user) if part) + PLAIN_END
        if self.folds_system and system:
            system, user = "", f"{system}\n\n{user}"
        return self._apply(system, user)

    def disarm(self, content: str) -> str:
        """Break up control tokens in what people typed: `<|im_end|>` becomes `< |im_end|>`.

        Text that a user wrote must never end a turn or a document.
        """
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", content)

    def _apply(self, system: str, user: str) -> str:
        messages = [{"role": "system", "content": system}] if system else []
        return self.tokenizer.apply_chat_template(
            [*messages, {"role": "user", "content": user}],
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=False,
            **self._variables,
        )

    def _has_system_role(self) -> bool:
        try:
            return PROBE_SYSTEM in self._apply(PROBE_SYSTEM, PROBE_USER)
        except Exception:  # templates refuse a role by raising whatever jinja2 or Python happens to raise
            return False

    def _check(self, enable_thinking: bool) -> None:
        try:
            prompt = self.text(PROBE_SYSTEM, PROBE_USER)
        except Exception as error:
            raise ValueError(
                f"the chat template of {self.tokenizer.name_or_path or 'this tokenizer'} cannot print a user message: "
                f"{error}. Set tokenizer.chat_template to a template that can, or to None for plain text."
            ) from error
        for probe in (PROBE_SYSTEM, PROBE_USER):
            if probe not in prompt:
                raise ValueError(
                    f"the chat template leaves out the text it is given: {probe!r} is not in {prompt!r}. It may expect "
                    "content as a list of parts; set tokenizer.chat_template to a template for plain text."
                )
        if enable_thinking or prompt.rstrip().endswith("<think>"):
            why = "enable_thinking=True" if enable_thinking else "this template opens <think> whatever it is told"
            warnings.warn(
                f"{why}: every non-blank line of a completion is a rank, so thoughts will take the list's ranks. "
                "Use enable_thinking=False or a chat template without thinking.",
                stacklevel=4,
            )


def _read_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(f'date must be a day written as "2025-01-01", not {text!r}') from None


def _fix_clock(template: str, today: date) -> str:
    """Shadow the template function `strftime_now`, which reads the clock, by a macro that prints a fixed day.

    A macro, because transformers turns callables among the template variables into inert text.
    """
    if "strftime_now" not in template:
        return template
    directives = [f"%{letter}" for letter in "aAbBcdHIjmMpSUwWxXyY"]
    values = {name: today.strftime(name) for name in directives}
    values |= {f"%-{name[1]}": value.lstrip("0") or "0" for name, value in values.items() if value.isdigit()}
    printed = "".join(f" | replace({name!r}, {value!r})" for name, value in values.items())
    # The trailing line break is the one that jinja2 removes after a block, so the template itself stays as it is.
    return "{%- macro strftime_now(pattern) %}{{ pattern" + printed + " }}{% endmacro %}\n" + template


def _adds_begin_token(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


def _control_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> re.Pattern[str]:
    """The special tokens, and the added tokens that the chat template itself writes (such as `<think>`)."""
    tokens = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if len(token.content) > 1 and not token.content.isspace() and (token.special or token.content in template)
    }
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or r"(?!)")
