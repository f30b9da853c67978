"""Greedy lists from a causal language model: one decode per distinct prompt, and no setting but those given here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import torch
from rich.progress import track
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rankrl.grpo.sampling import settings_holders
from rankrl.grpo.segments import completion_texts


def generate_lists(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 16,
    progress: bool = True,
) -> list[str]:
    """Return one greedy completion per prompt.

    Rows with the same prompt share one decode. Prompts are padded on the left and run in batches of similar length,
    longest first. The model's own `generation_config.json` has no say: not in sampling, penalties, lengths nor ends.

    Args:
        model: a causal LM, PEFT models among them. It is put in eval mode for the call.
        tokenizer: decodes the completions; special tokens are left out of the text.
        prompt_ids: per prompt its token ids, as the renderer made them.
        max_new_tokens: tokens after which a list is cut.
        batch_size: prompts decoded at once.
        progress: show a bar with the time left.

    Returns:
        The texts, in the order of `prompt_ids`.

    Raises:
        ValueError: if a prompt is empty, does not fit the model's context together with `max_new_tokens`, or there is
            no end token.
    """
    _check(model, tokenizer, prompt_ids, max_new_tokens)
    config = greedy_config(tokenizer, max_new_tokens)
    distinct = sorted(set(map(tuple, prompt_ids)), key=lambda prompt: (-len(prompt), prompt))
    batches = [distinct[start : start + batch_size] for start in range(0, len(distinct), batch_size)]
    texts: dict[tuple[int, ...], str] = {}
    with _only(model, config), torch.no_grad():
        for batch in track(batches, description="Writing lists", disable=not progress):
            inputs = {name: value.to(model.device) for name, value in _pad_left(batch, config.pad_token_id).items()}
            sequences = model.generate(**inputs, generation_config=config)
            completions = sequences[:, inputs["input_ids"].shape[1] :].tolist()
            texts.update(zip(batch, (_decode(tokenizer, ids) for ids in completions), strict=True))
    return [texts[tuple(prompt)] for prompt in prompt_ids]


def greedy_config(tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> GenerationConfig:
    """All that decides how a greedy list is written; the arguments are those of `generate_lists`."""
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=[end],
        pad_token_id=end if pad is None else pad,
    )


def _check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> None:
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token, so no list would end; set tokenizer.eos_token.")
    lengths = [len(prompt) for prompt in prompt_ids]
    if 0 in lengths:
        raise ValueError(f"prompt {lengths.index(0)} has no token; render the dialogue before generating.")
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(lengths, default=0)
    if context is not None and longest + max_new_tokens > context:
        raise ValueError(
            f"prompt {lengths.index(longest)} has {longest} tokens; with max_new_tokens={max_new_tokens} that exceeds "
            f"the model's context of {context}. Render the prompts to at most {context - max_new_tokens} tokens."
        )


@contextmanager
def _only(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Make `config` the model's only generation settings, and eval its mode, for a while.

    Passing a `GenerationConfig` to `generate` is not enough: transformers fills every field that is None in it from
    the model's own, such as a repetition penalty.
    """
    holders = [(module, module.generation_config) for module in settings_holders(model)]
    training = [module for module in model.modules() if module.training]
    try:
        for module, _ in holders:
            module.generation_config = config
        model.eval()
        yield
    finally:
        for module, own in holders:
            module.generation_config = own
        for module in training:
            module.training = True


def _pad_left(batch: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    width = max(map(len, batch))
    padding = [width - len(prompt) for prompt in batch]
    return {
        "input_ids": torch.tensor([[pad_id] * pad + list(prompt) for pad, prompt in zip(padding, batch, strict=True)]),
        "attention_mask": torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding]),
    }


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    written = list(takewhile(lambda token: token != tokenizer.eos_token_id, ids))  # what follows the end is padding
    return completion_texts(tokenizer, [written])[0]
