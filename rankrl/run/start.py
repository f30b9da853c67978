"""The start of a run: read catalogue and dialogues, build the prompt, show one example, write down what this run is."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from rich.console import Console
from rich.text import Text
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig

from catalog import Catalog
from catalog.files import whole_file
from rankrl.data import Dialogue, PromptRenderer, load_dialogues, only_new_items
from rankrl.data.prompts import context_length
from rankrl.grpo import LineTable, segment_ranks
from rankrl.rewards import TruthResolver
from rankrl.run.arguments import DataArguments
from rankrl.run.checkpoints import is_whole, newest_checkpoint
from rankrl.run.models import is_adapter

logger = logging.getLogger(__name__)

_PACKAGES = ("rankrl", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "rapidfuzz")
_OPTIONAL = ("vllm", "bitsandbytes", "deepspeed", "flash_attn")
_RANK_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")


def read_data(args: DataArguments, *, allow_empty_truth: bool = False) -> tuple[Catalog, list[Dialogue]]:
    """The catalogue and the dialogues that the arguments name, filtered as they say."""
    catalog = load_catalog(args)
    dialogues = read_dialogues(args, args.dialogues, allow_empty_truth=allow_empty_truth)
    logger.info("%d dialogues, catalogue of %d items (version %s)", len(dialogues), len(catalog), catalog.version[:12])
    return catalog, dialogues


def load_catalog(args: DataArguments) -> Catalog:
    """The catalogue that the arguments name.

    Raises:
        FileNotFoundError: if there is no such file.
        CatalogError: for what is no catalogue.
    """
    if not Path(args.catalog).exists():
        raise FileNotFoundError(f"catalog is {args.catalog}, and there is no such file (from {Path.cwd()}).")
    return Catalog.load(args.catalog, args.line_template, columns=args.catalog_columns)


def read_dialogues(args: DataArguments, source: str, *, allow_empty_truth: bool = False) -> list[Dialogue]:
    """Dialogues of any source, read and filtered as the arguments say; those without a truth only where allowed."""
    dialogues = load_dialogues(
        source,
        columns=args.columns,
        split=args.split,
        domain=args.domain,
        limit=args.limit,
        allow_empty_truth=allow_empty_truth,
    )
    if args.only_new_items:
        dialogues, dropped = only_new_items(dialogues, keep_empty=allow_empty_truth)
        logger.info(
            "%d items were mentioned before, and %d dialogues held nothing else", dropped.items, dropped.dialogues
        )
    return dialogues


def resolve_dialogues(
    catalog: Catalog, dialogues: Sequence[Dialogue], *, unknown_limit: float
) -> tuple[list[dict[int, float]], list[set[int]]]:
    """Per dialogue the true labels, empty where nobody knows them, and the ids of what was mentioned.

    Raises:
        ValueError: if more of the truth is missing from the catalogue than `unknown_limit` allows.
    """
    resolver = TruthResolver(catalog, unknown_limit=unknown_limit)
    known = [dialogue.ground_truth for dialogue in dialogues if dialogue.ground_truth]
    resolved = iter(resolver.truth(known) if known else [])
    truth = [next(resolved) if dialogue.ground_truth else {} for dialogue in dialogues]
    return truth, resolver.seen([dialogue.seen for dialogue in dialogues])


def require_joined_processes(training_args: Any) -> None:
    """Refuse a launch whose processes would train apart, or without the engine that they were launched for, in silence.

    Raises:
        RuntimeError: if the launcher started several processes and this one knows of no other, or if the accelerate
            config says FSDP or DeepSpeed and this is plain data parallelism.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != training_args.world_size:
        raise RuntimeError(
            f"the launcher started {launched} processes, but this one sees {training_args.world_size}: they would "
            "train apart. On CPUs add --use_cpu; otherwise check the accelerate config and the visible GPUs."
        )
    engines = [name for name in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{name}") == "true"]
    if engines and training_args.distributed_state.distributed_type == DistributedType.MULTI_CPU:
        raise RuntimeError(
            f"the accelerate config asks for {engines[0]}, but with --use_cpu accelerate would spread nothing: every "
            "process would hold the whole model. Take accelerate_configs/multi_cpu.yaml to try a run out on CPUs. "
            "DeepSpeed runs there too: without --use_cpu, with --ddp_backend gloo and DS_ACCELERATOR=cpu."
        )


def require_packages(model_args: ModelConfig, training_args: Any) -> None:
    """Refuse settings whose package is missing, before anything is loaded.

    Args:
        model_args: quantisation (QLoRA) and LoRA.
        training_args: of SFT or Rank-GRPO.

    Raises:
        ImportError: for 4 or 8 bits without bitsandbytes, `use_vllm` without vLLM, `report_to` without its package.
        ValueError: for 4 or 8 bits without an adapter to train.
    """
    bits = next((name for name in ("load_in_4bit", "load_in_8bit") if getattr(model_args, name)), None)
    if bits and not is_bitsandbytes_available():
        raise ImportError(
            f"{bits} needs bitsandbytes 0.46.1 or newer, which is not installed: pip install 'rankrl[train,qlora]'. Or "
            f"leave {bits} out: LoRA on weights in bfloat16 (dtype: bfloat16) is the next smallest."
        )
    if bits and not model_args.use_peft and not is_adapter(model_args.model_name_or_path or ""):
        raise ValueError(
            f"{bits} is set, but there is no adapter to train, and weights of so few bits cannot be trained. Set "
            "use_peft: true (QLoRA), or name an adapter directory as model_name_or_path."
        )
    if getattr(training_args, "use_vllm", False) and find_spec("vllm") is None:
        where = " where training runs, beside the server" if training_args.vllm_mode == "server" else ""
        raise ImportError(
            f"use_vllm (vllm_mode: {training_args.vllm_mode}) needs the package vllm{where}, and it is not installed: "
            "pip install -c constraints-vllm.txt 'rankrl[train,vllm]'. Or set use_vllm: false; transformers then "
            "writes the lists."
        )
    available = get_available_reporting_integrations()
    if missing := [name for name in training_args.report_to if name not in (*available, "all", "none")]:
        raise ImportError(
            f"report_to names {', '.join(missing)}, which is not installed or unknown; here there is "
            f"{', '.join(available) or 'nothing to report to'}. Install its package, or set report_to: none."
        )


def refuse_eval_set(training_args: Any) -> None:
    """Refuse transformers' own evaluation, which has no data in the recipes.

    Raises:
        ValueError: if `eval_strategy` asks for it.
    """
    if training_args.eval_strategy != "no":
        raise ValueError(
            f"eval_strategy is {training_args.eval_strategy.value!r}, but the recipes have no eval set. Leave it out; "
            "rank_grpo.py scores held-out dialogues while it trains (--validation FILE.jsonl)."
        )


def make_renderer(
    args: DataArguments,
    tokenizer: Any,
    model_config: Any,
    catalog: Catalog,
    num_ranks: int,
    max_completion_length: int | None = None,
) -> tuple[PromptRenderer, int]:
    """The prompt as the arguments say, in what the model's context leaves beside the list.

    Args:
        args: template, limit of the prompt, thinking switch.
        tokenizer: of the model.
        model_config: says how long the context is.
        catalog: its lines say how many tokens a list takes.
        num_ranks: K.
        max_completion_length: tokens a list may take; by default proposed from the catalogue.

    Returns:
        The renderer, and the tokens a list may take.

    Raises:
        ValueError: if the catalogue has fewer than K items, or K lines cannot fit the completion, or the context.
    """
    if num_ranks > len(catalog):
        raise ValueError(
            f"num_ranks is {num_ranks}, but the catalogue holds {len(catalog)} items: a list would have to repeat "
            "some. Lower num_ranks, or look whether it is the whole catalogue."
        )

    def renderer(max_prompt_tokens: int) -> PromptRenderer:
        return PromptRenderer(
            tokenizer,
            args.prompt_template,
            num_ranks=num_ranks,
            max_prompt_tokens=max_prompt_tokens,
            shorten_last_turn=args.shorten_last_turn,
            enable_thinking=args.enable_thinking,
        )

    context = context_length(model_config)
    roomy = renderer(context)
    completion = max_completion_length or roomy.max_completion_tokens(catalog.lines)
    roomy.check_completion_budget(completion, catalog.lines)
    if completion >= context:
        raise ValueError(
            f"a list of {num_ranks} lines may take {completion} tokens (max_completion_length), which leaves no room "
            f"for a dialogue in the model's context of {context}. Ask for fewer ranks (num_ranks), or take a model "
            "with a longer context."
        )
    return renderer(min(args.max_prompt_length or context, context - completion)), completion


def show_example(prompt: str, completion_ids: list[int], tokenizer: Any, num_ranks: int) -> None:
    """Print one rendered example, the tokens of its list coloured by the rank that they are credited to."""
    table = LineTable.from_tokenizer(tokenizer)
    ids = torch.tensor([completion_ids])
    units = segment_ranks(ids, torch.ones_like(ids), table, num_ranks)[0].tolist()
    text = Text()
    written = ""
    for end, unit in enumerate(units, start=1):
        if end < len(units) and units[end] == unit:
            continue  # a unit is decoded whole: a character may be split over tokens
        so_far = tokenizer.decode(completion_ids[:end], clean_up_tokenization_spaces=False)
        piece, written = so_far[len(written) :], so_far
        text.append(piece, style=_RANK_COLOURS[unit % len(_RANK_COLOURS)] if unit < num_ranks else "reverse")
    console = Console()
    console.rule("one example as the model sees it: prompt")
    console.print(Text(prompt, style="dim"))
    console.rule(f"its list, coloured by rank (K = {num_ranks})")
    console.print(text, soft_wrap=True)
    console.rule()


def checkpoint_to_resume(training_args: Any) -> str | None:
    """`--resume_from_checkpoint latest` goes on from the newest whole checkpoint of the output directory, if any.

    A checkpoint whose writing was cut short is passed over (`is_whole`).

    Raises:
        FileNotFoundError: if another one is named that is not there, or was cut short.
    """
    wanted, folder = training_args.resume_from_checkpoint, Path(training_args.output_dir)
    if wanted is None:
        return None
    newest = newest_checkpoint(folder)
    if wanted == "latest":
        return str(newest) if newest else None
    if not is_whole(Path(wanted)):
        instead = f"the newest that can be gone on from is {newest}" if newest else f"there is none in {folder}"
        raise FileNotFoundError(
            f"resume_from_checkpoint is {wanted}, which is no checkpoint, or was not written to its end; {instead}. "
            "`latest` finds it by itself, and begins anew where there is none."
        )
    return wanted


def write_manifest(
    output_dir: str | Path, catalog: Catalog, prompt_hash: str | None, *configs: Any, **facts: Any
) -> None:
    """Write `manifest.json`: versions, machine, effective settings with their seeds, data and prompt hashes.

    Never a key or a token.
    """
    manifest = {
        "versions": versions(),
        "machine": machine(),
        "catalog": {"version": catalog.version, "items": len(catalog)},
        "prompt_hash": prompt_hash,
        "data": {c.dialogues: file_hash(c.dialogues) for c in configs if isinstance(c, DataArguments)},
        "config": {type(c).__name__: _plain(c) for c in configs},
        **facts,
    }
    with whole_file(Path(output_dir) / "manifest.json") as file:
        file.write((json.dumps(manifest, indent=2, default=str) + "\n").encode())


def versions() -> dict[str, str | None]:
    """The versions of Python and of the packages that a result depends on; of those that may be missing, if there."""
    optional = {name: _version(name) for name in _OPTIONAL}
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        **{name: found for name, found in optional.items() if found is not None},
    }


def machine() -> dict[str, Any]:
    """Where a run takes place: system, GPUs of this process's machine, CUDA, and how many processes take part."""
    gpus = [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {"system": platform.platform(), "gpus": gpus, "cuda": torch.version.cuda, "processes": processes}


def file_hash(path: str) -> str | None:
    """SHA-256 of a file, 16 hex digits; `None` for what is no file (a name on the Hub)."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _plain(config: Any) -> dict[str, Any]:
    values = config.to_dict() if hasattr(config, "to_dict") else asdict(config)
    return _without_secrets(values)


def _without_secrets(value: Any) -> Any:
    """Settings as JSON can hold them: no key or token at any depth, and infinity, which gamma may well be, as text."""
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if not str(k).endswith(("token", "key", "password"))}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
