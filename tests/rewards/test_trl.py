"""`RankReward(per_rank=False)` in TRL's own `GRPOTrainer`, nothing changed."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from catalog import Catalog
from rankrl.rewards import RankReward


def test_two_steps_of_an_unmodified_grpo_trainer(
    tiny_gpt2: GPT2LMHeadModel, gpt2_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    catalog = Catalog([("Heat", 1995), ("Up", 2009)])
    reward = RankReward(catalog, num_ranks=5, min_score=90.0, per_rank=False)
    truth = [{"id": None, "title": "Up", "year": 2009, "gain": 1.0}]
    seen = [{"id": None, "title": "Heat", "year": 1995, "gain": 1.0}]
    rows = [{"prompt": f"A film, please, {number}:\n", "ground_truth": truth, "seen": seen} for number in range(4)]
    args = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=12,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
    )
    trainer = GRPOTrainer(
        tiny_gpt2, reward, args, train_dataset=Dataset.from_list(rows), processing_class=gpt2_tokenizer
    )

    trainer.train()

    logs = [entry for entry in trainer.state.log_history if "rewards/rank_reward/mean" in entry]
    assert len(logs) == 2
    assert all(entry["rank_reward/fuzzy_share"] == 0.0 for entry in logs)
    assert reward.last_scores is not None
    assert reward.last_scores.ranked.shape == (4, 5)
