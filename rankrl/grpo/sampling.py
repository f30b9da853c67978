"""What lists are sampled with: what the run says, and nothing that a model brings along.

transformers fills every setting that a call of `generate` leaves open from the model's `generation_config.json`: a
least length, tokens that may not be written, beams, further end tokens. TRL leaves most of them open.
"""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, Trainer

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


def sampling_settings(trainer: Trainer) -> dict[str, Any]:
    """Every setting that the lists of a GRPO trainer are sampled with, by transformers or by vLLM."""
    args = trainer.args
    if not args.use_vllm:
        return trainer.generation_config.to_diff_dict()
    settings = {name: getattr(args, name) for name in _FOR_VLLM}
    return {"engine": "vllm", "max_tokens": args.max_completion_length, **settings, **(args.generation_kwargs or {})}
