"""The README of a trained model: what it is, how to use it, where it comes from. In the place of TRL's draft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from rankrl.run.manifest import MANIFEST

_CARD = """---
{metadata}---

# {name}

A language model that answers a conversation with a ranked list of {num_ranks} items, one a line, from a catalogue of
{items:,} (version `{catalog}`). Made by {stage} with rankrl {version}.

## Use

    python -m recipes.recommend --model_name_or_path {folder} --catalog CATALOG

It expects the prompt that it was trained with, in `rankrl_prompt.json` (hash `{prompt}`): `PromptRenderer.load`
of `rankrl.data` renders it, and `Catalog.ranked` turns what the model writes into items.

## Training

| | |
| --- | --- |
{rows}

`manifest.json` holds all settings, versions and hashes of the data. Rank-GRPO and the two stages: arXiv 2510.20150.
"""


def leave_model_card(trainer: Any) -> None:
    """Write the card of a training that has ended, by the first process; and push it where the model was pushed."""
    if not trainer.is_world_process_zero():
        return
    text = model_card(Path(trainer.args.output_dir))
    (Path(trainer.args.output_dir) / "README.md").write_text(text, encoding="utf-8")
    if trainer.args.push_to_hub:  # it went there with TRL's draft
        ModelCard(text).push_to_hub(trainer.hub_model_id, token=trainer.args.hub_token)


def model_card(folder: Path) -> str:
    """The card of an SFT or Rank-GRPO run, from its `manifest.json`."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    settings: dict[str, Any] = {}
    for config in manifest["config"].values():
        settings |= config
    base = settings["model_name_or_path"]
    stage = f"Rank-GRPO (`preset: {settings['preset']}`)" if "preset" in settings else "supervised fine-tuning"
    metadata = {
        "tags": ["rankrl", "recommendation", "rank-grpo" if "preset" in settings else "sft"],
        "pipeline_tag": "text-generation",
        **({"library_name": "peft"} if (folder / "adapter_config.json").is_file() else {}),
        **({} if Path(base).is_dir() else {"base_model": base}),
    }
    known = {"started from": base, "dialogues": settings["dialogues"], "versions": _versions(manifest["versions"])}
    length = "max_steps" if settings["max_steps"] > 0 else "num_train_epochs"
    known |= {name: settings[name] for name in ("learning_rate", length, "seed")}
    return _CARD.format(
        metadata=yaml.safe_dump(metadata, sort_keys=False),
        name=folder.name,
        folder=folder,
        num_ranks=settings["num_ranks"],
        items=manifest["catalog"]["items"],
        catalog=manifest["catalog"]["version"],
        prompt=manifest["prompt_hash"],
        stage=stage,
        version=manifest["versions"]["rankrl"],
        rows="\n".join(f"| {name} | {value} |" for name, value in known.items()),
    )


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl", "peft"))
