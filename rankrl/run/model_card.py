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


def write_model_card(folder: str | Path, push_to: str | None = None) -> None:
    """Write `README.md` from the `manifest.json` of a finished SFT or Rank-GRPO run.

    `push_to` names the model on the Hub that the run was pushed to, with TRL's draft.
    """
    folder = Path(folder)
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
    known |= {name: settings[name] for name in ("learning_rate", "max_steps", "num_train_epochs", "seed")}
    text = _CARD.format(
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
    (folder / "README.md").write_text(text, encoding="utf-8")
    if push_to is not None:
        ModelCard(text).push_to_hub(push_to)


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl", "peft"))
