"""A model with random weights in the place of one that is not on this machine: what a probe measures is the same."""

from __future__ import annotations

import logging
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from rankrl.plan.shapes import load_config
from rankrl.run.models import has_weights
from rankrl.run.start import load_catalog, read_dialogues
from rankrl.run.tiny_gpt2 import byte_level_bpe

logger = logging.getLogger(__name__)

_TEXTS = 5000  # of catalogue and dialogues each, from which a tokenizer learns


@contextmanager
def stand_in(settings: Namespace) -> Iterator[list[str]]:
    """Flags that let a recipe train random weights of the same shape; none if the model's own are on this machine.

    The tokenizer is the model's own if that is here; otherwise one is learned from catalogue and dialogues, whose
    prompts then have other lengths than the model's.

    Args:
        settings: of the recipe, from `rankrl.plan.settings.parse`.
    """
    name = settings.model_name_or_path
    if has_weights(name):
        yield []
        return
    config = load_config(name)
    with tempfile.TemporaryDirectory(prefix="random_weights_") as folder:
        logger.warning(
            "the weights of %s are not on this machine: random ones are probed. They end no list, so every list takes "
            "as many tokens as it may",
            name,
        )
        tokenizer_of(name, config, settings).save_pretrained(folder)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # half the disk; the recipe widens them
        model.save_pretrained(folder)
        del model
        yield ["--model_name_or_path", folder]


def tokenizer_of(name: str, config: PretrainedConfig, settings: Namespace) -> Any:
    """A model's tokenizer, or one of this data's own where that is not on this machine."""
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError):
        logger.warning("nor is the tokenizer of %s: prompts have other lengths than with its own", name)
    args = settings.checked[0]
    dialogues = read_dialogues(args, args.dialogues, allow_empty_truth=True)
    spoken = (message["content"] for dialogue in dialogues for message in dialogue.messages)
    texts = [*load_catalog(args).lines[:_TEXTS], *islice(spoken, _TEXTS)]
    return byte_level_bpe(texts, config.get_text_config().vocab_size, config.get_text_config().max_position_embeddings)
