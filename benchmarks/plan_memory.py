"""What `rankrl.plan` says a training step needs, against what it took: SFT and Rank-GRPO on the CPU, in 32 bits.

The process's resident memory is measured, from before the model is made to the highest it ever was. The vocabulary is
small, because on a CPU TRL's loss makes several 32-bit copies of a tile of logits, where a GPU works on it in place:
weights, gradients, optimizer, activations, the KL reference and the cache of keys and values are what is compared.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, ProgressCallback, set_seed
from trl import SFTConfig, SFTTrainer

from benchmarks.grpo_step import GROUP, Clock, catalog_words, prompts, save_random_policy, timed_run
from benchmarks.measure import Row, Table, in_own_process, peak_memory
from benchmarks.synthetic import byte_level_tokenizer, line_writing_tokenizer
from rankrl.plan.estimate import DEVICES, FRAGMENTATION, Setup, peak, rollout_parts, states, update_parts
from rankrl.plan.shapes import shape_of

# A plan that is wrong by more than this would mislead. What the measure itself leaves open is most of it: the C
# library's heap, and memory that is held for moments within an operation. Seen were 0.81 to 1.14 (docs/scaling.md).
AT_LEAST, AT_MOST = 0.7, 1.2  # times what was measured
CASES: dict[str, dict[str, int]] = {
    "SFT, all weights": {},
    "SFT, all weights, checkpointing": {"checkpointing": 1},
    "SFT, LoRA": {"lora_rank": 16},
    "Rank-GRPO, all weights": {"rank_grpo": 1},
    "Rank-GRPO, all weights, checkpointing": {"rank_grpo": 1, "checkpointing": 1},
    "Rank-GRPO, LoRA": {"rank_grpo": 1, "lora_rank": 16},
}


def run(
    width: int = 256, layers: int = 12, batches: Sequence[int] = (1, 2, 4), length: int = 256, cases: Sequence[str] = ()
) -> Iterator[Table]:
    """Plans and runs ways to train a Llama of random weights.

    Args:
        width: hidden size.
        layers: number of blocks.
        batches: sequences at once.
        length: tokens of each; for Rank-GRPO one half of them is the prompt.
        cases: which of `CASES`; all by default.
    """
    for batch in batches:
        size = {"width": width, "layers": layers, "batch": batch, "length": length}
        rows = []
        for name in cases or CASES:
            measured = in_own_process("benchmarks.plan_memory", **size, **CASES[name])["MiB"]
            planned = plan(**size, **CASES[name])
            note = f"{name}: {planned:,.0f} MiB planned, {measured:,.0f} measured"
            rows.append(Row(note, planned / measured, "x", at_least=AT_LEAST, at_most=AT_MOST))
        yield Table(f"Memory of a training step: {layers} layers, {width} wide, {batch} x {length} tokens", rows)


def config_of(width: int, layers: int) -> LlamaConfig:
    """A Llama with the proportions of the small ones."""
    return LlamaConfig(
        vocab_size=512,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )


def plan(
    width: int, layers: int, batch: int, length: int, checkpointing: int = 0, lora_rank: int = 0, rank_grpo: int = 0
) -> float:
    """MiB by the formulas, with what a plan leaves to the allocator, without the vocabulary's part and CUDA."""
    setup = Setup(
        "rank_grpo" if rank_grpo else "sft",
        weight_bytes=4,
        compute_bytes=4,
        kl=bool(rank_grpo),
        batch=batch,
        rollout=max(GROUP, batch),
        prompt=length // 2,
        completion=length // 2,
        checkpointing=bool(checkpointing),
        lora_rank=lora_rank,
    )
    shape = shape_of(config_of(width, layers), "random")
    parts = [*states(shape, setup), *update_parts(shape, setup), *rollout_parts(shape, setup, DEVICES["h100"])]
    return (1 + FRAGMENTATION) * peak([part for part in parts if part.name != "vocabulary logits"]) / 2**20


def measure(rank_grpo: int = 0, **size: int) -> dict[str, float]:
    """MiB that two optimizer steps add to this process."""
    train = train_rank_grpo if rank_grpo else train_sft
    train(width=128, layers=1, batch=1, length=16)  # so that what libraries load on first use is there already
    before = resident_memory()
    train(**size)
    return {"MiB": peak_memory() - before}


def train_sft(width: int, layers: int, batch: int, length: int, checkpointing: int = 0, lora_rank: int = 0) -> None:
    """Two optimizer steps of a Llama with random weights."""
    set_seed(0)
    rows = Dataset.from_list([{"input_ids": [1 + i % 500 for i in range(length)]}] * batch)
    settings: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "max_steps": 2}
    settings |= {"save_strategy": "no", "logging_strategy": "no", "max_length": None, "disable_tqdm": True}
    settings |= {"per_device_train_batch_size": batch, "gradient_checkpointing": bool(checkpointing)}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            LlamaForCausalLM(config_of(width, layers)),
            args=SFTConfig(folder, **settings),
            train_dataset=rows,
            processing_class=byte_level_tokenizer(500),
            peft_config=adapter(lora_rank),
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.train()


def train_rank_grpo(
    width: int, layers: int, batch: int, length: int, checkpointing: int = 0, lora_rank: int = 0
) -> None:
    """The same of Rank-GRPO with a KL term: a group of lists is written at once, and learned from `batch` at a time."""
    tokenizer = line_writing_tokenizer(512, 2)
    words = catalog_words(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        save_random_policy(config_of(width, layers), tokenizer, Path(folder))
        timed_run(
            "RankGRPOTrainer",
            Path(folder),
            Clock(),
            words,
            prompts(words, GROUP, characters=length // 2),  # one token each
            steps=1,
            seed=0,
            peft_config=adapter(lora_rank),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=max(GROUP // batch, 1),
            max_completion_length=length // 2,
            gradient_checkpointing=bool(checkpointing),
            generation_kwargs={"eos_token_id": -1},  # every list to its full length
            model_init_kwargs={"dtype": "float32"},
            use_cpu=True,
            bf16=False,
        )


def adapter(rank: int) -> LoraConfig | None:
    """LoRA on all linear layers; rank 0: all weights are trained."""
    return LoraConfig(r=rank, target_modules="all-linear") if rank else None


def resident_memory() -> float:
    """MiB that this process holds now; 0 where the system does not say so, which counts the libraries as measured."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())
    return int(kibibytes) / 2**10
