"""Greedy lists: against a loop that takes the likeliest token, whatever the model's own generation config says."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from rankrl.evaluation import generate_lists

PROMPTS = ["A film?\n", "A long conversation about thrillers and what to watch tonight.\n", "Up\n", "A film?\n"]


def plain_greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: Sequence[int], length: int) -> str:
    ids = list(prompt)
    for _ in range(length):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)


@pytest.fixture
def prompt_ids(gpt2_tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return [gpt2_tokenizer(prompt).input_ids for prompt in PROMPTS]


def test_agrees_with_taking_the_likeliest_token(
    tiny_gpt2: GPT2LMHeadModel, gpt2_tokenizer: PreTrainedTokenizerFast, prompt_ids: list[list[int]]
) -> None:
    expected = [plain_greedy(tiny_gpt2, gpt2_tokenizer, prompt, 12) for prompt in prompt_ids]
    for batch_size in (1, 2, 8):
        texts = generate_lists(
            tiny_gpt2, gpt2_tokenizer, prompt_ids, max_new_tokens=12, batch_size=batch_size, progress=False
        )
        assert texts == expected


def test_the_models_own_generation_config_has_no_say(
    tiny_gpt2: GPT2LMHeadModel, gpt2_tokenizer: PreTrainedTokenizerFast, prompt_ids: list[list[int]]
) -> None:
    plain = generate_lists(tiny_gpt2, gpt2_tokenizer, prompt_ids, max_new_tokens=12, progress=False)
    first = gpt2_tokenizer(plain[0]).input_ids[0]
    own = GenerationConfig(
        do_sample=True,
        temperature=5.0,
        top_k=3,
        repetition_penalty=3.0,
        no_repeat_ngram_size=1,
        suppress_tokens=[first],
        min_new_tokens=4,
        max_length=5,
        num_return_sequences=2,
        eos_token_id=first,
    )
    tiny_gpt2.generation_config = own

    assert generate_lists(tiny_gpt2, gpt2_tokenizer, prompt_ids, max_new_tokens=12, progress=False) == plain
    assert tiny_gpt2.generation_config is own


def test_an_adapter_is_used_and_the_model_left_as_it_was(
    tiny_gpt2: GPT2LMHeadModel, gpt2_tokenizer: PreTrainedTokenizerFast, prompt_ids: list[list[int]]
) -> None:
    own = tiny_gpt2.generation_config
    own.repetition_penalty = 3.0
    torch.manual_seed(0)
    adapted = get_peft_model(
        tiny_gpt2,
        LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], init_lora_weights=False, lora_dropout=0.5),
    )
    adapted.train()

    texts = generate_lists(adapted, gpt2_tokenizer, prompt_ids, max_new_tokens=8, progress=False)

    assert adapted.training
    assert adapted.get_base_model().training
    assert adapted.generation_config is own
    adapted.eval()
    assert texts == [plain_greedy(adapted, gpt2_tokenizer, prompt, 8) for prompt in prompt_ids]


def test_equal_prompts_share_one_decode(
    tiny_gpt2: GPT2LMHeadModel, gpt2_tokenizer: PreTrainedTokenizerFast, prompt_ids: list[list[int]]
) -> None:
    sizes = []
    hook = tiny_gpt2.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    texts = generate_lists(tiny_gpt2, gpt2_tokenizer, prompt_ids * 5, max_new_tokens=2, progress=False)
    hook.remove()
    assert max(sizes) == 3
    assert texts == texts[:4] * 5


def test_a_list_ends_at_the_end_token(
    tiny_gpt2: GPT2LMHeadModel, gpt2_tokenizer: PreTrainedTokenizerFast, prompt_ids: list[list[int]]
) -> None:
    token = int(tiny_gpt2(torch.tensor([prompt_ids[0]])).logits[0, -1].argmax())
    tokenizer = deepcopy(gpt2_tokenizer)
    tokenizer.eos_token_id = token
    assert generate_lists(tiny_gpt2, tokenizer, prompt_ids[:1], max_new_tokens=8, progress=False) == [""]


def test_no_prompt_no_text(tiny_gpt2: GPT2LMHeadModel, gpt2_tokenizer: PreTrainedTokenizerFast) -> None:
    assert generate_lists(tiny_gpt2, gpt2_tokenizer, [], max_new_tokens=8, progress=False) == []


def test_bad_input(
    tiny_gpt2: GPT2LMHeadModel,
    gpt2_tokenizer: PreTrainedTokenizerFast,
    endless_tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        generate_lists(tiny_gpt2, gpt2_tokenizer, [[1], []], max_new_tokens=4, progress=False)
    with pytest.raises(ValueError, match="prompt 0 has 1021 tokens.*context of 1024.*at most 1020 tokens"):
        generate_lists(tiny_gpt2, gpt2_tokenizer, [[1] * 1021], max_new_tokens=4, progress=False)
    with pytest.raises(ValueError, match="no end token"):
        generate_lists(tiny_gpt2, endless_tokenizer, [[1]], max_new_tokens=4, progress=False)
