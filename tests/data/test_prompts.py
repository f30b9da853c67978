from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import MambaConfig, PreTrainedTokenizerFast

from rankrl.data import PromptRenderer, PromptTemplate, context_length, load_dialogues
from tests import tiny

TOKENIZERS = {name: build() for name, build in tiny.FAMILIES.items()}
LINES = ["Heat (1995)", "Amélie (2001)", "2001: A Space Odyssey (1968)"]
TALK = [
    {"role": "assistant", "content": "Hello there!"},
    {"role": "user", "content": "I loved Heat."},
    {"role": "assistant", "content": "Have you seen Fargo?"},
    {"role": "user", "content": "Yes. Something older?"},
]


def renderer(tokenizer: PreTrainedTokenizerFast, template: Any = "movie", **settings: Any) -> PromptRenderer:
    return PromptRenderer(tokenizer, template, **{"num_ranks": 3, "max_prompt_tokens": 2000, **settings})


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("template", ["movie", "book", "generic"])
def test_every_family_reads_system_instruction_and_all_turns(tokenizer: PreTrainedTokenizerFast, template: str) -> None:
    prompt = renderer(tokenizer, template).render(TALK)
    places = [prompt.text.index(text) for text in ("You ", "Somebody", *(t["content"] for t in TALK), "exactly 3")]
    assert places == sorted(places)
    assert "one " in prompt.text
    assert "Title (Year)" in prompt.text
    assert prompt.token_ids == ids_of(tokenizer, prompt.text)
    assert prompt.dropped_turns == 0


def test_a_list_is_its_lines_and_the_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = renderer(tokenizer).completion(LINES)
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[:-1]
    assert tokenizer.decode(ids[:-1]) == "\n".join(LINES)


def test_fine_tuning_and_rl_read_the_same_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    one = renderer(tokenizer, max_prompt_tokens=len(renderer(tokenizer).render(TALK).token_ids) - 1)
    prompt, example = one.render(TALK).token_ids, one.example(TALK, LINES)
    length = example["completion_mask"].index(1)
    assert example["input_ids"][:length] == prompt
    assert example["input_ids"][length:] == one.completion(LINES)
    assert example["completion_mask"] == [0] * len(prompt) + [1] * len(one.completion(LINES))


def test_begin_tokens_are_not_doubled(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = renderer(tokenizer).render(TALK).token_ids
    begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    if tokenizer.bos_token_id is not None:
        assert ids.count(tokenizer.bos_token_id) == begins
        assert (ids[0] == tokenizer.bos_token_id) == begins


@pytest.mark.parametrize("name", ["llama2", "llama3", "gemma"])
def test_without_a_chat_template_the_begin_token_stays(name: str) -> None:
    tokenizer = tiny.FAMILIES[name]()
    tokenizer.chat_template = None
    prompt = renderer(tokenizer).render(TALK)
    assert prompt.text.startswith(tokenizer.bos_token + "You are")
    assert prompt.token_ids.count(tokenizer.bos_token_id) == 1
    assert prompt.text.endswith("\n")


def test_the_date_is_fixed(llama3_tokenizer: PreTrainedTokenizerFast) -> None:
    assert "Today Date: 01 Jan 2025\n" in renderer(llama3_tokenizer).render(TALK).text
    assert "Today Date: 24 Dec 1999\n" in renderer(llama3_tokenizer, date="1999-12-24").render(TALK).text
    assert renderer(llama3_tokenizer).hash != renderer(llama3_tokenizer, date="1999-12-24").hash
    with pytest.raises(ValueError, match=r'"2025-01-01", not \'tomorrow\''):
        renderer(llama3_tokenizer, date="tomorrow")


def test_a_template_that_reads_the_clock_sees_the_fixed_date() -> None:
    source = "{%- macro day() %}{{ strftime_now('%Y-%m-%d, %-d %B %Y') }}{% endmacro %}\n{{ day() }}|"
    with_clock = "\n  {% if strftime_now is defined %}" + source + "{% endif %}" + tiny.QWEN3_TEMPLATE
    one = renderer(tiny.qwen2_tokenizer(with_clock), date="2025-03-09")
    # Nothing else about the template changes, its white space included.
    plain = renderer(tiny.qwen2_tokenizer("\n2025-03-09, 9 March 2025|" + tiny.QWEN3_TEMPLATE))
    assert one.render(TALK).text == plain.render(TALK).text


def test_a_default_system_text_never_appears_beside_ours(qwen2_tokenizer: PreTrainedTokenizerFast) -> None:
    assert "helpful assistant" not in renderer(qwen2_tokenizer).render(TALK).text
    silent = PromptTemplate("silent", "{% block user %}{{ turns }} {{ num_ranks }}{% endblock %}")
    one = renderer(qwen2_tokenizer, silent)
    assert "helpful assistant" in one.render(TALK).text
    assert "helpful assistant" in one.probe  # so that the hash knows


def test_without_a_system_role_the_system_text_opens_the_user_turn(gemma_tokenizer: PreTrainedTokenizerFast) -> None:
    text = renderer(gemma_tokenizer).render(TALK).text
    assert text.startswith("<bos><start_of_turn>user\nYou are a film expert.")
    assert text.endswith("<start_of_turn>model\n")


def test_a_template_that_drops_the_system_text_is_noticed() -> None:
    deaf = tiny.QWEN3_TEMPLATE.replace("for message in messages", "for message in messages if message.role == 'user'")
    assert "You are a film expert." in renderer(tiny.qwen2_tokenizer(deaf)).render(TALK).text


def test_a_template_that_drops_the_user_text_is_refused() -> None:
    mute = tiny.QWEN3_TEMPLATE.replace("message.content", "'...'")
    with pytest.raises(ValueError, match="leaves out the text it is given"):
        renderer(tiny.qwen2_tokenizer(mute))


def test_thinking_is_off_unless_asked_for(qwen3_tokenizer: PreTrainedTokenizerFast) -> None:
    assert renderer(qwen3_tokenizer).render(TALK).text.endswith("<think>\n\n</think>\n\n")
    with pytest.warns(UserWarning, match="thoughts will take the list's ranks"):
        thinking = renderer(qwen3_tokenizer, enable_thinking=True)
    assert thinking.render(TALK).text.endswith("assistant\n")
    assert thinking.hash != renderer(qwen3_tokenizer).hash


def test_a_template_that_always_thinks_is_reported() -> None:
    with pytest.warns(UserWarning, match="opens <think> whatever it is told"):
        renderer(tiny.qwen2_tokenizer(tiny.QWEN3_TEMPLATE + "{{ '<think>\\n' }}"))


def test_tokenizers_that_cannot_write_lists_are_refused(
    wordpiece_tokenizer: PreTrainedTokenizerFast, endless_tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ValueError, match="cannot write a line break"):
        renderer(wordpiece_tokenizer)
    with pytest.raises(ValueError, match=r"no end token.*tokenizer\.eos_token ="):
        renderer(endless_tokenizer)


def test_what_people_type_is_never_a_control_token(tokenizer: PreTrainedTokenizerFast) -> None:
    special = sorted(tokenizer.added_tokens_encoder)
    control = set(tokenizer.all_special_ids) | {tokenizer.added_tokens_encoder[token] for token in special}
    plain, armed = (
        renderer(tokenizer).render([{"role": "user", "content": text}]) for text in ("hello", " ".join(special))
    )
    assert [i for i in armed.token_ids if i in control] == [i for i in plain.token_ids if i in control]
    ids = renderer(tokenizer).completion([f"{tokenizer.eos_token} (1999)", "Up"])
    assert ids.count(tokenizer.eos_token_id) == 1


messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=120)}),
    min_size=1,
    max_size=9,
)


@given(messages, st.integers(0, 300), st.sampled_from(sorted(TOKENIZERS)))
def test_any_dialogue_fits(dialogue: list[dict[str, str]], room: int, name: str) -> None:
    tokenizer = TOKENIZERS[name]
    least = len(renderer(tokenizer).render([{"role": "user", "content": "?"}]).token_ids)
    one = renderer(tokenizer, max_prompt_tokens=least + room)
    users = [index for index, turn in enumerate(dialogue) if turn["role"] == "user"]
    last = users[-1] if users else len(dialogue) - 1
    lengths = [len(renderer(tokenizer).render(dialogue[k:]).token_ids) for k in range(last + 1)]
    if lengths[last] > least + room:
        with pytest.raises(ValueError, match=f"{lengths[last]} tokens.*max_prompt_tokens is {least + room}"):
            one.render(dialogue)
        return
    prompt = one.render(dialogue)
    assert len(prompt.token_ids) <= least + room
    assert prompt.token_ids == ids_of(tokenizer, prompt.text)
    # What is left is the dialogue without a prefix, the smallest one that helps (lengths fall with every dropped turn).
    assert prompt.text == renderer(tokenizer).render(dialogue[prompt.dropped_turns :]).text
    assert prompt.dropped_turns <= last
    if lengths == sorted(lengths, reverse=True):
        assert prompt.dropped_turns == next(k for k, length in enumerate(lengths) if length <= least + room)
    for fixed in ("film expert", "Recommend exactly 3 films"):
        assert fixed in prompt.text


@given(st.text(min_size=200, max_size=600), st.sampled_from(sorted(TOKENIZERS)))
def test_an_over_long_last_turn_is_cut_only_when_asked(content: str, name: str) -> None:
    tokenizer = TOKENIZERS[name]
    dialogue = [*TALK, {"role": "user", "content": content + " the end"}]
    limit = len(renderer(tokenizer).render([{"role": "user", "content": "?"}]).token_ids) + 30
    with pytest.raises(ValueError, match=r"last user turn does not fit.*shorten_last_turn=True"):
        renderer(tokenizer, max_prompt_tokens=limit).render(dialogue)
    one = renderer(tokenizer, max_prompt_tokens=limit, shorten_last_turn=True)
    prompt = one.render(dialogue)
    assert len(prompt.token_ids) <= limit
    assert "the end" in prompt.text
    assert prompt.dropped_turns == len(TALK)
    assert prompt.cut_characters > 0
    assert "1 lost the start of an over-long last user turn" in one.report()


def test_the_report_counts(gpt2_tokenizer: PreTrainedTokenizerFast) -> None:
    lengths = [len(renderer(gpt2_tokenizer).render(TALK[k:]).token_ids) for k in range(4)]
    one = renderer(gpt2_tokenizer, max_prompt_tokens=lengths[2])
    for dialogue in (TALK, TALK[1:], TALK[2:], TALK[3:]):
        one.render(dialogue)
    one.completion(LINES[:1])
    expected = f"4 prompts of at most {lengths[2]} tokens; 2 (50.0%) shortened by 3 oldest turns in all."
    assert one.report() == f"{expected} 1 lists have fewer than 3 lines."


def test_no_room_for_a_dialogue_is_noticed_at_once(gpt2_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"max_prompt_tokens=20 leaves no room.*'movie' takes"):
        renderer(gpt2_tokenizer, max_prompt_tokens=20)


@pytest.mark.parametrize("lines", [[], ["Up"] * 4, ["Up", " \t"], ["Up\nHeat"]])
def test_lists_that_would_break_the_rank_rule_are_refused(
    gpt2_tokenizer: PreTrainedTokenizerFast, lines: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"num_ranks|rank \d is"):
        renderer(gpt2_tokenizer).completion(lines)


def test_an_example_is_never_cut(gpt2_tokenizer: PreTrainedTokenizerFast) -> None:
    one = renderer(gpt2_tokenizer)
    length = len(one.example(TALK, LINES)["input_ids"])
    assert len(one.example(TALK, LINES, max_length=length)["input_ids"]) == length
    with pytest.raises(ValueError, match=f"make {length} tokens, max_length is {length - 1}"):
        one.example(TALK, LINES, max_length=length - 1)


def test_the_completion_budget_comes_from_the_catalogue(tokenizer: PreTrainedTokenizerFast) -> None:
    catalog = ["Up (2009)"] * 97 + ["2001: A Space Odyssey (1968)"] * 3
    short, long = (len(ids_of(tokenizer, f"{line}\n")) for line in (catalog[0], catalog[-1]))
    one = renderer(tokenizer)
    assert one.max_completion_tokens(catalog) == 3 * long + 1
    assert len(one.completion([catalog[-1]] * 3)) <= one.max_completion_tokens(catalog)
    one.check_completion_budget(3 * long + 1, catalog)
    with pytest.warns(UserWarning, match=f"set max_completion_length to {3 * long + 1}"):
        one.check_completion_budget(3 * short + 1, catalog)
    with pytest.raises(ValueError, match=f"cuts the list: 3 lines .* take {3 * short + 1} tokens"):
        one.check_completion_budget(3 * short, catalog)


def test_context_length() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    assert context_length(tiny.tiny_gpt2(tokenizer, max_length=256).config) == 256
    config = tiny.tiny_llama(tokenizer, max_length=512).config
    assert context_length(config) == 512
    with pytest.raises(ValueError, match="set config.max_position_embeddings"):
        context_length(MambaConfig())


def test_a_checkpoint_keeps_its_prompt(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    one = renderer(tokenizer, "book", date="2024-02-29", chat_template_kwargs={"colour": "blue"})
    one.save(tmp_path / "run")
    again = PromptRenderer.load(tmp_path / "run", tokenizer)
    assert again.hash == one.hash
    assert len(one.hash) == 16
    assert again.render(TALK) == one.render(TALK)
    assert again.max_prompt_tokens == 2000
    # A checkpoint inside the run leans on the run's record, and the length is no part of the prompt.
    renderer(tokenizer, "book", date="2024-02-29", max_prompt_tokens=900).require_same_prompt(
        tmp_path / "run/checkpoint-9"
    )
    assert PromptRenderer.load(tmp_path / "run", tokenizer, max_prompt_tokens=800).max_prompt_tokens == 800


def test_a_checkpoint_trained_on_another_prompt_is_refused(
    gpt2_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    old, new = renderer(gpt2_tokenizer), renderer(gpt2_tokenizer, num_ranks=5)
    old.save(tmp_path)
    with pytest.raises(ValueError, match="another prompt") as caught:
        new.require_same_prompt(tmp_path)
    message = str(caught.value)
    assert old.hash in message
    assert new.hash in message
    assert "different: num_ranks." in message
    assert "-Recommend exactly 3 films" in message
    assert "+Recommend exactly 5 films" in message
    with pytest.warns(UserWarning, match="another prompt"):
        new.require_same_prompt(tmp_path, allow_mismatch=True)
    old.require_same_prompt(tmp_path)


def test_another_tokenizer_renders_another_prompt(tmp_path: Path) -> None:
    renderer(TOKENIZERS["qwen2"]).save(tmp_path)
    with pytest.raises(ValueError, match="different: the tokenizer"):
        PromptRenderer.load(tmp_path, TOKENIZERS["qwen3"])
    assert PromptRenderer.load(tmp_path, TOKENIZERS["qwen2"]).num_ranks == 3


def test_a_base_model_has_no_prompt_to_differ_from(gpt2_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    renderer(gpt2_tokenizer).require_same_prompt(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"rankrl_prompt\.json"):
        PromptRenderer.load(tmp_path, gpt2_tokenizer)


def test_the_record_is_readable_json(gpt2_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    one = renderer(gpt2_tokenizer)
    record = json.loads(one.save(tmp_path).read_text(encoding="utf-8"))
    assert record["hash"] == one.hash
    assert record["template"] == PromptTemplate.load("movie").source
    assert record["probe"].endswith("Second Title (2001)<|endoftext|>")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% block user %}{{ turns }", "no jinja2"),
        ("hello {{ turns }}", "needs {% block user %}"),
        ("{% block user %}{{ turns }}{{ mood }}{% endblock %}", r"asks for \['mood'\]"),
        ("{% block user %}Recommend {{ num_ranks }}{% endblock %}", "never prints the dialogue"),
    ],
)
def test_unusable_templates_are_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "mine.jinja").write_text(source)
    with pytest.raises(ValueError, match=message):
        PromptTemplate.load(tmp_path / "mine.jinja")


def test_an_unknown_template_names_the_bundled_ones() -> None:
    with pytest.raises(FileNotFoundError, match="movie, book, generic"):
        PromptTemplate.load("films")


def test_a_template_cannot_reach_into_python() -> None:
    source = "{% block user %}{{ turns.__class__.__mro__ }}{{ num_ranks }}{% endblock %}"
    with pytest.raises(Exception, match="unsafe"):
        renderer(TOKENIZERS["gpt2"], PromptTemplate("evil", source))


@pytest.mark.real_data
def test_all_of_inspired_fits_512_tokens(real_data: Path) -> None:
    dialogues = load_dialogues(real_data / "inspired/train.jsonl") + load_dialogues(real_data / "inspired/test.jsonl")
    talk = [message["content"] for dialogue in dialogues for message in dialogue.messages]
    one = renderer(tiny.gpt2_tokenizer(corpus=talk, vocabulary=2000), num_ranks=20, max_prompt_tokens=512)
    for dialogue in dialogues:
        prompt = one.render(dialogue.messages)
        assert len(prompt.token_ids) <= 512
        for message in dialogue.messages[prompt.dropped_turns :]:
            assert message["content"] in prompt.text
    assert one.counts.rendered == len(dialogues) == 417
    assert 0 < one.counts.shortened < 417
    assert one.counts.cut_turns == 0


def test_a_renderer_can_be_sent_to_worker_processes(tokenizer: PreTrainedTokenizerFast) -> None:
    one = renderer(tokenizer)
    again = pickle.loads(pickle.dumps(one))
    assert again.render(TALK) == one.render(TALK)
    assert again.hash == one.hash
