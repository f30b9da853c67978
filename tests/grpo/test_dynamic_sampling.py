"""Dynamic sampling: the stream of further prompts, and which groups end up in the batch."""

from __future__ import annotations

import math
import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from rankrl.grpo import Lists, Returns
from rankrl.grpo.dynamic_sampling import DynamicSampling, PromptStream, Rollout, filled_rows, fillers, stack_rows
from rankrl.rewards import RankScores
from tests.grpo.conftest import NUM_RANKS
from tests.launch.launcher import run_by_two

# ---- The stream ------------------------------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(0, 9), max_size=12)


@given(st.integers(1, 7), st.integers(0, 5), COUNTS)
def test_no_prompt_comes_twice_within_a_pass(num_rows: int, seed: int, counts: list[int]) -> None:
    stream = PromptStream(num_rows, seed)
    drawn = list(chain.from_iterable(stream.draw(count) for count in counts))
    assert stream.cursor == len(drawn) == sum(counts)
    for start in range(0, len(drawn), num_rows):
        one_pass = drawn[start : start + num_rows]
        assert len(set(one_pass)) == len(one_pass)
        assert set(one_pass) <= set(range(num_rows))


@given(st.integers(1, 7), COUNTS, COUNTS)
def test_the_cursor_is_the_whole_state(num_rows: int, before: list[int], after: list[int]) -> None:
    stream, resumed = PromptStream(num_rows, 3), PromptStream(num_rows, 3)
    for count in before:
        stream.draw(count)
    resumed.cursor = stream.cursor
    assert [stream.draw(count) for count in after] == [resumed.draw(count) for count in after]


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    stream = PromptStream(50, seed=0)
    assert stream.draw(50) != stream.draw(50) != PromptStream(50, seed=1).draw(50)


# ---- Places ----------------------------------------------------------------------------------------------------------


def test_further_groups_fill_the_empty_places_in_turn() -> None:
    assert fillers(torch.tensor([False, True, False, False]), available=2).tolist() == [0, -1, 1, -1]
    assert fillers(torch.tensor([True, True]), available=2).tolist() == [-1, -1]


def test_each_process_finds_its_lists_of_the_filled_batch() -> None:
    """Four groups of two lists on two processes, of which the second and the last are replaced: rows from 4 on are
    further lists, the ones below are the process's own."""
    filler = torch.tensor([-1, 0, -1, 1])
    assert filled_rows(filler, 2, first=0, count=4).tolist() == [0, 1, 4, 5]
    assert filled_rows(filler, 2, first=4, count=4).tolist() == [0, 1, 6, 7]


def test_a_group_counts_where_every_process_says_so() -> None:
    """Two processes that round differently would otherwise replace other groups."""
    votes = torch.tensor([2, 1, 0])
    processes = SimpleNamespace(num_processes=2, reduce=lambda *_, **__: votes)
    sampling = DynamicSampling(ROWS, settings(1), processes, {})  # type: ignore[arg-type]
    rollout = Sampler([True] * 3)([{"prompt": "0"}] * 6)
    assert sampling._agree(rollout).tolist() == [True, False, False]


def test_rows_of_different_length_are_padded_on_their_side() -> None:
    short, long = torch.tensor([[1]]), torch.tensor([[2, 3]])
    assert stack_rows([short, long], 9).tolist() == [[1, 9], [2, 3]]
    assert stack_rows([short, long], 9, left=True).tolist() == [[9, 1], [2, 3]]
    assert stack_rows([torch.tensor([True]), torch.tensor([False])]).tolist() == [True, False]
    wide = stack_rows([torch.ones(1, 1, 2), torch.ones(1, 2, 2)])
    assert wide.tolist() == [[[1, 1], [0, 0]], [[1, 1], [1, 1]]]


G = 2  # lists of a prompt
ROWS = [{"prompt": str(number)} for number in range(6)]


def settings(rounds: int, num_generations: int = G, share: float = 0.0) -> Any:
    return SimpleNamespace(
        dynamic_sampling_rounds=rounds, dynamic_sampling_share=share, num_generations=num_generations, seed=0
    )


class Sampler:
    """Lists that bear their prompt and their number. `calls` are the prompts of the batch and of each round.

    The n-th group that is sampled is informative, at its second rank, if the n-th of `answers` says so; from their end
    on, none is.
    """

    def __init__(self, answers: list[bool]) -> None:
        self.answers = iter(answers)
        self.calls: list[list[int]] = []
        self.number = 0

    def __call__(self, rows: list[dict[str, Any]]) -> Rollout:
        prompts = [int(row["prompt"]) for row in rows]
        assert prompts[::G] == prompts[1::G], "the lists of a group have one prompt"
        self.calls.append(prompts[::G])
        numbers = torch.arange(self.number, self.number + len(rows))
        self.number += len(rows)
        width = 1 + len(self.calls)  # every round is longer than the last
        own = {
            "prompt_ids": torch.tensor(prompts)[:, None].expand(-1, width),
            "completion_ids": numbers[:, None].expand(-1, width),
            "number": numbers,
            "of the batch": torch.tensor(7),
        }
        seen = numbers[:, None].expand(-1, 2).numpy()
        scores = RankScores(seen, seen, seen > 0, seen, seen, seen > 0, seen[:, 0])
        values = numbers[:, None, None].expand(-1, 2, 1).double()
        lists = Lists(values, values.sum(1), values[..., 0] > 0, numbers, G, scores)
        informative = torch.tensor([[False, next(self.answers, False)] for _ in range(len(rows) // G)])
        return Rollout(own, lists, Returns(lists.rewards, lists.totals), informative)


def filled(answers: list[bool], places: int, max_rounds: int) -> tuple[Rollout, int, Sampler, DynamicSampling]:
    sampling = DynamicSampling(
        ROWS, settings(max_rounds), Accelerator(cpu=True), {"prompt_ids": -2, "completion_ids": -1}
    )
    sample = Sampler(answers)
    batch = sample([ROWS[place % len(ROWS)] for place in range(places) for _ in range(G)])
    result, rounds = sampling.fill(batch, sample)
    return result, rounds, sample, sampling


def filled_by_loops(answers: list[bool], places: int, max_rounds: int) -> tuple[list[int], list[int]]:
    """Numbers of the groups in the batch, and how many prompts each round draws."""
    batch, drawn, sizes = list(range(places)), places, []
    answer = dict(enumerate(answers))
    while len(sizes) < max_rounds and not all(answer.get(group) for group in batch):
        missing = sum(not answer.get(group) for group in batch)
        sizes.append(missing)
        for group in range(drawn, drawn + missing):
            if answer.get(group):
                batch[next(place for place, held in enumerate(batch) if not answer.get(held))] = group
        drawn += missing
    return batch, sizes


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 4), st.integers(0, 4))
def test_the_batch_agrees_with_loops(answers: list[bool], places: int, max_rounds: int) -> None:
    result, rounds, sample, sampling = filled(answers, places, max_rounds)
    groups, sizes = filled_by_loops(answers, places, max_rounds)
    assert [len(prompts) for prompts in sample.calls[1:]] == sizes
    assert (rounds, sampling.stream.cursor) == (len(sizes), sum(sizes))
    numbers = [G * group + member for group in groups for member in range(G)]
    assert result.own["number"].tolist() == result.own["completion_ids"][:, 0].tolist() == numbers
    prompts = list(chain.from_iterable(sample.calls))
    assert result.own["prompt_ids"][:, -1].tolist() == [prompts[group] for group in groups for _ in range(G)]
    assert result.returns.ranks[:, 1, 0].tolist() == result.lists.overflow.tolist() == numbers
    assert result.lists.scores.ranked[:, 0].tolist() == numbers
    assert result.lists.num_generations == G
    assert result.groups(0.0).tolist() == [group < len(answers) and answers[group] for group in groups]


@pytest.mark.parametrize(("share", "drawn"), [(0.5, 0), (0.6, 3)])
def test_a_group_may_have_to_tell_its_lists_apart_at_several_ranks(share: float, drawn: int) -> None:
    """Here every group does so at one of its two ranks."""
    sampling = DynamicSampling(ROWS, settings(1, share=share), Accelerator(cpu=True), {})
    sample = Sampler([True] * 9)
    sampling.fill(sample([row for row in ROWS[:3] for _ in range(G)]), sample)
    assert sampling.stream.cursor == drawn


def test_a_full_batch_draws_nothing_and_stays_as_it_is() -> None:
    result, rounds, sample, sampling = filled([True] * 3, 3, max_rounds=5)
    assert (rounds, sampling.stream.cursor, len(sample.calls)) == (0, 0, 1)
    assert result.own["number"].tolist() == list(range(6))
    assert result.own["completion_ids"].shape == (6, 2), "no padding is added"


def test_the_last_places_keep_their_groups_when_the_rounds_are_over() -> None:
    # Four places, one filled from the start; the first round (3 prompts) finds one group, the second (2) none.
    result, rounds, sample, _ = filled([False, True, False, False, False, True], 4, max_rounds=2)
    assert [len(prompts) for prompts in sample.calls] == [4, 3, 2]
    assert rounds == 2
    assert result.own["number"].tolist() == [10, 11, 2, 3, 4, 5, 6, 7]
    assert result.informative.tolist() == [[False, True], [False, True], [False, False], [False, False]]
    assert result.own.keys() == {"prompt_ids", "completion_ids", "number"}, "what belongs to no list is left out"
    assert result.own["completion_ids"][0].tolist() == [10, 10, 10], "of the first round, one token longer"
    assert result.own["completion_ids"][2].tolist() == [2, 2, -1]
    assert result.own["prompt_ids"][2].tolist() == [-2, 1, 1]


@given(st.integers(1, 9), st.integers(2, 6), st.integers(1, 6))
def test_a_round_is_divided_evenly(missing: int, num_generations: int, processes: int) -> None:
    shares = []
    for index in range(processes):
        place = SimpleNamespace(num_processes=processes, process_index=index)
        sampling = DynamicSampling(ROWS, settings(4, num_generations), place, {})
        shares.append(sampling._further_rows(missing))
    assert len({len(share) for share in shares}) == 1
    lists = [row["prompt"] for row in chain.from_iterable(shares)]
    groups = [lists[i : i + num_generations] for i in range(0, len(lists), num_generations)]
    assert all(len(group) == num_generations and len(set(group)) == 1 for group in groups), "no group is cut"
    assert missing <= len(groups) < missing + processes
    one_fewer = (len(groups) - 1) * num_generations
    assert len(groups) == missing or one_fewer % processes, "no prompt more than it takes"


def test_data_without_length_are_refused() -> None:
    with pytest.raises(ValueError, match="a generator, have no length: further prompts are drawn by row number"):
        DynamicSampling((row for row in ROWS), settings(4), Accelerator(cpu=True), {})


# ---- The trainer -----------------------------------------------------------------------------------------------------

PAYING = (1, 5)
BATCH = {"per_device_train_batch_size": 8, "max_steps": 1}  # four prompts, two lists each


def some_prompts_pay(prompts: list[str], completions: list[str], **columns: Any) -> list[list[float]]:
    """Tells the lists of prompts 1 and 5 apart, at the first rank, and no others."""
    return [[float(i) * (number_of(prompt) in PAYING), 1.0, 0.0] for i, prompt in enumerate(prompts)]


def nothing_pays(completions: list[str], **columns: Any) -> list[list[float]]:
    return [[0.0, 1.0, 0.0] for _ in completions]


def number_of(prompt: str) -> int:
    return int(re.search(r"\d", prompt).group())


def trained_on(trainer: Any) -> dict[str, torch.Tensor]:
    """The lists of the last generation, in the shuffled order that they are trained in."""
    names = trainer._buffered_inputs[0].keys() - {"num_items_in_batch"}
    return {name: torch.cat([part[name] for part in trainer._buffered_inputs]) for name in names}


def prompts_in(trainer: Any) -> list[int]:
    return sorted(number_of(text) for text in trainer.processing_class.batch_decode(trained_on(trainer)["prompt_ids"]))


def test_what_the_trainer_draws_by_loops(make_trainer) -> None:
    trainer = make_trainer(reward_funcs=some_prompts_pay, dynamic_sampling_rounds=50, **BATCH)
    held = list(trainer._get_train_sampler())[: 4 * G : G]  # row numbers, and numbers in the prompts
    stream, sampled, rounds = PromptStream(8, trainer.args.seed), list(held), 0
    while empty := [place for place, number in enumerate(held) if number not in PAYING]:
        drawn = stream.draw(len(empty))
        rounds, sampled = rounds + 1, sampled + drawn
        for place, number in zip(empty, [number for number in drawn if number in PAYING], strict=False):
            held[place] = number
    trainer.train()
    assert prompts_in(trainer) == sorted(held * G)
    log = trainer.state.log_history[0]
    assert rounds > 1, "or there is little to see"
    assert (log["sampling_rounds"], log["lists_sampled"]) == (rounds, G * len(sampled))
    paying = sum(number in PAYING for number in sampled) / len(sampled)
    assert log["informative/all"] == pytest.approx(paying / NUM_RANKS)
    assert log["informative_trained/all"] == pytest.approx(1 / NUM_RANKS)


@pytest.mark.parametrize("settings", [{}, {"preset": "dapo", "mask_truncated_completions": False, "beta": 0.1}])
def test_what_belongs_to_a_list_stays_with_it(settings: dict[str, Any], make_trainer) -> None:
    trainer = make_trainer(reward_funcs=some_prompts_pay, **{**BATCH, "dynamic_sampling_rounds": 50, **settings})
    reference = AutoModelForCausalLM.from_pretrained(trainer.model.config._name_or_path)
    trainer.train()
    assert trainer._dynamic_sampling.stream.cursor > 0
    lists = trained_on(trainer)
    require_whole(lists, reference)
    assert trainer._buffered_inputs[0]["num_items_in_batch"] == lists["completion_mask"].sum()


def require_whole(lists: dict[str, torch.Tensor], reference: Any) -> None:
    """Log-probabilities, units and advantages are those of the tokens; of two that differ, they are +-1/sqrt(2)."""
    ids = torch.cat([lists["prompt_ids"], lists["completion_ids"]], 1)
    mask = torch.cat([lists["prompt_mask"], lists["completion_mask"]], 1)
    width = lists["completion_ids"].shape[1]
    log_probs = reference(ids, attention_mask=mask).logits[:, -width - 1 : -1].log_softmax(-1)
    expected = log_probs.gather(2, lists["completion_ids"][..., None])[..., 0]
    there = lists["completion_mask"].bool()
    torch.testing.assert_close(lists["ref_per_token_logps"][there], expected[there], rtol=1e-4, atol=1e-4)
    assert torch.equal(lists["unit_ids"] >= 0, there)
    first = lists["advantages"][:, 0]  # every list has a first rank
    assert first.abs().tolist() == pytest.approx([math.sqrt(0.5)] * len(first), abs=1e-3)


def test_at_the_bound_the_batch_keeps_what_it_has(make_trainer) -> None:
    trainer = make_trainer(reward_funcs=nothing_pays, dynamic_sampling_rounds=2, **BATCH)
    own = sorted(list(trainer._get_train_sampler())[: 4 * G])
    trainer.train()
    assert prompts_in(trainer) == own
    log = trainer.state.log_history[0]
    assert (log["sampling_rounds"], log["lists_sampled"], log["informative_trained/all"]) == (2, 3 * 4 * G, 0)


def test_without_dynamic_sampling_no_prompt_is_drawn(make_trainer) -> None:
    trainer = make_trainer(reward_funcs=nothing_pays, **{**BATCH, "max_steps": 2})
    trainer.train()
    assert [log["lists_sampled"] for log in trainer.state.log_history[:2]] == [4 * G, 8 * G]
    assert "sampling_rounds" not in trainer.state.log_history[0]


@pytest.fixture(scope="module")
def by_two(policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What two processes, joined by gloo, have seen: by run, one each."""
    output = tmp_path_factory.mktemp("two")
    run_by_two("grpo/sampling_by_two.py", policy_dir, output)
    runs = ("straight", "resumed")
    return {run: [torch.load(output / f"{run}_{i}.pt", weights_only=True) for i in range(2)] for run in runs}


@pytest.mark.launch
def test_two_processes_share_what_one_of_them_finds(by_two: dict[str, list], policy_dir: Path) -> None:
    """Four lists each, of two prompts; the lists of process 1 all earn the same.

    Of the two prompts of the first round, each process samples one: one is informative. The prompt of the second round
    is shared, one list each, and so informative.
    """
    seen = by_two["straight"]
    log = seen[0]["logs"][0]
    assert (log["sampling_rounds"], log["lists_sampled"]) == (2, 8 + 4 + 2)
    assert log["informative_trained/all"] == pytest.approx(1 / NUM_RANKS)
    assert log["informative/all"] == pytest.approx(4 / 7 / NUM_RANKS)
    assert [process["cursor"] for process in seen] == [2 * 3, 2 * 3]  # two steps
    for process in seen:
        assert len(process["lists"]["completion_ids"]) == 4
        require_whole(process["lists"], AutoModelForCausalLM.from_pretrained(policy_dir))


@pytest.mark.launch
def test_two_processes_resume_where_they_were(by_two: dict[str, list]) -> None:
    for straight, resumed in zip(*by_two.values(), strict=True):
        assert straight["cursor"] == resumed["cursor"]
        assert straight["logs"][1]["lists_sampled"] == resumed["logs"][1]["lists_sampled"] == 2 * 14
        for other in (resumed, by_two["straight"][0]):
            assert all(torch.equal(value, other["weights"][name]) for name, value in straight["weights"].items())
