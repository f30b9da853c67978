"""Pairs are written alike for tuning and scoring, and scores do not depend on what else is scored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from rankrl.labels import LocalScorer, encode_pairs
from tests.tiny import gpt2_tokenizer, qwen2_tokenizer, tiny_gpt2, tiny_qwen2

TALK = [
    {"role": "user", "content": "I loved Heat and Fargo."},
    {"role": "assistant", "content": "Something like that, or lighter?"},
    {"role": "user", "content": "Darker, please."},
]
DIALOGUES = [TALK, TALK[:1], TALK[1:]]
CANDIDATES = [["Alien (1979)", "Up (2009)"], [], ["Se7en (1995)\nKeywords: crime", "Fargo (1996)", "Up (2009)"]]


def classifier(folder: Path, tokenizer: Any, model: Any, max_length: int = 256) -> Path:
    """A language model on disk, with a new head for one score."""
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder / "base")
    model.save_pretrained(folder / "base")
    torch.manual_seed(0)
    scoring = AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=1)
    scoring.score.weight.data *= 20  # far enough from 0 that scores differ and some are cut off
    scoring.config.pad_token_id = None  # as many language models have it
    scoring.save_pretrained(folder / "scorer")
    tokenizer.save_pretrained(folder / "scorer")
    return folder / "scorer"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tokenizer = gpt2_tokenizer()
    return classifier(tmp_path, tokenizer, tiny_gpt2(tokenizer))


# ---- Pairs -----------------------------------------------------------------------------------------------------------


def test_a_pair_is_a_transcript_and_then_the_item() -> None:
    tokenizer = gpt2_tokenizer()
    ((pair,), cut) = encode_pairs(tokenizer, [(TALK, "Alien (1979)")])
    assert tokenizer.decode(pair["input_ids"]) == (
        "User: I loved Heat and Fargo.\nAssistant: Something like that, or lighter?\nUser: Darker, please."
        "\n\nItem: Alien (1979)"
    )
    assert cut == 0


@pytest.mark.parametrize("tokenizer", [gpt2_tokenizer(), qwen2_tokenizer()], ids=["gpt2", "qwen2"])
def test_a_long_dialogue_loses_its_start_and_never_the_item(tokenizer: Any) -> None:
    side = tokenizer.truncation_side
    whole, none = encode_pairs(tokenizer, [(TALK, "Alien (1979)"), (TALK[2:], "Up (2009)")], 1000)
    short, cut = encode_pairs(tokenizer, [(TALK, "Alien (1979)"), (TALK[2:], "Up (2009)")], 40)
    assert (none, cut) == (0, 1)
    assert len(short[0]["input_ids"]) == 40
    assert short[0]["input_ids"] == whole[0]["input_ids"][-40:]
    assert short[1] == whole[1]
    assert tokenizer.truncation_side == side


def test_an_item_that_fills_the_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="an item alone takes 10 tokens.*Raise max_length"):
        encode_pairs(gpt2_tokenizer(), [(TALK, "Alien " * 30)], 10)


# ---- Scores ----------------------------------------------------------------------------------------------------------


def one_by_one(scorer: LocalScorer) -> list[list[float]]:
    """Each pair alone, without padding, and on the scale from 0 to 4."""
    scores = []
    for messages, items in zip(DIALOGUES, CANDIDATES, strict=True):
        encoded = [encode_pairs(scorer.tokenizer, [(messages, item)])[0][0] for item in items]
        with torch.no_grad():
            values = [scorer.model(torch.tensor([pair["input_ids"]])).logits.item() for pair in encoded]
        scores.append([min(max(2 + 2 * value, 0.0), 4.0) for value in values])
    return scores


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_model_in_its_mode(training: bool, path: Path) -> None:
    scorer = LocalScorer.load(path, device="cpu", quiet=True)
    scorer.model.train(training)
    scorer.score(DIALOGUES, CANDIDATES)
    assert scorer.model.training == training


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_scores_are_those_of_each_pair_alone(family: str, batch_size: int, tmp_path: Path) -> None:
    tokenizer = {"gpt2": gpt2_tokenizer, "qwen2": qwen2_tokenizer}[family]()
    model = {"gpt2": tiny_gpt2, "qwen2": tiny_qwen2}[family](tokenizer)
    scorer = LocalScorer.load(classifier(tmp_path, tokenizer, model), batch_size=batch_size, device="cpu", quiet=True)
    found = scorer.score(DIALOGUES, CANDIDATES)
    assert [scores.dtype for scores in found] == [np.float64] * 3
    for scores, expected in zip(found, one_by_one(scorer), strict=True):
        np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert len({round(score, 3) for scores in found for score in scores}) > 1


def test_many_pairs_are_encoded_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = LocalScorer.load(path, batch_size=2, device="cpu", quiet=True)
    whole = scorer.score(DIALOGUES, CANDIDATES)
    monkeypatch.setattr("rankrl.labels.local._WINDOW", 1)
    for parts, scores in zip(scorer.score(DIALOGUES, CANDIDATES), whole, strict=True):
        np.testing.assert_allclose(parts, scores, atol=1e-5)


def test_cut_dialogues_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = gpt2_tokenizer()
    scorer = LocalScorer.load(classifier(tmp_path, tokenizer, tiny_gpt2(tokenizer), max_length=40), device="cpu")
    with caplog.at_level(logging.WARNING):
        scorer.score([TALK, TALK[2:]], [["Up (2009)"], ["Up (2009)"]])
    assert "1 of 2 pairs are longer than 40 tokens: the start of their dialogues was not read" in caplog.text


def test_an_adapter_scores_as_the_model_that_was_tuned(path: Path, tmp_path: Path) -> None:
    base = AutoModelForSequenceClassification.from_pretrained(path.parent / "base", num_labels=1)
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=4, init_lora_weights=False))
    tokenizer = gpt2_tokenizer()
    before = LocalScorer(adapted, tokenizer, "tuned", quiet=True).score(DIALOGUES, CANDIDATES)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")

    after = LocalScorer.load(tmp_path / "adapter", device="cpu", quiet=True).score(DIALOGUES, CANDIDATES)
    for scores, expected in zip(after, before, strict=True):
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_model_that_was_never_tuned_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=r"never tuned to score: it has no score.weight.*tune_scorer"):
        LocalScorer.load(path.parent / "base")


def test_several_outputs_are_refused(path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(path.parent / "base", num_labels=3)
    with pytest.raises(ValueError, match="has 3 outputs"):
        LocalScorer(model, gpt2_tokenizer(), "classes")


def test_scores_that_are_no_numbers_are_no_scores(path: Path) -> None:
    scorer = LocalScorer.load(path, device="cpu", quiet=True)
    torch.nn.init.constant_(scorer.model.score.weight, float("nan"))
    with pytest.raises(ValueError, match="scores that are no numbers; load it with another dtype"):
        scorer.score(DIALOGUES, CANDIDATES)


def test_every_dialogue_needs_its_candidates(path: Path) -> None:
    with pytest.raises(ValueError, match="3 dialogues"):
        LocalScorer.load(path, device="cpu").score(DIALOGUES, CANDIDATES[:2])
