"""SFT trains on the list and its end token, after the very prompt that every other stage sees."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, dialogues_hash, load_dialogues, save_dialogues
from rankrl.run.models import load_policy
from recipes import sft
from tests.recipes.runs import LORA, NUM_RANKS, SMALL, Files, logits, run, tokenizer_asked_for, trainer_of


def trained_on(trainer: Any) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, completion ids) of each row as the loss sees them: what is labelled, and what stands before it."""
    rows = []
    for batch in trainer.get_eval_dataloader(trainer.train_dataset):  # in the order of the data
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            labelled = (labels != -100) & (mask == 1)
            assert torch.equal(labels[labelled], ids[labelled])
            first = int(labelled.nonzero()[0])
            assert labelled[first:].sum() == mask[first:].sum(), "the list is labelled from its start to its end"
            rows.append((ids[:first][mask[:first] == 1].tolist(), ids[labelled].tolist()))
    return rows


def teacher_lists(dialogues: list[Dialogue], catalog: Catalog) -> list[list[str]]:
    return [[catalog.lines[catalog.resolve(item)] for item in d.recommendations or ()] for d in dialogues]


def wanted_then_popular(dialogues: list[Dialogue], catalog: Catalog) -> list[list[str]]:
    """Each user's wanted films, then those most wanted by all that were not mentioned; ties in catalogue order."""
    wanted = [[catalog.resolve(item) for item in dialogue.ground_truth] for dialogue in dialogues]
    count = Counter(item for row in wanted for item in row)
    popular = sorted(range(len(catalog)), key=lambda item: (-count[item], item))
    lists = []
    for dialogue, own in zip(dialogues, wanted, strict=True):
        mentioned = {catalog.resolve(item) for item in dialogue.seen}
        filling = [item for item in popular if item not in mentioned and item not in own]
        lists.append([catalog.lines[item] for item in [*own, *filling][:NUM_RANKS]])
    return lists


@pytest.mark.parametrize(("source", "expected"), [("train", teacher_lists), ("untaught", wanted_then_popular)])
def test_the_loss_sees_the_list_and_the_end_token_after_the_rendered_prompt(
    source: str, expected: Any, files: Files, policy: Path, tmp_path: Path
) -> None:
    dialogues, catalog = load_dialogues(getattr(files, source)), Catalog.load(files.catalog)
    data = {"catalog": files.catalog, "dialogues": getattr(files, source)}
    trainer = trainer_of(sft, **data, **SMALL, model_name_or_path=policy, output_dir=tmp_path / "sft")

    tokenizer = AutoTokenizer.from_pretrained(policy)
    renderer = PromptRenderer.load(tmp_path / "sft", tokenizer)
    rows = trained_on(trainer)
    assert len(rows) == len(dialogues)
    for (prompt, completion), dialogue, lines in zip(rows, dialogues, expected(dialogues, catalog), strict=True):
        assert prompt == renderer.render(dialogue.messages).token_ids
        assert completion[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(completion[:-1]) == "\n".join(lines)


def test_a_long_dialogue_loses_its_oldest_turns_and_keeps_its_list(files: Files, policy: Path, tmp_path: Path) -> None:
    *_, long = load_dialogues(files.train)
    trainer = trainer_of(sft, **files.training, **SMALL, model_name_or_path=policy, output_dir=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(policy)

    prompt, completion = trained_on(trainer)[-1]

    assert len(prompt) + len(completion) <= 256
    text = tokenizer.decode(prompt)
    assert "Film number 0 " not in text
    assert long.messages[-1]["content"] in text
    assert tokenizer.decode(completion[:-1]).count("\n") == NUM_RANKS - 1


def test_no_example_is_longer_than_the_context(files: Files, policy: Path, tmp_path: Path) -> None:
    """Lists are measured by the catalogue's 99th percentile, but a longer title can be demonstrated too."""
    catalog = Catalog([*((f"Film {number}", 1990) for number in range(200)), ("Long, " * 20, 1991)])
    catalog.save(tmp_path / "catalog.jsonl")
    *_, long = load_dialogues(files.train)
    dialogue = Dialogue(long.id, long.messages, [], [catalog.lines[-1]], [catalog.lines[-1]])
    save_dialogues(tmp_path / "train.jsonl", [dialogue])
    data = {"catalog": tmp_path / "catalog.jsonl", "dialogues": tmp_path / "train.jsonl"}
    settings = {**SMALL, "num_ranks": 1, "model_name_or_path": policy, "output_dir": tmp_path / "sft"}

    with suppress(ValueError):  # an example that is refused is as good as one that fits
        ((prompt, completion),) = trained_on(trainer_of(sft, **data, **settings))
        assert len(prompt) + len(completion) <= 256


def test_tiny_gpt2_is_made_from_the_training_text(files: Files, tmp_path: Path) -> None:
    tiny = {"model_name_or_path": "tiny-gpt2", "tiny_vocab_size": 500, "tiny_context": 200}
    run(sft, **files.training, **SMALL, **LORA, **tiny, output_dir=tmp_path)

    policy = load_policy(tmp_path)
    assert isinstance(policy, PeftModel)
    assert policy.config.n_positions == 200
    assert len(AutoTokenizer.from_pretrained(tmp_path)) <= 500


def test_a_finished_run_leaves_model_tokenizer_prompt_and_manifest(sft_model: Path, files: Files, policy: Path) -> None:
    assert not torch.equal(logits(load_policy(sft_model)), logits(load_policy(policy)))
    tokenizer = AutoTokenizer.from_pretrained(sft_model)
    manifest = json.loads((sft_model / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["prompt_hash"] == PromptRenderer.load(sft_model, tokenizer).hash
    assert manifest["catalog"]["version"] == Catalog.load(files.catalog).version
    assert manifest["config"]["SFTConfig"]["learning_rate"] == 1e-3
    dialogues = load_dialogues(files.train)
    assert manifest["dialogues_hash"] == dialogues_hash(dialogues) != dialogues_hash(dialogues[1:])


def test_the_seed_decides_a_new_adapter_whatever_ran_before(files: Files, policy: Path, tmp_path: Path) -> None:
    adapters = []
    for number in (1, 2):
        torch.manual_seed(number)
        trainer = trainer_of(
            sft, **files.training, **SMALL, **LORA, model_name_or_path=policy, output_dir=tmp_path / str(number), seed=7
        )
        adapters.append({name: value for name, value in trainer.model.named_parameters() if "lora_A" in name})
    assert adapters[0]
    for name, value in adapters[0].items():
        assert torch.equal(value, adapters[1][name]), name


def test_how_to_load_the_model_is_heard(files: Files, policy: Path, tmp_path: Path) -> None:
    settings = {"model_name_or_path": policy, "output_dir": tmp_path, "attn_implementation": "eager"}
    trainer = trainer_of(sft, **files.training, **SMALL, **settings)
    assert trainer.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("fault", ["none", "too short", "unknown item"])
def test_a_list_that_cannot_be_imitated_is_an_error(fault: str, files: Files, policy: Path, tmp_path: Path) -> None:
    first, *others = load_dialogues(files.train)
    lists = {"none": None, "too short": first.recommendations[:1], "unknown item": [("Nobody Made This", 1990)] * 3}
    faulty = Dialogue(first.id, first.messages, first.seen, first.ground_truth, lists[fault])
    save_dialogues(tmp_path / "faulty.jsonl", [*others, faulty])

    with pytest.raises(ValueError, match=f"dialogue '{first.id}' demonstrates .* num_ranks = {NUM_RANKS}"):
        run(
            sft,
            **{**files.training, "dialogues": tmp_path / "faulty.jsonl"},
            **SMALL,
            model_name_or_path=policy,
            output_dir=tmp_path / "sft",
        )


def test_its_tokenizer_comes_from_the_commit_of_its_model(files: Files, policy: Path, tmp_path: Path) -> None:
    settings = {"model_name_or_path": policy, "model_revision": "v2", "trust_remote_code": True}
    asked = tokenizer_asked_for(sft, **files.training, **SMALL, **settings, output_dir=tmp_path)
    assert asked == {"revision": "v2", "trust_remote_code": True}
