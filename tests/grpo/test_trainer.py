"""The trainer on a real tiny model: where it starts from, what it credits, what it logs, what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from catalog import Catalog
from rankrl.grpo import Advantages, Lists, RankGRPOTrainer, Returns
from rankrl.rewards import LabelSchedule, RankReward
from rankrl.run.models import load_policy
from tests.grpo.conftest import NUM_RANKS, TITLES, letters_reward
from tests.tiny import gpt2_tokenizer, tiny_qwen2

LORA = LoraConfig(task_type="CAUSAL_LM", r=4)


def first_log(trainer) -> dict[str, float]:
    return next(entry for entry in trainer.state.log_history if "reward" in entry)


@pytest.fixture
def adapter_dir(policy_dir: Path, tmp_path: Path) -> Path:
    """An SFT adapter that has moved away from its base."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(policy_dir), LORA)
    torch.manual_seed(7)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("start", ["full", "new adapter", "adapter continued", "adapter merged under a new one"])
def test_reference_is_the_policy_at_the_start(
    start: str, make_trainer, policy_dir: Path, adapter_dir: Path, tmp_path: Path
) -> None:
    source = adapter_dir if "adapter " in start else policy_dir
    new_adapter = start.endswith("new one") or start == "new adapter"

    def build(name: str):
        return make_trainer(
            name,
            model=load_policy(source, merge_into=tmp_path / "merged" if new_adapter else None),
            peft_config=LORA if new_adapter else None,
            beta=0.1,
            save_strategy="steps",
            save_steps=1,
        )

    trainer = build("start")
    trainer.train()
    entry = first_log(trainer)
    assert entry["kl/all"] == pytest.approx(0.0, abs=1e-6)
    assert entry["ratio/all"] == pytest.approx(1.0, abs=1e-6)
    assert trainer.state.log_history[1]["kl/all"] > 1e-7, "the policy did not move"

    resumed = build("resumed")
    resumed.train(resume_from_checkpoint=str(Path(trainer.args.output_dir) / "checkpoint-1"))
    entry = next(e for e in resumed.state.log_history if e.get("step") == 2 and "reward" in e)
    assert entry["kl/all"] == pytest.approx(trainer.state.log_history[1]["kl/all"], rel=1e-4)


def test_an_adapter_over_a_merged_one_is_loaded_with_both(make_trainer, adapter_dir: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model=load_policy(adapter_dir, merge_into=tmp_path / "merged"), peft_config=LORA)
    trainer.train()
    trainer.save_model()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        trained = trainer.model(ids).logits
        loaded = load_policy(trainer.args.output_dir, trainable=False)(ids).logits
    torch.testing.assert_close(loaded, trained)


def test_a_model_changed_after_loading_is_refused(make_trainer, policy_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy_dir)
    with torch.no_grad():
        model.transformer.wte.weight.add_(0.1)
    with pytest.raises(ValueError, match="KL reference, loaded from .* differs from the policy"):
        make_trainer(model=model)


def test_a_repeat_penalty_needs_a_reward_that_knows_items(make_trainer) -> None:
    trainer = make_trainer(reward_funcs=[letters_reward], repeat_penalty=-0.5, max_steps=1)
    with pytest.raises(ValueError, match="no reward function says which items a list names"):
        trainer.train()


def test_list_level_reward_is_the_lists(make_trainer) -> None:
    trainer = make_trainer(max_steps=1)
    trainer.train()
    entry = first_log(trainer)
    assert entry["reward"] == pytest.approx(entry["return/all"] * NUM_RANKS, rel=1e-5)


def length_reward(completions: list[str], **columns) -> list[float]:
    return [len(text) / 10 for text in completions]


@pytest.mark.parametrize("advantage", ["rank", "sequence"])
def test_scalar_and_rank_rewards_add_up_with_their_weights(advantage: str, make_trainer) -> None:
    trainer = make_trainer(
        reward_funcs=[letters_reward, length_reward],
        reward_weights=[1.0, 0.5],
        advantage=advantage,
        scale_rewards="none",
        max_steps=1,
    )
    batch = [next(iter(trainer.train_dataset))] * 4
    completions = ["aa\nbb\n", "ab\n", "xyz", "oo\naa\nii\n"]
    ids = [trainer._tokenizer.encode(text) for text in completions]
    trainer._calculate_rewards(batch, [row["prompt"] for row in batch], completions, ids)
    lists = trainer._gather_lists(torch.ones(4, NUM_RANKS + 1).bool())
    assert lists.lengths.tolist() == [NUM_RANKS] * 4, "the end token is no line beyond rank K"
    found = trainer.returns(lists)
    letters, lengths = [[1, 0, 0], [0.5, 0, 0], [0, 0, 0], [1, 1, 1]], [0.6, 0.3, 0.3, 0.9]
    returns = [[value + 0.5 * length for value in row] for row, length in zip(letters, lengths, strict=True)]
    weights = torch.tensor([1.0, 0.5]).double()
    torch.testing.assert_close(found.ranks @ weights, torch.tensor(returns).double())

    # A list that is compared as a whole earns the sum over its ranks, and what judges it as a whole once.
    whole = [[sum(row) + 0.5 * length] for row, length in zip(letters, lengths, strict=True)]
    values = torch.tensor(returns if advantage == "rank" else whole).double().view(2, 2, -1)
    expected = (values - values.mean(1, keepdim=True)).view(4, -1)
    advantages = trainer.advantages(lists, found)
    torch.testing.assert_close(advantages.ranks, expected.expand(-1, NUM_RANKS))
    shared = torch.zeros(4).double() if advantage == "rank" else expected[:, 0]
    torch.testing.assert_close(advantages.end, shared)
    torch.testing.assert_close(advantages.overflow, shared)


def test_an_unscored_list_carries_no_signal(make_trainer) -> None:
    def sometimes(completions: list[str], **columns) -> list:
        return [None if i == 0 else [0.0, float(i), 1.0] for i, _ in enumerate(completions)]

    seen: list[Advantages] = []

    class Watched(RankGRPOTrainer):
        def advantages(self, lists: Lists, returns: Returns) -> Advantages:
            seen.append(super().advantages(lists, returns))
            return seen[-1]

    trainer = make_trainer(trainer_class=Watched, reward_funcs=sometimes, max_steps=1)
    trainer.train()
    assert math.isfinite(first_log(trainer)["loss"])
    credited = (seen[0].ranks.abs() > 0.1).tolist()
    assert credited == [[False] * 3, [False] * 3, [False, True, False], [False, True, False]], "two lists of a prompt"


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([0.0, 1.0], "returned 2 values for a completion; expected num_ranks = 3"),
        ([0.0, math.nan, 1.0], "returned NaN or infinity"),
        (math.nan, "returned NaN or infinity"),
    ],
)
def test_bad_rewards_are_errors(rewards, message: str, make_trainer) -> None:
    def bad(completions: list[str], **columns) -> list:
        return [rewards for _ in completions]

    with pytest.raises(ValueError, match=message):
        make_trainer(reward_funcs=bad).train()


def test_a_reward_of_another_width_is_refused_before_a_list_is_sampled(make_trainer) -> None:
    films = Catalog([(f"Film {letter}", None) for letter in "abc"])
    with pytest.raises(ValueError, match=r"num_ranks = 20 ranks, and the trainer has num_ranks = 3"):
        make_trainer(reward_funcs=RankReward(films, per_rank=False))


def test_rewards_of_one_name_are_logged_apart(make_trainer) -> None:
    films = Catalog([(f"Film {letter}", None) for letter in "abc"])
    rewards = [RankReward(films, NUM_RANKS, kind="exp"), RankReward(films, NUM_RANKS, kind="log")]
    trainer = make_trainer(reward_funcs=rewards, columns={"ground_truth": [["Film a"]] * 8}, max_steps=1)
    trainer.train()
    assert {"rewards/rank_reward_1/mean", "rewards/rank_reward_2/mean"} <= first_log(trainer).keys()


def test_data_that_fill_no_generation_are_refused(make_trainer) -> None:
    with pytest.raises(ValueError, match=r"there are 8 prompts to train on, and one generation takes 16 \(32 lists"):
        make_trainer(per_device_train_batch_size=32, num_generations=2)


def test_dropout_of_attention_is_switched_off_too(make_trainer) -> None:
    model = tiny_qwen2(gpt2_tokenizer())
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    trainer = make_trainer(model=model, beta=0.0)
    assert [layer.self_attn.attention_dropout for layer in trainer.model.model.layers] == [0.0] * len(
        model.model.layers
    )
    kept = tiny_qwen2(gpt2_tokenizer())
    kept.model.layers[0].self_attn.attention_dropout = 0.3
    make_trainer("kept", model=kept, beta=0.0, disable_dropout=False)
    assert kept.model.layers[0].self_attn.attention_dropout == 0.3


def test_a_reward_for_another_number_of_completions_is_an_error(make_trainer) -> None:
    def one_for_all(completions: list[str], **columns) -> list:
        return [[1.0, 0.0, 0.0]]

    with pytest.raises(ValueError, match="returned 1 rewards for 4 completions"):
        make_trainer(reward_funcs=one_for_all).train()


@pytest.mark.parametrize(
    "settings",
    [
        {"aggregation": "trl", "ratio": "token", "loss_type": "bnpo"},
        {"advantage": "sequence"},
        {"ratio": "sequence", "num_iterations": 2},
        {"scale_rewards": "batch", "mask_truncated_completions": True},
    ],
)
def test_variants_train(settings: dict, make_trainer) -> None:
    trainer = make_trainer(**settings)
    trainer.train()
    assert math.isfinite(trainer.state.log_history[-1]["train_loss"])


def test_log_holds_groups_and_the_file_full_vectors(make_trainer) -> None:
    trainer = make_trainer()
    trainer.train()
    entry = first_log(trainer)
    for name in ("return", "informative", "ratio", "clipped", "entropy", "kl"):
        assert f"{name}/all" in entry
        assert f"{name}/1-3" in entry
    rows = [json.loads(line) for line in (Path(trainer.args.output_dir) / "ranks_train.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(len(row["return"]) == NUM_RANKS for row in rows)
    assert sum(rows[0]["return"]) == pytest.approx(entry["reward"], rel=1e-5)


def up(completions: list[str], **columns: Any) -> list[list[float]]:
    return [[float(i), -float(i), 0.0] for i, _ in enumerate(completions)]


def down(completions: list[str], **columns: Any) -> list[list[float]]:
    return [[-float(i), float(i), 0.0] for i, _ in enumerate(completions)]


def by_place(completions: list[str], **columns: Any) -> list[float]:
    return [float(i) for i, _ in enumerate(completions)]


@pytest.mark.parametrize(
    ("functions", "settings", "share"),
    [
        ([up], {}, 2 / 3),
        ([up], {"advantage": "sequence"}, 0.0),  # lists are compared as wholes, and all sum up to 0
        ([up, by_place], {"advantage": "sequence"}, 1.0),
        ([up, down], {}, 0.0),  # one function takes what the other gives
        ([up, down], {"multi_objective_aggregation": "normalize_then_sum"}, 2 / 3),
        ([up, down], {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [0.0, 0.0]}, 0.0),
    ],
)
def test_informative_is_what_is_compared(functions: list, settings: dict, share: float, make_trainer) -> None:
    trainer = make_trainer(reward_funcs=functions, max_steps=1, **settings)
    trainer.train()
    assert first_log(trainer)["informative/all"] == pytest.approx(share)


# ---- Augmented labels ------------------------------------------------------------------------------------------------

TRUE, AUGMENTED = ["aa", "bb"], [{"title": "cc", "gain": 0.5}, {"title": "dd", "gain": 0.5}]


@pytest.fixture
def make_labelled(make_trainer, title_writer_dir: Path):
    """Builds a trainer of a policy that writes titles, some of which pay; it logs lists of 40 a step."""

    def make(name: str, labels: LabelSchedule | None, *, augmented: bool = True, **settings: Any):
        lists = {"per_device_train_batch_size": 40, "num_generations": 10, "max_completion_length": 16}
        return make_trainer(
            name,
            model=AutoModelForCausalLM.from_pretrained(title_writer_dir),
            reward_funcs=RankReward(Catalog([(title, None) for title in TITLES]), NUM_RANKS, labels=labels),
            columns={"ground_truth": [TRUE] * 8} | ({"augmented": [AUGMENTED] * 8} if augmented else {}),
            **{**lists, "learning_rate": 1e-3, **settings},
        )

    return make


def rank_rows(trainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(trainer.args.output_dir) / "ranks_train.jsonl").open()]


def test_the_log_says_which_labels_paid(make_labelled) -> None:
    trainer = make_labelled("run", LabelSchedule(0.5))
    trainer.train()
    for row in rank_rows(trainer):
        assert row["reward_true"] == row["hit"], "a true label pays 1"
        assert min(row["reward_true"] + row["reward_augmented"]) > 0, "every rank should see both labels pay"
        paid = [true + extra for true, extra in zip(row["reward_true"], row["reward_augmented"], strict=True)]
        assert paid == pytest.approx(row["return"])  # without a discount the return is the relevance
    entry = first_log(trainer)
    assert entry["reward_true/all"] + entry["reward_augmented/all"] == pytest.approx(entry["return/all"])
    assert entry["reward_true/1-3"] == entry["reward_true/all"]


def test_with_a_weight_of_zero_augmented_labels_leave_no_trace(make_labelled) -> None:
    def trained(name: str, labels: LabelSchedule | None) -> dict[str, torch.Tensor]:
        trainer = make_labelled(name, labels, augmented=name != "without")
        trainer.train()
        assert sum(row["return"][0] for row in rank_rows(trainer)) > 0, "a run in which nothing pays says nothing"
        return trainer.model.state_dict()

    without = trained("without", None)
    for name, labels in {"constant": LabelSchedule(0.0), "linear": LabelSchedule(0.0, "linear")}.items():
        assert all(torch.equal(without[key], value) for key, value in trained(name, labels).items()), name
    counted = trained("counted", LabelSchedule(0.5))
    assert not all(torch.equal(without[key], value) for key, value in counted.items())


def test_labels_change_over_in_the_middle_of_a_run(make_labelled) -> None:
    trainer = make_labelled("run", LabelSchedule(1.0, "two_stage", 0.5), max_steps=4, learning_rate=1e-4)
    trainer.train()
    rows = rank_rows(trainer)
    earned = [(sum(row["reward_true"]) > 0, sum(row["reward_augmented"]) > 0) for row in rows]
    assert earned == [(False, True), (False, True), (True, False), (True, False)]
    assert all(sum(row["hit"]) > 0 for row in rows), "what users wanted is counted in both stages"


def test_rendered_prompts_get_no_second_begin_token(make_trainer, llama3_tokenizer) -> None:
    trainer = make_trainer()
    trainer._tokenizer = llama3_tokenizer
    ids, _, _ = trainer._tokenize_prompts([f"{llama3_tokenizer.bos_token}Heat"])
    assert ids[0].count(llama3_tokenizer.bos_token_id) == 1


def test_training_raises_the_reward(make_trainer) -> None:
    trainer = make_trainer(
        max_steps=25,
        per_device_train_batch_size=32,
        num_generations=8,
        learning_rate=2e-2,
        beta=0.0,
        lr_scheduler_type="constant",
    )
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert sum(rewards[-5:]) > 1.2 * sum(rewards[:5])


def test_peft_model_keeps_its_reference_adapter(make_trainer, adapter_dir: Path) -> None:
    trainer = make_trainer(model=load_policy(adapter_dir), beta=0.1)
    assert isinstance(trainer.model, PeftModel)
    assert "ref" in trainer.model.peft_config
