"""What lists are sampled with: what the run says, and nothing that a model brings along.

transformers fills every setting that a call of `generate` leaves open from the model's `generation_config.json`: a
least length, tokens that may not be written, beams, further end tokens. TRL leaves most of them open.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, Trainer

logger = logging.getLogger(__name__)

# What changes no list.
_SAYS_NOTHING = {"transformers_version", "_from_model_config", "bos_token_id", "pad_token_id", "use_cache"}
_SAYS_NOTHING |= {"output_attentions", "output_hidden_states"}
_FOR_VLLM = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def settings_holders(model: PreTrainedModel) -> list[Any]:
    """The modules that carry generation settings: a model, and an adapter around it."""
    return [module for module in model.modules() if "generation_config" in vars(module)]


def forget_generation_config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Leave a model no generation settings of its own but the special tokens of its tokenizer.

    A list then ends at the tokenizer's end token alone, the one that SFT teaches and evaluation stops at, and what is
    trained is saved with settings that change nothing. To be called before a trainer is built.

    Args:
        model: a causal LM, PEFT models among them; changed in place.
        tokenizer: of the model.

    Returns:
        What the model asked for, and what no longer counts: setting -> value; empty for a model that asked for nothing.

    Example:
        >>> model.generation_config = GenerationConfig(repetition_penalty=1.1, eos_token_id=tokenizer.eos_token_id)
        >>> forget_generation_config(model, tokenizer)
        {'repetition_penalty': 1.1}
    """
    asked: dict[str, Any] = {}
    for module in settings_holders(model):
        asked |= module.generation_config.to_diff_dict()
        module.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    if asked.get("eos_token_id") in (tokenizer.eos_token_id, [tokenizer.eos_token_id]):
        asked.pop("eos_token_id", None)
    return {name: value for name, value in asked.items() if name not in _SAYS_NOTHING}


def leave_sampling_to_the_run(
    model: PreTrainedModel | str, tokenizer: PreTrainedTokenizerBase, *, use_vllm: bool
) -> None:
    """Forget what the model asks for, by `forget_generation_config`, and say so in the log; a mere name is left.

    Raises:
        ValueError: for end tokens that vLLM would read from the model's directory all the same.
    """
    if isinstance(model, str):
        return
    not_counted = forget_generation_config(model, tokenizer)
    if not not_counted:
        return
    logger.info("the model's generation_config.json asks for %s: that does not count here", not_counted)
    if use_vllm and "eos_token_id" in not_counted:
        raise ValueError(
            f"vLLM reads the end tokens {not_counted['eos_token_id']} from the model's generation_config.json, and the "
            f"tokenizer's is {tokenizer.eos_token_id} alone: a list that ends by another would count as cut off. Start "
            "from a model that recipes/sft.py has saved, which has none of them, or take them out of the file."
        )


def require_one_end(end_tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse what a trainer has read as end tokens of a model that it loaded by name, if they are more than one.

    Raises:
        ValueError: if there is another than the tokenizer's.
    """
    if list(end_tokens) != [tokenizer.eos_token_id]:
        raise ValueError(
            f"the model ends texts at the tokens {list(end_tokens)}, and the tokenizer at {tokenizer.eos_token_id} "
            "alone: a list would end in several ways, of which SFT teaches one. Load the model and give it to the "
            "trainer instead of its name; what its generation_config.json asks for then does not count."
        )


def require_one_turn(options: Mapping[str, Any]) -> None:
    """Refuse what would put tokens into a list that the policy has not written, and credit would be placed on.

    Args:
        options: of a GRPO trainer, by name.

    Raises:
        ValueError: for tools, environments, a `rollout_func`, or data with images.
    """
    for name in ("tools", "environment_factory", "rollout_func"):
        if options.get(name):
            raise ValueError(
                f"{name} was given, but a ranked list is one turn that the policy itself writes, in one go: its tokens "
                "are told apart by rank, and those of others would be trained on. Leave it out."
            )
    for name in ("train_dataset", "eval_dataset"):
        columns = getattr(options.get(name), "column_names", None) or ()
        if images := [column for column in ("image", "images") if column in columns]:
            raise ValueError(
                f"{name} has the column {images[0]!r}, but the prompt of a ranked list is text. Remove the column."
            )


def require_a_generation(dataset: Any, args: Any) -> None:
    """Refuse data that do not fill one generation: no step would be made of them, and the run look finished.

    Args:
        dataset: of prompts; one without a length is not judged.
        args: of a GRPO trainer.

    Raises:
        ValueError: if there are fewer prompts than a generation takes.
    """
    needed = args.generation_batch_size // args.num_generations
    if hasattr(dataset, "__len__") and len(dataset) < needed:
        raise ValueError(
            f"there are {len(dataset)} prompts to train on, and one generation takes {needed} "
            f"({args.generation_batch_size} lists, num_generations {args.num_generations} of each): no step would be "
            "made. Give more dialogues, or lower per_device_train_batch_size or steps_per_generation."
        )


def write_together(model: PreTrainedModel) -> None:
    """Under FSDP: a process whose lists are complete goes on until those of the others are.

    They gather weights from it for every token. The mark is transformers' own, which accelerate does not set.
    """
    getattr(model, "get_base_model", lambda: model)()._is_fsdp_managed_module = True


def sampling_settings(trainer: Trainer) -> dict[str, Any]:
    """Every setting that the lists of a GRPO trainer are sampled with, by transformers or by vLLM."""
    args = trainer.args
    if not args.use_vllm:
        return trainer.generation_config.to_diff_dict()
    settings = {name: getattr(args, name) for name in _FOR_VLLM}
    return {"engine": "vllm", "max_tokens": args.max_completion_length, **settings, **(args.generation_kwargs or {})}
