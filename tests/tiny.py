"""Tiny tokenizers and models of every family the project meets, built in a second from the text below: no downloads.

Each tokenizer copies the features of its family that have broken list recommenders, not its vocabulary:

| builder | what it is there for |
| --- | --- |
| `gpt2_tokenizer` | byte-level BPE, characters split over tokens, no chat template, end = begin token |
| `qwen2_tokenizer` | `\\n\\n` and `)\\n` are tokens; the chat template inserts a default system text |
| `qwen3_tokenizer` | the same with a thinking switch that is on unless it is turned off |
| `llama3_tokenizer` | adds a begin token by itself and in the template, which also inserts today's date |
| `llama2_tokenizer` | SentencePiece style: `▁`, byte fallback, newline only as `<0x0A>` |
| `gemma_tokenizer` | SentencePiece style with `\\n` pieces; no system role, strict alternation |
| `wordpiece_tokenizer` | cannot write a newline: has to be refused |
| `endless_tokenizer` | has no end token: has to be refused |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

TITLES = (
    "Heat (1995)\nThe Matrix (1999)\nAlien (1979)\nAmélie (2001)\nThe Godfather (1972)\nSe7en (1995)\nUp (2009)\n"
    "2001: A Space Odyssey (1968)\nSpirited Away (2001)\nParasite (2019)\nThe Thing (1982)\nFargo (1996)\n"
)
TALK = (
    "I am looking for a good movie to watch tonight, something like the films I loved.\n\n"
    "User: Can you recommend a thriller?\nAssistant: Have you seen it? I think you may like that one.\n\n"
    "Here is a conversation with a user. Recommend items, one per line, as Title (Year), and write nothing else.\n\n"
    "Here is my list\n\nAlien (1979)\n\nUp (2009)\n\nI hope you like it\n\n"
)
CORPUS = [TITLES, TALK, TITLES, TALK]
VOCABULARY = 480

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"\p{N}| ", r"\p{N}{1,3}| ")

QWEN2_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

QWEN3_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

LLAMA3_TEMPLATE = """\
{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
{%- set system_message = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = '' %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '\\n\\n' }}
{{- system_message + '<|eot_id|>' }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

LLAMA2_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
{%- set start = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{%- set messages = messages[1:] %}
{%- else %}{%- set start = '' %}{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + (start if loop.first else '') + message['content'].strip() + ' [/INST]' }}
{%- else %}{{- ' ' + message['content'].strip() + ' ' + eos_token }}{%- endif %}
{%- endfor %}"""

GEMMA_TEMPLATE = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""


def _byte_level(
    split: str | None, special: list[str], corpus: Sequence[str] = CORPUS, vocabulary: int = VOCABULARY
) -> Tokenizer:
    """A byte-level BPE trained on the corpus, cut up by GPT-2's own rule (`None`) or by another pattern."""
    tokenizer = Tokenizer(models.BPE())
    if split is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def _sentencepiece(special: list[str], extra: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    """A SentencePiece-like BPE: `▁` for spaces, one token per byte as the fallback, no newline among its pieces.

    Args:
        special: the first tokens; they hold `<unk>`.
        extra: further pieces, and `merges` that lead to them.
    """
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    lines = [line for text in CORPUS for line in text.splitlines() if line]
    learned.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=VOCABULARY - 256, show_progress=False))
    trained = json.loads(learned.to_str())["model"]
    # "é" is left to the byte fallback, so that one character is two tokens.
    pieces = [piece for piece in trained["vocab"] if "é" not in piece]
    known = set(pieces)
    learned_merges = [(left, right) for left, right in trained["merges"] if {left, right} <= known]
    names = special + [f"<0x{byte:02X}>" for byte in range(256)] + extra + pieces
    return Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=merges + learned_merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )


def _begins_with(tokenizer: Tokenizer, token: str) -> None:
    """Make the tokenizer put a begin token before every text by itself."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def gpt2_tokenizer(
    chat_template: str | None = None, corpus: Sequence[str] = CORPUS, vocabulary: int = VOCABULARY
) -> PreTrainedTokenizerFast:
    """GPT-2 style: byte-level BPE; one special token is begin, end and padding."""
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(None, [end], corpus, vocabulary),
        bos_token=end,
        eos_token=end,
        pad_token=end,
        chat_template=chat_template,
        model_max_length=1024,
    )


def qwen2_tokenizer(chat_template: str = QWEN2_TEMPLATE) -> PreTrainedTokenizerFast:
    """Qwen2 style: `\\n\\n` and `)\\n` are single tokens; without a system text the template inserts its own."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(QWEN2_SPLIT, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=chat_template,
    )


def qwen3_tokenizer() -> PreTrainedTokenizerFast:
    """Qwen3 style: thinks unless the template is told `enable_thinking=False`."""
    tokenizer = qwen2_tokenizer(QWEN3_TEMPLATE)
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return tokenizer


def llama3_tokenizer() -> PreTrainedTokenizerFast:
    """Llama-3 style: the tokenizer and the template both add a begin token; the template inserts a date."""
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|pad|>"]
    tokenizer = _byte_level(LLAMA3_SPLIT, special)
    _begins_with(tokenizer, special[0])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token="<|eot_id|>",
        pad_token="<|pad|>",
        chat_template=LLAMA3_TEMPLATE,
    )


def llama2_tokenizer() -> PreTrainedTokenizerFast:
    """Llama-2 style: `▁` before the first word, newline only as the byte `<0x0A>`, begin token added by itself."""
    tokenizer = _sentencepiece(["<unk>", "<s>", "</s>"], [], [])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    _begins_with(tokenizer, "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        chat_template=LLAMA2_TEMPLATE,
    )


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """Gemma style: `\\n` and `\\n\\n` are pieces, no `▁` before the first word; no system role, strict alternation."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = _sentencepiece(special, ["\n", "\n\n"], [("\n", "\n")])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(special[4:])
    _begins_with(tokenizer, "<bos>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<end_of_turn>",
        unk_token="<unk>",
        pad_token="<pad>",
        chat_template=GEMMA_TEMPLATE,
    )


def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    """BERT style: white space only separates words, so a newline is lost. Lists cannot be written with it."""
    special = ["[UNK]", "[SEP]", "[PAD]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[SEP]", pad_token="[PAD]")


def endless_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without an end token: a list written with it never ends."""
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level(None, ["<|pad|>"]), pad_token="<|pad|>")


FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "gpt2": gpt2_tokenizer,
    "qwen2": qwen2_tokenizer,
    "qwen3": qwen3_tokenizer,
    "llama3": llama3_tokenizer,
    "llama2": llama2_tokenizer,
    "gemma": gemma_tokenizer,
}
"""The tokenizers that can write lists. `wordpiece_tokenizer` and `endless_tokenizer` cannot."""


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def tiny_gpt2(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, max_length: int = 1024) -> GPT2LMHeadModel:
    """A random GPT-2 (2 layers, 32 wide, learned positions), the same for the same seed. In eval mode."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=max_length,
        n_embd=32,
        n_layer=2,
        n_head=2,
        **_special_ids(tokenizer),
    )
    return GPT2LMHeadModel(config).eval()


def tiny_qwen2(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, max_length: int = 2048) -> Qwen2ForCausalLM:
    """A random Qwen2 (2 layers, 32 wide, grouped heads, tied embeddings), the same for the same seed. In eval mode."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(**_rotary(tokenizer, max_length), tie_word_embeddings=True)).eval()


def tiny_llama(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, max_length: int = 2048) -> LlamaForCausalLM:
    """A random Llama (2 layers, 32 wide, grouped heads), the same for the same seed. In eval mode."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**_rotary(tokenizer, max_length))).eval()


def _rotary(tokenizer: PreTrainedTokenizerFast, max_length: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": max_length,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        **_special_ids(tokenizer),
    }
