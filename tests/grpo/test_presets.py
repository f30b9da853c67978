"""Presets: what a name sets, what it refuses, and that algorithms without ranks are TRL's own, loss and gradient."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch

from rankrl.grpo import RankGRPOConfig
from rankrl.grpo.presets import PRESET_FIELDS, PRESETS, resolve_preset
from tests.conftest import REPOSITORY
from tests.grpo.conftest import NUM_RANKS, letters_reward
from tests.grpo.injected import LISTS, Steps, gap, train_on

# Plain gradients of one generation: nothing clips or rescales them.
SETTINGS = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 19,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
}
ON_POLICY = {**SETTINGS, "max_steps": 1}
OFF_POLICY = {**SETTINGS, "num_iterations": 2, "learning_rate": 0.3}  # the second step is one away from its lists


def config(**settings: Any) -> RankGRPOConfig:
    return RankGRPOConfig("unused", use_cpu=True, bf16=False, report_to=[], **settings)


# ---- What a name sets ------------------------------------------------------------------------------------------------


def test_every_preset_sets_every_field() -> None:
    assert all({*p.defines, *p.proposes} == set(PRESET_FIELDS) for p in PRESETS.values())


def test_no_preset_at_all_is_rank_grpo() -> None:
    named, unnamed = config(preset="rank_grpo"), config()
    assert unnamed.preset == "rank_grpo"
    assert {name: getattr(unnamed, name) for name in PRESET_FIELDS} == {
        "advantage": "rank",
        "ratio": "rank",
        "aggregation": "rank",
        "loss_type": None,
        "scale_rewards": "group",
        "epsilon": 0.06,
        "epsilon_high": 0.08,
        "beta": 1e-3,
        "use_bias_correction_kl": False,
        "mask_truncated_completions": False,
        "dynamic_sampling_rounds": 0,
        "early_stop_penalty": -0.1,
        "overflow_penalty": -0.1,
        "repeat_penalty": 0.0,
        "end_of_list_bonus": 0.0,
    }
    assert all(getattr(named, name) == getattr(unnamed, name) for name in PRESET_FIELDS)


def test_what_is_meant_to_be_tuned_yields() -> None:
    args = config(preset="gspo", beta=0.5, early_stop_penalty=-0.2, num_iterations=2)
    assert (args.preset, args.ratio, args.importance_sampling_level) == ("gspo", "sequence", "sequence")
    assert (args.epsilon, args.epsilon_high, args.beta, args.early_stop_penalty) == (3e-4, 4e-4, 0.5, -0.2)


@pytest.mark.parametrize(
    ("preset", "setting", "value", "meant"),
    [
        ("rank_grpo", "aggregation", "trl", "aggregation='rank'"),
        ("rank_grpo", "loss_type", "bnpo", "loss_type=None"),
        ("rank_grpo_official", "loss_type", "dapo", "loss_type='bnpo'"),
        ("grpo", "advantage", "rank", "advantage='sequence'"),
        ("gspo", "ratio", "token", "ratio='sequence'"),
        ("dr_grpo", "scale_rewards", "group", "scale_rewards='none'"),
        ("dapo", "loss_type", "grpo", "loss_type='dapo'"),
    ],
)
def test_what_defines_a_preset_does_not(preset: str, setting: str, value: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"preset='{preset}' means {meant}, but {setting}='{value}' is set"):
        config(preset=preset, **{setting: value})


def test_dr_grpo_may_be_spelt_as_trl_spells_it() -> None:
    assert config(preset="dr_grpo", scale_rewards=False).scale_rewards == "none"


def test_unknown_presets_are_errors_that_name_the_known() -> None:
    with pytest.raises(ValueError, match="preset is 'ppo'; expected one of 'rank_grpo', 'rank_grpo_official', 'grpo'"):
        config(preset="ppo")


def test_a_switch_away_from_the_default_is_custom() -> None:
    assert config(advantage="sequence").preset == "custom"
    assert config(epsilon=0.2, scale_rewards="batch").preset == "rank_grpo"
    args = config(aggregation="trl", ratio="token")
    assert (args.preset, args.loss_type, args.epsilon) == ("custom", "dapo", 0.06)


@pytest.mark.parametrize("preset", [*PRESETS, None])
def test_a_saved_configuration_says_the_same_again(preset: str | None) -> None:
    first = config(preset=preset, num_iterations=2, **({} if preset else {"advantage": "sequence"}))
    again = config(num_iterations=2, **{name: getattr(first, name) for name in ("preset", *PRESET_FIELDS)})
    assert first.to_dict() == again.to_dict()
    assert first.to_dict()["preset"] == (preset or "custom")


def test_the_table_of_the_docs_says_what_is_set() -> None:
    text = (REPOSITORY / "docs" / "rank_grpo.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    header = next(number for number, row in enumerate(rows) if row[1] == "`rank_grpo`")
    names = [name.strip("`") for name in rows[header][1:]]
    assert names == list(PRESETS)
    table = {row[0].strip("`"): row[1:] for row in rows[header + 2 : header + 2 + len(PRESET_FIELDS)]}
    assert set(table) == set(PRESET_FIELDS)
    words = {"–": None, "= `epsilon`": None, "yes": True, "no": False}
    for field, cells in table.items():
        for name, cell in zip(names, cells, strict=True):
            defined, word = field in PRESETS[name].defines, cell.strip("*")
            value = {**PRESETS[name].proposes, **PRESETS[name].defines}[field]
            assert cell.startswith("**") == (defined and value is not None), (name, field)
            assert words.get(word, word) == value or float(word) == value, (name, field)


def test_an_example_of_the_docs_holds() -> None:
    name, values = resolve_preset("gspo", {"beta": 0.0})
    assert (name, values["ratio"], values["epsilon"], values["beta"]) == ("gspo", "sequence", 3e-4, 0.0)


# ---- Without ranks: TRL's own ----------------------------------------------------------------------------------------

# Each algorithm as a user of TRL would write it.
TRL = {
    "grpo": {"loss_type": "grpo", "epsilon": 0.2, "epsilon_high": 0.26},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none", "epsilon": 0.2},
    "dapo": {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28, "mask_truncated_completions": True},
}
KL = {"beta": 0.1, "use_bias_correction_kl": False}


def sum_of_letters(completions: list[str], **columns: Any) -> list[float]:
    return [sum(ranks) for ranks in letters_reward(completions)]


def require_same(ours: Steps, trl: Steps) -> None:
    assert len(ours.gradients) == len(trl.gradients) == len(ours.logs)
    for own, theirs in zip(ours.gradients, trl.gradients, strict=True):
        assert gap(own, theirs) < 1e-5
    assert [log["loss"] for log in ours.logs] == pytest.approx([log["loss"] for log in trl.logs], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("preset", TRL)
def test_a_preset_without_ranks_is_trls_own(preset: str, make_trainer, make_trl_trainer) -> None:
    ours = train_on(make_trainer(preset=preset, **OFF_POLICY, beta=0.1))
    trl = train_on(make_trl_trainer(reward_funcs=sum_of_letters, **OFF_POLICY, **KL, **TRL[preset]))
    require_same(ours, trl)
    assert gap(trl.gradients[1], trl.gradients[0]) > 1e-3, "the second step should be off-policy"
    assert 0 < trl.logs[1]["clip_ratio/region_mean"] < 1, "and clip"


@pytest.mark.parametrize("preset", ["grpo", "gspo"])
def test_on_lists_that_are_a_step_old_too(preset: str, make_trainer, make_trl_trainer) -> None:
    """A generation of eight lists for two optimizer steps of four each: the second is off-policy."""
    stale = {**ON_POLICY, "per_device_train_batch_size": 4, "steps_per_generation": 2, "max_steps": 2}
    stale |= {"learning_rate": 0.3, "beta": 0.1}
    ours = train_on(make_trainer(preset=preset, **stale))
    trl = train_on(make_trl_trainer(reward_funcs=sum_of_letters, **{**KL, **stale}, **TRL[preset]))
    require_same(ours, trl)
    assert 0 < trl.logs[1]["clip_ratio/region_mean"] < 1, "nothing is clipped in the second step"


@pytest.mark.parametrize("preset", ["grpo", "dapo"])
def test_with_accumulation_too(preset: str, make_trainer, make_trl_trainer) -> None:
    accumulated = {**ON_POLICY, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    ours = train_on(make_trainer(preset=preset, **accumulated, beta=0.1))
    trl = train_on(make_trl_trainer(reward_funcs=sum_of_letters, **accumulated, **KL, **TRL[preset]))
    require_same(ours, trl)


def sometimes_long(completions: list[str], **columns: Any) -> list[float | None]:
    """Pays for length, where it can judge; the second function of a run with several."""
    return [None if text.startswith("z") else len(text) / 3 for text in completions]


def sometimes_letters(completions: list[str], **columns: Any) -> list[list[float] | None]:
    """A list that starts with z is scored by nobody, one that starts with o by the other function alone."""
    return [
        None if text[0] in "zo" else ranks for text, ranks in zip(completions, letters_reward(completions), strict=True)
    ]


def sum_of_sometimes(completions: list[str], **columns: Any) -> list[float | None]:
    return [None if ranks is None else sum(ranks) for ranks in sometimes_letters(completions)]


@pytest.mark.parametrize("way", ["sum_then_normalize", "normalize_then_sum"])
def test_several_rewards_are_weighed_as_trl_does(way: str, make_trainer, make_trl_trainer) -> None:
    several = {**ON_POLICY, "multi_objective_aggregation": way, "reward_weights": [1.0, 0.5]}
    ours = train_on(make_trainer(preset="grpo", reward_funcs=[sometimes_letters, sometimes_long], **several))
    trl = train_on(
        make_trl_trainer(
            reward_funcs=[sum_of_sometimes, sometimes_long], **several, **{**KL, "beta": 1e-3}, **TRL["grpo"]
        )
    )
    require_same(ours, trl)


# ---- With ranks: by hand ---------------------------------------------------------------------------------------------


def cells_by_hand(values: list[list[float]]) -> list[list[float]]:
    """Returns of the lists of one prompt -> advantages, rank by rank."""
    columns = []
    for column in zip(*values, strict=True):
        mean, deviation = statistics.mean(column), statistics.stdev(column)
        columns.append([(value - mean) / (deviation + 1e-4) for value in column])
    return [list(row) for row in zip(*columns, strict=True)]


def token_advantages_by_hand(ranks: list[float], text: str, tokens: list[str]) -> list[float]:
    """What each token of a list carries: its rank's advantage; a penalty or a bonus where the list ends or goes on."""
    lines = text.rstrip("\0").count("\n") + 1
    placed, rank = [], 0
    for token in tokens:
        if token == "<|endoftext|>":
            placed.append(-0.1 if lines < NUM_RANKS else 0.1 if lines == NUM_RANKS else 0.0)
        else:
            placed.append(ranks[rank] if rank < NUM_RANKS else -0.1)
        rank += token == "Ċ"  # a newline belongs to the rank it ends
    return placed


def test_the_released_code_by_hand(make_trainer) -> None:
    trainer = make_trainer(preset="rank_grpo_official", **ON_POLICY)
    steps = train_on(trainer)

    returns = letters_reward([text.rstrip("\0") for text in LISTS])
    advantages = cells_by_hand(returns[:4]) + cells_by_hand(returns[4:])
    ids, attended = steps.inputs
    model = make_trainer("fresh").model  # as it was before the step
    log_probs = model(ids, attention_mask=attended).logits.log_softmax(-1)
    prompt = ids.shape[1] - 19
    total, tokens = torch.zeros(()), 0
    for row, (text, ranks) in enumerate(zip(LISTS, advantages, strict=True)):
        length = int(attended[row, prompt:].sum())
        own = ids[row, prompt : prompt + length].tolist()
        placed = token_advantages_by_hand(ranks, text, trainer.processing_class.convert_ids_to_tokens(own))
        for t, (token, advantage) in enumerate(zip(own, placed, strict=True)):
            log_prob = log_probs[row, prompt + t - 1, token]
            total = total + (log_prob - log_prob.detach()).exp() * advantage
            tokens += 1
    (-total / tokens).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gap(steps.gradients[0], expected) < 1e-5


def test_tokens_that_weigh_alike_are_the_released_code_in_one_part(make_trainer) -> None:
    """Off-policy too, with the ratio of tokens: cut into parts, `bnpo` divides by what each part holds."""
    off_policy = {"num_iterations": 2, "max_steps": 2, "learning_rate": 0.3, "optim": "sgd", "beta": 0.1}
    settings = {**ON_POLICY, **off_policy, "end_of_list_bonus": 0.1, "max_grad_norm": 0.0}
    ours = train_on(make_trainer("ours", preset="custom", aggregation="token", ratio="token", **settings))
    released = train_on(make_trainer("released", preset="rank_grpo_official", **settings))
    ranks = train_on(make_trainer("ranks", preset="custom", ratio="token", **settings))
    for step in range(2):
        assert gap(ours.gradients[step], released.gradients[step]) < 1e-5
        assert gap(ours.gradients[step], ranks.gradients[step]) > 1e-2


def test_several_rewards_by_rank(make_trainer) -> None:
    """Both functions are normalised at each rank: the one that judges whole lists is broadcast over the ranks."""
    settings = {**ON_POLICY, "multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.5]}
    trainer = make_trainer(reward_funcs=[letters_reward, length_reward], **settings)
    batch = [next(iter(trainer.train_dataset))] * 8
    texts = [text.rstrip("\0") for text in LISTS]
    ids = [trainer.processing_class.encode(text) for text in texts]
    trainer._calculate_rewards(batch, [row["prompt"] for row in batch], texts, ids)
    lists = trainer._gather_lists(torch.ones(8, NUM_RANKS + 1).bool())
    found = trainer.advantages(lists, trainer.returns(lists)).ranks

    letters, lengths = letters_reward(texts), [[float(len(text))] * NUM_RANKS for text in texts]
    sums = []
    for group in (slice(0, 4), slice(4, 8)):
        cells = zip(cells_by_hand(letters[group]), cells_by_hand(lengths[group]), strict=True)
        sums += [[a + 0.5 * b for a, b in zip(*rows, strict=True)] for rows in cells]
    flat = [value for row in sums for value in row]
    deviation = statistics.stdev(flat) + 1e-4
    expected = [[(value - statistics.mean(flat)) / deviation for value in row] for row in sums]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), rtol=1e-5, atol=1e-5)


def length_reward(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def test_by_rank_lists_without_a_score_are_left_out(make_trainer) -> None:
    settings = {**ON_POLICY, "multi_objective_aggregation": "normalize_then_sum"}
    trainer = make_trainer(reward_funcs=[sometimes_letters, sometimes_long], **settings)
    steps = train_on(trainer)
    assert math.isfinite(steps.logs[0]["loss"])
    lists = trainer._gather_lists(torch.ones(8, NUM_RANKS + 1).bool())
    advantages = trainer.advantages(lists, trainer.returns(lists)).ranks
    assert advantages[4].tolist() == [0.0] * NUM_RANKS, "zz... is scored by nobody"
    assert advantages[6].abs().min() > 0, "o... is scored by its length"


# ---- Identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"ratio": "token"}, {"ratio": "rank"}, "has the gradient of ratio='rank'"),
        ({"preset": "gspo"}, {"preset": "grpo"}, r"\(GSPO\) has the gradient of ratio='token' \(GRPO\)"),
    ],
)
def test_on_policy_the_level_of_the_ratio_changes_nothing(one: dict, other: dict, said: str, make_trainer) -> None:
    with pytest.warns(UserWarning, match=said):
        first = train_on(make_trainer("one", **ON_POLICY, **one))
    second = train_on(make_trainer("other", **ON_POLICY, **other))
    assert gap(first.gradients[0], second.gradients[0]) < 1e-5


def test_off_policy_it_does(make_trainer, recwarn: pytest.WarningsRecorder) -> None:
    both = [train_on(make_trainer(ratio, ratio=ratio, **OFF_POLICY)) for ratio in ("rank", "token")]
    assert gap(both[0].gradients[1], both[1].gradients[1]) > 1e-3
    assert not [warning for warning in recwarn if "has the gradient of" in str(warning.message)]


def test_rank_credit_under_the_ratio_of_a_list_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="the credit of its ranks collapses to their mean"):
        config(ratio="sequence")
