"""Simulated data on disk, a tiny untrained policy, and the adapter of one short SFT run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from catalog import Catalog
from rankrl.data import Dialogue, load_dialogues, save_dialogues
from rankrl.data.simulation import simulate
from rankrl.run.tiny_gpt2 import build_tiny_gpt2
from recipes import sft
from tests.recipes.runs import LORA, NUM_RANKS, SMALL, Files, run
from tests.recipes.teaching import Teacher
from tests.teachers.server import ChatServer, serving


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("data")
    data = simulate(12, 0, 6, seed=0, num_ranks=NUM_RANKS, num_items=50)
    talk = [{"role": "user", "content": f"Film number {i} was too long for me."} for i in range(40)]
    long = replace(data.train[0], id="long:0:0", messages=[*talk, *data.train[0].messages])
    train = [*data.train, long]
    files = Files(*(folder / name for name in ("catalog.jsonl", "train.jsonl", "untaught.jsonl", "test.jsonl")))
    data.catalog.save(files.catalog)
    save_dialogues(files.train, train)
    save_dialogues(files.untaught, [replace(dialogue, recommendations=None) for dialogue in train])
    save_dialogues(files.test, data.test)
    return files


@pytest.fixture(scope="session")
def policy(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers, 32 wide, with a context of 256 tokens and no prompt record."""
    texts = [path.read_text(encoding="utf-8") for path in (files.catalog, files.train)]
    directory = tmp_path_factory.mktemp("policy") / "tiny"
    build_tiny_gpt2(directory, texts, vocab_size=600, context=256, layers=2, width=32, heads=2)
    return directory


@pytest.fixture(scope="session")
def sft_adapter(files: Files, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What SFT with LoRA leaves: an adapter that has moved away from its base model."""
    output = tmp_path_factory.mktemp("stages") / "sft"
    run(sft, **files.training, **SMALL, **LORA, model_name_or_path=policy, output_dir=output, learning_rate=1e-2)
    return output


@pytest.fixture(scope="session")
def sft_model(files: Files, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What SFT of all weights leaves, with a checkpoint of its first step."""
    output = tmp_path_factory.mktemp("stages") / "sft_full"
    settings = {**SMALL, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    run(sft, **files.training, **settings, model_name_or_path=policy, output_dir=output, learning_rate=1e-3)
    return output


@pytest.fixture(scope="session")
def catalog(files: Files) -> Catalog:
    return Catalog.load(files.catalog)


@pytest.fixture(scope="session")
def dialogues(files: Files) -> list[Dialogue]:
    return load_dialogues(files.train)


@pytest.fixture
def server(catalog: Catalog) -> Iterator[ChatServer]:
    with serving(Teacher(catalog)) as server:
        yield server
