"""Steps of `RankGRPOTrainer` and of TRL's `GRPOTrainer` on one GPU, on models of real shapes with random weights.

python -m benchmarks.gpu                                 Qwen2.5-0.5B, in ten minutes; writes docs/results/gpu.{md,json}
python -m benchmarks.gpu --shape llama-3.2-1b            another shape; several may be named
python -m benchmarks.gpu --shape tiny --minutes 5        what a machine without a GPU can do: shows that it runs

Nothing is downloaded. Random weights end no list, so every list is written to its full length: the vocabulary is made
up, one token in so many ends a line, and all tokens are about equally likely. The learning rate is 0.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoTokenizer, PretrainedConfig, Qwen2Config

from benchmarks import gpu_page
from benchmarks.grpo_step import GROUP, NUM_RANKS, SIDES, Clock, catalog_words, prompts, save_random_policy, timed_run
from benchmarks.measure import best_of, in_own_process, peak_memory
from benchmarks.synthetic import line_writing_tokenizer
from rankrl.plan.arithmetic import Shape, forward_flops
from rankrl.plan.shapes import PAPER_MODELS, shape_of
from rankrl.run.manifest import machine, versions

logger = logging.getLogger(__name__)

LORA = LoraConfig(task_type="CAUSAL_LM", r=64, lora_alpha=128, target_modules="all-linear")  # of the recipe
GIB = 2**30
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


@dataclass(frozen=True)
class Sizes:
    """What a step works on: `size` lists of `NUM_RANKS` lines, each of `line_tokens` tokens on average.

    Before a list stands a prompt of `prompt` tokens. Forward and backward passes take `micro_batch` lists at a time.
    """

    size: int = 128
    prompt: int = 256
    line_tokens: int = 10
    micro_batch: int = 16

    @property
    def completion(self) -> int:
        """Tokens of a list."""
        return NUM_RANKS * self.line_tokens


@dataclass(frozen=True)
class Arm:
    """One way to train: which weights learn, who writes the lists, and in how many GiB, if that is limited."""

    lora: bool
    paged: bool
    memory: int | None = None


def arms(gpu: bool) -> list[Arm]:
    """The most telling first, since time may run out. On a CPU continuous batching would take half of the memory."""
    free = [Arm(lora, paged) for paged in (False, True) for lora in (True, False)]
    return [*free, *(Arm(arm.lora, arm.paged, 24) for arm in free)] if gpu else free[:2]


TINY = {"vocab_size": 2000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
SHAPES: dict[str, PretrainedConfig] = {
    "tiny": Qwen2Config(**TINY, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
    **{name.lower(): config for name, config in PAPER_MODELS.items()},
}


def shape(name: str) -> PretrainedConfig:
    """The configuration of a model by the name of its shape; token 0 is its end token."""
    config = deepcopy(SHAPES[name])
    config.bos_token_id, config.eos_token_id, config.pad_token_id = None, 0, 0
    return config


def step_flops(model: Shape, sizes: Sizes, *, lora: bool) -> float:
    """Operations of a step that the model needs: lists written, scored by the reference, learned from.

    Of prompt and list, only the list is projected onto the vocabulary.

    A backward pass is two forward passes; one where the weights below an adapter get no gradient. What gradient
    checkpointing computes twice is not counted twice, and adapters (1 % or so) are not counted.
    """
    passes = 1 + 1 + (2 if lora else 3)
    length = sizes.prompt + sizes.completion
    return sizes.size * passes * forward_flops(model, length, length, scored=sizes.completion)


def matmul_speed(side: int) -> float:
    """Operations a second of a plain product of two square matrices: bfloat16 on a GPU, float32 on a CPU."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    matrix = torch.randn(side, side, device=device, dtype=dtype)

    def product(times: int) -> None:
        for _ in range(times):
            matrix @ matrix
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    product(2)
    milliseconds, _ = best_of(product, [10] * 5)
    return 10 * 2 * side**3 / (milliseconds / 1000)


def settings_of(arm: Arm, sizes: Sizes) -> dict[str, Any]:
    """What both trainers are told."""
    gpu = torch.cuda.is_available()
    settings: dict[str, Any] = {
        "seed": 0,
        "per_device_train_batch_size": sizes.micro_batch,
        "gradient_accumulation_steps": sizes.size // sizes.micro_batch,
        "max_completion_length": sizes.completion,
        "gradient_checkpointing": True,
        "generation_kwargs": {"eos_token_id": -1},  # chance would end one list in a thousand
        "use_transformers_continuous_batching": arm.paged,
        # As the recipes: what learns is kept in float32 and computed with in bfloat16; what is frozen is in bfloat16.
        "model_init_kwargs": {"dtype": "bfloat16" if arm.lora and gpu else "float32"},
        "use_cpu": not gpu,
        "bf16": gpu,
    }
    if arm.paged and arm.memory:  # its cache takes a share of the whole GPU, whatever PyTorch is held to
        share = arm.memory * GIB / torch.cuda.get_device_properties(0).total_memory
        settings["transformers_continuous_batching_config"] = {"max_memory_percent": 0.5 * share}
    return settings


def measure(policy: str, steps: int, arm: dict[str, Any], sizes: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Both trainers in this process, one after the other: trainer -> figures, or why there are none.

    Figures are medians over the steps, in seconds: "step", "generate", "log-probabilities", "reward", "update"; and the
    peak of the memory in GiB, `peak_memory`: of the GPU that PyTorch has allocated, or of the process on a CPU.
    """
    way, measures = Arm(**arm), Sizes(**sizes)
    gpu = torch.cuda.is_available()
    if gpu and way.memory:
        share = way.memory * GIB / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    words = catalog_words(AutoTokenizer.from_pretrained(policy))
    figures: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        clock = Clock()
        gc.collect()  # what ran out of memory before
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            timed_run(
                side,
                Path(policy),
                clock,
                words,
                prompts(words, measures.size, characters=measures.prompt),  # one token each
                steps,
                peft_config=LORA if way.lora else None,
                **settings_of(way, measures),
            )
        except torch.OutOfMemoryError:
            figures[side] = {"failed": "out of memory"}
            continue
        parts = clock.steps[0]
        figures[side] = {part: median(clock.seconds(part)) for part in parts}
        figures[side]["peak_memory"] = torch.cuda.max_memory_allocated() / GIB if gpu else peak_memory() / 1024
    return figures


def runs(name: str, sizes: Sizes, steps: int, deadline: float) -> Iterator[dict[str, Any]]:
    """One shape: every arm and trainer, each arm in a process of its own, until the time is over."""
    config = shape(name)
    model = shape_of(config, name)
    with tempfile.TemporaryDirectory() as policy:
        save_random_policy(config, line_writing_tokenizer(config.vocab_size, sizes.line_tokens), Path(policy))
        for arm in arms(torch.cuda.is_available()):
            what = {"shape": name, **asdict(arm), "flops": step_flops(model, sizes, lora=arm.lora)}
            settings = {"policy": policy, "steps": steps, "arm": asdict(arm), "sizes": asdict(sizes)}
            left = deadline - time.monotonic()
            try:
                if left < 0:
                    raise subprocess.TimeoutExpired(name, left)
                figures = in_own_process("benchmarks.gpu", timeout=left, **settings)
            except subprocess.TimeoutExpired:
                figures = {side: {"failed": "not run: the time was over"} for side in SIDES}
            except RuntimeError as error:
                logger.error("%s", error)
                figures = {side: {"failed": str(error).strip().splitlines()[-1]} for side in SIDES}
            for side in SIDES:
                yield {**what, "trainer": side, **figures[side]}


def report(command: str, names: Sequence[str], sizes: Sizes, steps: int, minutes: float) -> dict[str, Any]:
    """Everything that is known of the runs, as JSON can hold it."""
    deadline = time.monotonic() + 60 * minutes
    found: dict[str, Any] = {
        "command": command,
        "machine": machine(),
        "versions": versions(),
        "protocol": {**asdict(sizes), "completion": sizes.completion, "group": GROUP, "steps": steps},
        "matmul_flops": matmul_speed(8192 if torch.cuda.is_available() else 512),
        "runs": [],
    }
    for name in names:
        for run in runs(name, sizes, steps, deadline):
            print(gpu_page.line(run), flush=True)
            found["runs"].append(run)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the shapes that the command line names, show the page, and write it where there is a GPU."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        "benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=["qwen2.5-0.5b" if gpu else "tiny"])
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each run, after one that warms up")
    parser.add_argument("--minutes", type=float, default=9.5, help="what is not begun by then is left out")
    parser.add_argument("--size", type=int, default=128 if gpu else 16, help="lists of a step")
    parser.add_argument("--output", type=Path, default=RESULTS if gpu else None, help="folder for gpu.md and gpu.json")
    options = parser.parse_args(arguments)
    sizes = Sizes(options.size) if gpu else Sizes(options.size, prompt=32, line_tokens=2, micro_batch=8)
    command = shlex.join(["python", "-m", "benchmarks.gpu", *(sys.argv[1:] if arguments is None else arguments)])
    found = report(command, options.shape, sizes, options.steps, options.minutes)
    print(gpu_page.page(found))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (options.output / "gpu.md").write_text(gpu_page.page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
