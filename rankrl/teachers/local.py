"""A Hugging Face model in this process as the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from rankrl.chat import ChatFormat
from rankrl.teachers.budget import Budget
from rankrl.teachers.cache import AnswerCache
from rankrl.teachers.cached import CachedTeacher
from rankrl.teachers.protocol import Answer, Messages

_WEIGHTS = ("*.safetensors", "*.bin")


class LocalTeacher(CachedTeacher):
    """A causal language model with a chat template, loaded when the first answer is needed.

    The model's own `generation_config.json` applies (end tokens, penalties, top-p, ...), but for what is given here.
    Every batch is kept as soon as it is written.

    Args:
        model: name on the Hub, or a directory. The weights in a directory are part of the cache's key (by size and time
            of change), so a model trained further is asked anew.
        cache: where answers are kept.
        budget: limits and ledger of this run; limits are checked before every batch.
        batch_size: requests answered at once.
        temperature: 0 for the likeliest answer; above, answers are sampled.
        max_tokens: longest answer.
        seed: of the samples.
        dtype: precision of the weights.
        device_map: where the model goes, for transformers (needs accelerate); by default the first GPU if there is one.
        enable_thinking: passed to the chat template.
        quiet: show no progress.

    Raises:
        ValueError: if the model has no chat template, a request has other roles than an optional system and one user
            message, or does not fit the model's context.

    Example:
        >>> teacher = LocalTeacher("Qwen/Qwen3-4B", cache=AnswerCache("runs/teacher.sqlite"))
        >>> teacher.ask([[{"role": "user", "content": "A heist film?"}]])[0].text
    """

    def __init__(
        self,
        model: str,
        *,
        cache: AnswerCache,
        budget: Budget | None = None,
        batch_size: int = 8,
        temperature: float = 0.0,
        max_tokens: int = 1024,
        seed: int = 0,
        dtype: str = "auto",
        device_map: Any = None,
        enable_thinking: bool = False,
        quiet: bool = False,
    ) -> None:
        if batch_size < 1 or max_tokens < 1 or temperature < 0:
            raise ValueError(
                f"batch_size={batch_size}, max_tokens={max_tokens} and temperature={temperature}: the first two are at "
                "least 1, the last at least 0"
            )
        parameters = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            **({"seed": seed} if temperature else {}),
            "dtype": dtype,
            "enable_thinking": enable_thinking,
            "weights": _weights(Path(model)),
        }
        super().__init__(model, parameters, cache, budget, quiet=quiet)
        self.destination = f"{model}, in this process"
        self.batch_size, self.temperature, self.max_tokens, self.seed = batch_size, temperature, max_tokens, seed
        self.dtype, self.device_map, self.enable_thinking = dtype, device_map, enable_thinking

    def _answer(self, missing: Mapping[str, Messages]) -> Iterator[tuple[str, Answer]]:
        tokenizer, chat, _ = self._loaded
        prompts = {
            key: tokenizer(_text(chat, messages), add_special_tokens=False)["input_ids"]
            for key, messages in missing.items()
        }
        self._check_lengths(prompts)
        # Batches of like length need little padding; the order by key makes them the same from run to run.
        order = sorted(prompts, key=lambda key: (-len(prompts[key]), key))
        for start in range(0, len(order), self.batch_size):
            keys = order[start : start + self.batch_size]
            self.budget.check_planned(len(keys), sum(len(prompts[key]) for key in keys), 0)
            for key, answer in zip(keys, self._generate([prompts[key] for key in keys], keys[0]), strict=True):
                self.cache.put(key, self.name, answer)
                self.budget.count(answer)
                yield key, answer

    def _generate(self, prompts: list[list[int]], salt: str) -> list[Answer]:
        import torch

        tokenizer, _, model = self._loaded
        inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
        sampling = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        with torch.inference_mode(), torch.random.fork_rng():
            # A batch's samples do not depend on the batches before it.
            torch.manual_seed(int(salt[:15], 16) ^ self.seed)
            written = model.generate(
                **inputs, **sampling, max_new_tokens=self.max_tokens, pad_token_id=tokenizer.pad_token_id
            )[:, inputs["input_ids"].shape[1] :]
        ends = _end_ids(model, tokenizer)
        return [self._read(prompt, row, ends) for prompt, row in zip(prompts, written.tolist(), strict=True)]

    def _read(self, prompt: list[int], row: list[int], ends: set[int]) -> Answer:
        tokenizer = self._loaded[0]
        ids = list(takewhile(lambda token: token not in ends, row))
        return Answer.of(
            tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            prompt_tokens=len(prompt),
            completion_tokens=len(ids),
            finish_reason="length" if len(ids) == self.max_tokens else "stop",
        )

    def _check_lengths(self, prompts: Mapping[str, list[int]]) -> None:
        context = getattr(self._loaded[2].config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts.values()))
        if context is not None and longest + self.max_tokens > context:
            raise ValueError(
                f"a request of {longest:,} tokens and an answer of max_tokens={self.max_tokens:,} do not fit the "
                f"context of {self.name}, {context:,} tokens. Shorten the requests (fewer candidates) "
                "or max_tokens."
            )

    @cached_property
    def _loaded(self) -> tuple[Any, ChatFormat, Any]:
        """Tokenizer, chat format and model."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.name)
        if not tokenizer.chat_template:
            raise ValueError(
                f"{self.name} has no chat template, so it does not answer instructions. Use an instruction-tuned model."
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        # A fixed date: templates that print today's would answer differently tomorrow under the same key.
        chat = ChatFormat(tokenizer, date="2025-01-01", enable_thinking=self.enable_thinking)
        model = AutoModelForCausalLM.from_pretrained(self.name, dtype=self.dtype, device_map=self.device_map)
        if self.device_map is None and torch.cuda.is_available():
            model = model.to("cuda")
        return tokenizer, chat, model.eval()


def _text(chat: ChatFormat, messages: Messages) -> str:
    roles = [message["role"] for message in messages]
    if roles not in (["user"], ["system", "user"]):
        raise ValueError(
            f"a request has the roles {roles}; LocalTeacher takes one user message, a system text before it"
        )
    system = messages[0]["content"] if len(messages) == 2 else ""
    # Only the user text can hold what a person typed; it must not end its own turn.
    return chat.text(system, chat.disarm(messages[-1]["content"]))


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    own = model.generation_config.eos_token_id
    return {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}


def _weights(directory: Path) -> list[list[Any]] | None:
    """Name, size and time of change of the weights in a directory; None for a name on the Hub."""
    if not directory.is_dir():
        return None
    paths = sorted(path for pattern in _WEIGHTS for path in directory.glob(pattern))
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
