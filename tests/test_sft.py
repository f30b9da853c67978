"""The anchored loss by hand, and what it does to a model that learns: nothing at the start, a pull back later."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

from rankrl.sft import AnchoredSFTTrainer, frozen_copy, token_kl
from tests.tiny import gpt2_tokenizer, tiny_gpt2

TOKENIZER = gpt2_tokenizer()
LORA = LoraConfig(r=4, target_modules=["c_attn", "c_fc", "c_proj"], lora_alpha=16, lora_dropout=0.0)
# Prompts and lists of different lengths, so that there is padding and the lists begin at different places.
ROWS = [
    {
        "input_ids": [*range(10, 10 + prompt), *range(60 + prompt, 60 + prompt + listed), TOKENIZER.eos_token_id],
        "completion_mask": [0] * prompt + [1] * (listed + 1),
    }
    for prompt, listed in [(5, 7), (9, 3), (3, 4), (6, 8)]
]


def trainer_of(
    folder: Path, kind: type = AnchoredSFTTrainer, model: Any = None, rows: list[dict] = ROWS, **given: Any
) -> Any:
    named = {name: given.pop(name) for name in ("anchor_weight", "peft_config", "eval_dataset") if name in given}
    settings = {
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
    }
    settings |= {"logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "seed": 0}
    settings |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "completion_only_loss": True}
    args = SFTConfig(str(folder), max_length=None, **(settings | given))
    model = model or tiny_gpt2(TOKENIZER)
    return kind(model, args, train_dataset=Dataset.from_list(rows), processing_class=TOKENIZER, **named)


def without_dropout() -> Any:
    model = tiny_gpt2(TOKENIZER)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def logged(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([ROWS[0]["input_ids"]])).logits


# ---- The divergence -------------------------------------------------------------------------------------------------


def test_the_divergence_by_hand() -> None:
    anchor, policy = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert token_kl(anchor + 3.0, policy - 1.0).tolist() == pytest.approx([expected, 0.0], abs=1e-6)


def test_the_divergence_is_not_symmetric_and_anchored_in_the_first() -> None:
    sure, unsure = torch.tensor([0.99, 0.01]).log(), torch.tensor([0.5, 0.5]).log()
    assert token_kl(sure, unsure) < math.log(2) < token_kl(unsure, sure)


# ---- The loss -------------------------------------------------------------------------------------------------------


def by_hand(policy: Any, anchor: Any, rows: list[dict], weight: float) -> tuple[float, float]:
    """Loss and divergence, each row alone and so without padding, token by token."""
    cross_entropy, divergence, count = 0.0, 0.0, 0
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            own, soft = (model.eval()(ids).logits[0].log_softmax(-1) for model in (policy, anchor))
        for place, listed in enumerate(row["completion_mask"]):
            if listed:
                cross_entropy -= own[place - 1, ids[0, place]].item()
                divergence += (soft[place - 1].exp() * (soft[place - 1] - own[place - 1])).sum().item()
                count += 1
    return (cross_entropy + weight * divergence) / count, divergence / count


@pytest.mark.parametrize("given", [{}, {"peft_config": LORA}], ids=["all weights", "new adapter"])
def test_the_loss_is_cross_entropy_plus_divergence_over_the_lists_alone(given: dict[str, Any], tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, model=without_dropout(), anchor_weight=0.7, eval_dataset=Dataset.from_list(ROWS), **given
    )
    trainer.train()
    found = trainer.evaluate()
    loss, divergence = by_hand(trainer.model, without_dropout(), ROWS, 0.7)
    assert divergence > 1e-3
    assert found["eval_loss"] == pytest.approx(loss, rel=1e-4)
    assert logged(trainer, "eval_anchor_kl") == [pytest.approx(divergence, rel=1e-4)]


def test_micro_batches_add_up_to_the_mean_over_the_tokens_of_a_step(tmp_path: Path) -> None:
    ways = [{"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}]
    found = []
    for number, way in enumerate(ways):
        trainer = trainer_of(tmp_path / str(number), model=without_dropout(), anchor_weight=0.7, **way)
        trainer.train()
        found.append((logged(trainer, "loss"), logged(trainer, "anchor_kl"), logits(trainer.model)))
    (loss, divergence, after), (split_loss, split_divergence, split_after) = found
    assert split_loss == pytest.approx(loss, rel=1e-4)
    assert split_divergence == pytest.approx(divergence, rel=1e-3, abs=1e-6)
    torch.testing.assert_close(split_after, after, atol=1e-3, rtol=1e-3)


def test_the_first_step_is_that_of_plain_fine_tuning(tmp_path: Path) -> None:
    """At the start policy and anchor agree: the divergence is 0 and so is its gradient."""
    plain, anchored = (
        trainer_of(tmp_path / str(weight), model=without_dropout(), anchor_weight=weight, max_steps=1)
        for weight in (0.0, 1000.0)
    )
    for trainer in (plain, anchored):
        trainer.train()
    assert logged(anchored, "anchor_kl") == [pytest.approx(0.0, abs=1e-6)]
    assert logged(anchored, "loss") == pytest.approx(logged(plain, "loss"), abs=1e-3)
    assert logged(anchored, "grad_norm") == pytest.approx(logged(plain, "grad_norm"), rel=1e-2)
    assert logged(anchored, "mean_token_accuracy") == pytest.approx(logged(plain, "mean_token_accuracy"))


@pytest.mark.parametrize(
    ("weights", "given"),
    [((0.1, 1.0, 10.0), {}), ((1.0, 30.0, 1000.0), {"peft_config": LORA})],  # a small adapter does not get far anyway
    ids=["all weights", "new adapter"],
)
def test_a_larger_weight_stays_nearer(weights: tuple[float, ...], given: dict[str, Any], tmp_path: Path) -> None:
    kept = []
    for weight in weights:
        settings = {"anchor_weight": weight, "max_steps": 20, "per_device_train_batch_size": 4, **given}
        trainer = trainer_of(tmp_path / str(weight), model=without_dropout(), **settings)
        trainer.train()
        kept.append(logged(trainer, "anchor_kl")[-1])
    assert kept[0] > 1.5 * kept[1] > 3 * kept[2] > 0


# ---- The anchor -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"peft_config": LORA}], ids=["all weights", "new adapter"])
def test_without_a_weight_it_is_trls_trainer_to_the_last_bit(given: dict[str, Any], tmp_path: Path) -> None:
    trainers = []
    for kind in (AnchoredSFTTrainer, SFTTrainer):
        trainers.append(trainer_of(tmp_path / kind.__name__, kind, **given))
        trainers[-1].train()
    ours, theirs = trainers
    assert ours.anchor is None
    assert torch.equal(logits(ours.model), logits(theirs.model))
    assert logged(ours, "loss") == logged(theirs, "loss")
    assert logged(ours, "entropy") == logged(theirs, "entropy")


def test_the_anchor_of_all_weights_does_not_move(tmp_path: Path) -> None:
    before = logits(tiny_gpt2(TOKENIZER))
    trainer = trainer_of(tmp_path, anchor_weight=0.5)
    trainer.train()
    assert torch.equal(logits(trainer.anchor), before)
    assert not torch.allclose(logits(trainer.model), before)


def test_the_anchor_of_a_new_adapter_is_the_model_without_it(tmp_path: Path) -> None:
    """With dropout in the policy (GPT-2's 0.1), the soft labels are still those of the undisturbed model."""
    trainer = trainer_of(tmp_path, anchor_weight=0.5, peft_config=LORA)
    assert trainer.anchor is None
    trainer.train()
    ids = torch.tensor([ROWS[0]["input_ids"]])
    trainer.model.train()
    found = trainer._anchor_logits(trainer.model, {"input_ids": ids})
    assert trainer.model.training
    torch.testing.assert_close(found, logits(tiny_gpt2(TOKENIZER)))
    assert not torch.allclose(logits(trainer.model), found)


def test_the_anchor_of_an_adapter_that_is_trained_on_is_a_copy_of_the_adapter_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = get_peft_model(without_dropout(), LoraConfig(r=4, target_modules=["c_attn"], init_lora_weights=False))
    before = logits(model)
    trainer = trainer_of(tmp_path, model=model, anchor_weight=0.5)
    trainer.train()
    torch.testing.assert_close(logits(trainer.anchor), before)
    assert not torch.allclose(logits(trainer.model), before)
    assert logged(trainer, "anchor_kl")[0] == pytest.approx(0.0, abs=1e-6)

    trained, frozen = (dict(m.named_parameters()) for m in (trainer.model, trainer.anchor))
    for name, value in trained.items():
        assert (value.data_ptr() == frozen[name].data_ptr()) == ("lora" not in name), name


def test_a_copy_shares_what_is_not_trained_and_leaves_the_rest_trainable() -> None:
    model = tiny_gpt2(TOKENIZER)
    model.transformer.wpe.requires_grad_(False)
    copied = frozen_copy(model)
    assert copied.transformer.wpe.weight is model.transformer.wpe.weight
    assert copied.transformer.wte.weight is not model.transformer.wte.weight
    assert copied.lm_head.weight is copied.transformer.wte.weight, "tied as in the model"
    assert model.lm_head.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in copied.parameters())


# ---- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="anchor_weight is"):
        trainer_of(tmp_path, anchor_weight=weight)


def test_another_loss_is_refused_only_with_an_anchor(tmp_path: Path) -> None:
    trainer_of(tmp_path, loss_type="dft")
    with pytest.raises(ValueError, match="cannot honour loss_type='dft'"):
        trainer_of(tmp_path, anchor_weight=1.0, loss_type="dft")


def test_a_copy_of_spread_weights_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, anchor_weight=1.0)
    trainer.is_fsdp_enabled = True
    with pytest.raises(ValueError, match="Train a new adapter"):
        trainer._check_settings()
