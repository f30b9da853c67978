"""A teacher described in YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rankrl.lazy import load_object
from rankrl.shards import Shard
from rankrl.teachers.budget import Budget
from rankrl.teachers.cache import AnswerCache
from rankrl.teachers.cached import CachedTeacher
from rankrl.teachers.local import LocalTeacher
from rankrl.teachers.openai_teacher import OpenAITeacher
from rankrl.teachers.protocol import Teacher
from rankrl.teachers.recorded import RecordedTeacher
from rankrl.teachers.shard import ShardCache, ShardTeacher


@dataclass
class TeacherConfig:
    """The teacher of a recipe. Fields for another kind of teacher are left at their defaults.

    Args:
        teacher: `openai` (any server with that interface), `local` (a Hugging Face model, in process) `recorded`, or
            `package.module:function`, which is given this config and returns a teacher of your own.
        teacher_model: the model's name at the server, its name on the Hub or its directory, or a recording (JSONL).
        teacher_base_url: address of the server; OpenAI's by default.
        remote_host: the host that dialogues may be sent to, if it is not this machine.
        teacher_api_key_env: name of the environment variable with the key; `OPENAI_API_KEY` for OpenAI by default, none
            for other servers.
        teacher_mode: `online`, or `batch` for the cheaper batch endpoint.
        teacher_cache: the file that keeps all answers.
        teacher_concurrency: requests under way at once.
        teacher_batch_size: requests that a local model answers at once.
        teacher_temperature: 0 for the likeliest answer; null leaves it out of a request.
        teacher_max_tokens: longest answer; null leaves it out of a request.
        teacher_seed: of samples, where the temperature is above 0.
        teacher_parameters: (YAML) further fields of a request.
        teacher_timeout: seconds to wait for one answer.
        teacher_retries: how often one request is tried again.
        teacher_max_calls: stop after so many calls in one run; 0: use what is in the cache.
        teacher_max_spent_tokens: stop after so many tokens in one run.
        teacher_max_money: stop after so much money in one run.
        teacher_input_price: price of a million tokens of requests.
        teacher_output_price: price of a million tokens of answers.
    """

    teacher: str = field(default="openai", metadata={"help": "openai, local, recorded, or package.module:function."})
    teacher_model: str = field(default="", metadata={"help": "Model name or directory, or a recording (JSONL)."})
    teacher_base_url: str | None = field(default=None, metadata={"help": "Address of the server, up to /v1."})
    remote_host: str | None = field(default=None, metadata={"help": "Host that dialogues may be sent to."})
    teacher_api_key_env: str | None = field(default=None, metadata={"help": "Environment variable with the key."})
    teacher_mode: Literal["online", "batch"] = field(default="online", metadata={"help": "online or batch."})
    teacher_cache: str = field(default="runs/teacher.sqlite", metadata={"help": "File that keeps all answers."})
    teacher_concurrency: int = field(default=8, metadata={"help": "Requests under way at once."})
    teacher_batch_size: int = field(default=8, metadata={"help": "Requests a local model answers at once."})
    teacher_temperature: float | None = field(default=0.0, metadata={"help": "0: the likeliest answer."})
    teacher_max_tokens: int | None = field(default=1024, metadata={"help": "Longest answer."})
    teacher_seed: int | None = field(default=None, metadata={"help": "Seed of samples."})
    teacher_parameters: dict | None = field(default=None, metadata={"help": "Further request fields (flag: JSON)."})
    teacher_timeout: float = field(default=120.0, metadata={"help": "Seconds to wait for one answer."})
    teacher_retries: int = field(default=6, metadata={"help": "How often one request is tried again."})
    teacher_max_calls: int | None = field(default=None, metadata={"help": "Most calls in one run."})
    teacher_max_spent_tokens: int | None = field(default=None, metadata={"help": "Most tokens in one run."})
    teacher_max_money: float | None = field(default=None, metadata={"help": "Most money in one run."})
    teacher_input_price: float | None = field(default=None, metadata={"help": "Price of a million tokens in."})
    teacher_output_price: float | None = field(default=None, metadata={"help": "Price of a million tokens out."})

    @property
    def is_named(self) -> bool:
        """Is there a teacher? A model is named, or a function of one's own."""
        return bool(self.teacher_model or ":" in self.teacher)


def load_budget(config: TeacherConfig) -> Budget:
    """The limits of a run."""
    return Budget(
        config.teacher_max_calls,
        config.teacher_max_spent_tokens,
        config.teacher_max_money,
        input_price=config.teacher_input_price,
        output_price=config.teacher_output_price,
    )


def load_teacher(
    config: TeacherConfig, *, budget: Budget | None = None, quiet: bool = False, shard: Shard | None = None
) -> Teacher:
    """The teacher that a config describes.

    Args:
        config: the settings.
        budget: limits and ledger, if several teachers share them; by default those of the config.
        quiet: show no progress.
        shard: ask the share of one shard; a recording, which costs nothing, is read as a whole.

    Raises:
        ValueError, CacheError: if the settings or the cache file are unusable, or a teacher of your own, whose answers
            are not kept, is to be asked by shards.
    """
    if ":" in config.teacher:
        if shard is not None:
            raise ValueError(
                f"teacher is {config.teacher!r}, whose answers are not kept where other shards find them: run it "
                "without --shard, or behind a server (teacher: openai, teacher_base_url)"
            )
        return load_object(config.teacher)(config)
    if not config.teacher_model:
        raise ValueError("teacher_model is missing; name a model, or the file of a recording")
    if config.teacher == "recorded":
        return RecordedTeacher(config.teacher_model)
    path = config.teacher_cache
    cache = AnswerCache(path) if shard is None else ShardCache(path, shard)
    teacher = _asked(config, budget or load_budget(config), cache, quiet)
    return teacher if shard is None else ShardTeacher(teacher, shard)


def _asked(config: TeacherConfig, budget: Budget, cache: AnswerCache, quiet: bool) -> CachedTeacher:
    if config.teacher == "local":
        return LocalTeacher(
            config.teacher_model,
            cache=cache,
            budget=budget,
            batch_size=config.teacher_batch_size,
            temperature=config.teacher_temperature or 0.0,
            max_tokens=config.teacher_max_tokens or 1024,
            seed=config.teacher_seed or 0,
            quiet=quiet,
        )
    if config.teacher != "openai":
        raise ValueError(f"teacher is {config.teacher!r}; expected openai, local, recorded or package.module:function")
    return OpenAITeacher(
        config.teacher_model,
        config.teacher_base_url,
        cache=cache,
        budget=budget,
        concurrency=config.teacher_concurrency,
        temperature=config.teacher_temperature,
        max_tokens=config.teacher_max_tokens,
        seed=config.teacher_seed,
        parameters=config.teacher_parameters,
        timeout=config.teacher_timeout,
        retries=config.teacher_retries,
        mode=config.teacher_mode,
        api_key_env=config.teacher_api_key_env,
        remote_host=config.remote_host,
        quiet=quiet,
    )
