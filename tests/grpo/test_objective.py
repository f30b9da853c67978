"""Ratios, loss value and loss gradient against plain Python loops in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankrl.grpo import rank_grpo_loss, rank_log_ratio
from rankrl.grpo.objective import RATIOS, place_units

K = 3


def random_batch(seed: int, batch: int = 4, tokens: int = 9, units: int = K + 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, tokens + 1, (batch,), generator=generator)
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    unit_ids = torch.randint(0, units, (batch, tokens), generator=generator).sort(1).values
    unit_ids = unit_ids.masked_fill(mask == 0, -1)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale

    log_probs = normal(batch, tokens)
    return {
        "log_probs": log_probs,
        "old_log_probs": log_probs + normal(batch, tokens, scale=0.1),
        "ref_log_probs": log_probs + normal(batch, tokens, scale=0.3),
        "unit_ids": unit_ids,
        "mask": mask,
        "advantages": normal(batch, units),
    }


def reference_loss(
    batch: dict[str, torch.Tensor], ratio: str, low: float, high: float, beta: float, list_tokens: float | None = None
) -> torch.Tensor:
    """Eq. 6, term by term; with `list_tokens` each unit weighs as much as it has tokens."""
    total = torch.zeros((), dtype=torch.float64)
    rows = batch["log_probs"].shape[0]
    for b in range(rows):
        tokens = [t for t in range(batch["mask"].shape[1]) if batch["mask"][b, t]]
        log_ratio = {t: batch["log_probs"][b, t] - batch["old_log_probs"][b, t] for t in tokens}
        whole = torch.stack(list(log_ratio.values())).mean()
        for unit in sorted({int(batch["unit_ids"][b, t]) for t in tokens}):
            members = [t for t in tokens if batch["unit_ids"][b, t] == unit]
            advantage = batch["advantages"][b, unit]
            if ratio == "token":
                logs = [log_ratio[t] for t in members]
            else:
                logs = [whole if ratio == "sequence" else torch.stack([log_ratio[t] for t in members]).mean()]
            terms = [torch.minimum(w * advantage, w.clamp(1 - low, 1 + high) * advantage) for w in map(torch.exp, logs)]
            gaps = [batch["ref_log_probs"][b, t] - batch["log_probs"][b, t] for t in members]
            kl = torch.stack([g.exp() - g - 1 for g in gaps]).mean()
            weight = 1 / K if list_tokens is None else len(members) / list_tokens
            total = total + weight * (beta * kl - torch.stack(terms).mean())
    return total / rows


def run(batch: dict[str, torch.Tensor], **options) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    tensors = {name: batch[name] for name in ("log_probs", "old_log_probs", "unit_ids", "mask", "advantages")}
    return rank_grpo_loss(**tensors, num_ranks=K, epsilon_low=0.06, epsilon_high=0.08, **options)


@given(st.integers(0, 10_000), st.sampled_from(RATIOS), st.sampled_from([None, 5.5]))
def test_loss_and_gradient_agree_with_loops(seed: int, ratio: str, list_tokens: float | None) -> None:
    batch = random_batch(seed)
    batch["log_probs"].requires_grad_()
    loss, _ = run(batch, ratio=ratio, ref_log_probs=batch["ref_log_probs"], beta=0.3, list_tokens=list_tokens)
    (gradient,) = torch.autograd.grad(loss, batch["log_probs"])
    expected = reference_loss(batch, ratio, 0.06, 0.08, 0.3, list_tokens)
    (expected_gradient,) = torch.autograd.grad(expected, batch["log_probs"])
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-9)


def test_worked_example() -> None:
    # One list, two ranks: two tokens (ratio e^0.05, unclipped) and one token (ratio e^0.2, clipped at 1.08).
    log_probs = torch.tensor([[0.1, 0.0, 0.2]], dtype=torch.float64)
    loss, metrics = rank_grpo_loss(
        log_probs,
        torch.zeros_like(log_probs),
        torch.tensor([[0, 0, 1]]),
        torch.ones(1, 3),
        torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64),
        num_ranks=2,
        epsilon_low=0.06,
        epsilon_high=0.08,
    )
    assert loss.item() == pytest.approx(-(2 * math.exp(0.05) + 1.08) / 2)
    assert metrics["clipped"][0].tolist() == [0, 1, 0]
    assert metrics["present"][0].tolist() == [True, True, False]


@given(st.integers(0, 1000), st.sampled_from([None, 5.5]))
def test_on_policy_rank_and_token_ratio_have_the_same_gradient(seed: int, list_tokens: float | None) -> None:
    """Under either aggregation, of ranks and of tokens."""
    batch = random_batch(seed)
    gradients = []
    for ratio in ("rank", "token"):
        log_probs = batch["log_probs"].clone().requires_grad_()
        on_policy = {**batch, "log_probs": log_probs, "old_log_probs": log_probs.detach()}
        loss, _ = run(on_policy, ratio=ratio, list_tokens=list_tokens)
        gradients.append(torch.autograd.grad(loss, log_probs)[0])
    torch.testing.assert_close(*gradients)


@given(st.integers(0, 1000))
def test_on_policy_the_same_holds_where_tokens_are_averaged(seed: int) -> None:
    """The released code spreads the ratio of a rank over its tokens; TRL's loss gives each token its own."""
    batch = random_batch(seed)
    unit_ids, mask, advantages = batch["unit_ids"], batch["mask"], batch["advantages"]
    log_probs = batch["log_probs"].requires_grad_()
    log_ratio = log_probs - log_probs.detach()
    spread = place_units(rank_log_ratio(log_ratio, unit_ids, mask, advantages.shape[1]), unit_ids)
    gradients = [
        torch.autograd.grad((ratio.exp() * place_units(advantages, unit_ids) * mask).sum() / mask.sum(), log_probs)[0]
        for ratio in (spread, log_ratio)
    ]
    torch.testing.assert_close(*gradients)


@given(st.integers(0, 1000))
def test_on_policy_the_ratio_of_a_list_leaves_its_ranks_only_their_mean(seed: int) -> None:
    batch = random_batch(seed)
    _, metrics = run(batch)
    present = metrics["present"]
    mean = (batch["advantages"] * present).sum(1, keepdim=True) / present.sum(1, keepdim=True)
    gradients = []
    for advantages in (batch["advantages"], mean.expand_as(batch["advantages"])):
        log_probs = batch["log_probs"].clone().requires_grad_()
        on_policy = {**batch, "log_probs": log_probs, "old_log_probs": log_probs.detach(), "advantages": advantages}
        gradients.append(torch.autograd.grad(run(on_policy, ratio="sequence")[0], log_probs)[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("list_tokens", "heavier"), [(None, 1), (11.0, 10)])
def test_long_titles_weigh_no_more_than_short_ones_unless_tokens_weigh_alike(
    list_tokens: float | None, heavier: int
) -> None:
    log_probs = torch.zeros(1, 11, dtype=torch.float64, requires_grad=True)
    unit_ids = torch.tensor([[0] + [1] * 10])
    loss, _ = rank_grpo_loss(
        log_probs,
        log_probs.detach(),
        unit_ids,
        torch.ones(1, 11),
        torch.ones(1, 3, dtype=torch.float64),
        num_ranks=2,
        epsilon_low=0.06,
        epsilon_high=0.08,
        list_tokens=list_tokens,
    )
    (gradient,) = torch.autograd.grad(loss, log_probs)
    assert gradient[0, 1:].sum().item() == pytest.approx(heavier * gradient[0, 0].item())


@given(st.integers(0, 1000), st.sampled_from([1, 2, 4]), st.sampled_from(RATIOS), st.sampled_from([None, 5.5]))
def test_micro_batches_add_up_to_the_batch(seed: int, accumulation: int, ratio: str, list_tokens: float | None) -> None:
    """The mean over tokens (bnpo) does not have this: each micro-batch divides by tokens of its own."""
    batch = random_batch(seed)
    log_probs = batch["log_probs"].requires_grad_()

    def accumulated(loss) -> torch.Tensor:
        parts = [{name: values[i::accumulation] for name, values in batch.items()} for i in range(accumulation)]
        return torch.autograd.grad(sum(loss(part) for part in parts) / accumulation, log_probs)[0]

    def ours(part: dict[str, torch.Tensor]) -> torch.Tensor:
        options = {"ratio": ratio, "list_tokens": list_tokens, "beta": 0.3}
        return run(part, ref_log_probs=part["ref_log_probs"], **options)[0]

    whole = torch.autograd.grad(ours(batch), log_probs)[0]
    torch.testing.assert_close(accumulated(ours), whole, rtol=1e-9, atol=1e-12)


def test_missing_rank_adds_nothing_and_the_denominator_stays() -> None:
    batch = random_batch(3)
    half = {name: values[:2] for name, values in batch.items()}, {name: values[2:] for name, values in batch.items()}
    whole, _ = run(batch)
    torch.testing.assert_close(whole, sum(run(part)[0] for part in half) / 2)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("list_tokens", [None, 5.5])
def test_tokens_that_do_not_count_change_nothing(ratio: str, list_tokens: float | None) -> None:
    """A list that is left out of the loss keeps its units; what a model says of such tokens and of padding is junk."""
    batch = random_batch(3)
    others = {name: values[1:] for name, values in batch.items()}
    mask = batch["mask"].clone()
    mask[0] = 0
    junk = {name: batch[name].masked_fill(mask == 0, -math.inf) for name in ("log_probs", "ref_log_probs")}
    left_out, expected = (
        run(some, ratio=ratio, list_tokens=list_tokens, ref_log_probs=some["ref_log_probs"], beta=0.3)
        for some in ({**batch, **junk, "mask": mask}, others)
    )
    torch.testing.assert_close(left_out[0], expected[0] * 3 / 4)
    assert not left_out[1]["present"][0].any()


def test_delta_limits_the_unclipped_ratio() -> None:
    arguments = {
        "log_probs": torch.tensor([[2.0]]),
        "old_log_probs": torch.tensor([[0.0]]),
        "unit_ids": torch.tensor([[0]]),
        "mask": torch.ones(1, 1),
        "advantages": torch.tensor([[-1.0, 0.0]]),
    }
    loss, metrics = rank_grpo_loss(**arguments, num_ranks=1, epsilon_low=0.1, epsilon_high=0.1, delta=3.0)
    assert loss.item() == pytest.approx(3.0)
    assert metrics["clipped"].tolist() == [[1.0, 0.0]], "there is no gradient left"
    _, metrics = rank_grpo_loss(**arguments, num_ranks=1, epsilon_low=0.1, epsilon_high=0.1, delta=8.0)
    assert metrics["clipped"].tolist() == [[0.0, 0.0]], "e^2 is below it"


def test_unit_weights_multiply_the_policy_term_only() -> None:
    batch = random_batch(5)
    weights = torch.zeros_like(batch["advantages"])
    loss, metrics = run(batch, unit_weights=weights, ref_log_probs=batch["ref_log_probs"], beta=1.0)
    assert loss.item() == pytest.approx((metrics["kl"] * metrics["present"]).sum().item() / (4 * K))


def test_the_kl_of_some_units_by_hand() -> None:
    # Two ranks of one and two tokens and the end token; the reference is 0, 1, 1 and 2 nats above the policy.
    k3 = [math.exp(gap) - gap - 1 for gap in (0.0, 1.0, 2.0)]
    arguments = {
        "log_probs": torch.zeros(1, 4, dtype=torch.float64, requires_grad=True),
        "old_log_probs": torch.zeros(1, 4, dtype=torch.float64),
        "unit_ids": torch.tensor([[0, 1, 1, 2]]),
        "mask": torch.ones(1, 4),
        "advantages": torch.zeros(1, 3, dtype=torch.float64),
        "ref_log_probs": torch.tensor([[0.0, 1.0, 1.0, 2.0]], dtype=torch.float64),
    }
    settings = {"num_ranks": 2, "epsilon_low": 0.06, "epsilon_high": 0.08, "beta": 0.5}
    for kl_units, counted in (
        (None, sum(k3)),
        (torch.tensor([[True, True, True]]), sum(k3)),
        (torch.tensor([[True, False, True]]), k3[0] + k3[2]),
        (torch.tensor([[False, True, False]]), k3[1]),
    ):
        loss, metrics = rank_grpo_loss(**arguments, **settings, kl_units=kl_units)
        assert loss.item() == pytest.approx(0.5 * counted / 2)  # still divided by B K = 2
        assert metrics["kl"][0].tolist() == pytest.approx(k3), "the log keeps what every unit has"
    (gradient,) = torch.autograd.grad(loss, arguments["log_probs"])
    each = 0.5 * (1 - math.e) / 2 / 2  # the unit's two tokens share its mean
    assert gradient[0].tolist() == pytest.approx([0, each, each, 0])


def test_log_ratio_is_the_mean_over_the_units_tokens() -> None:
    log_ratio = torch.tensor([[0.2, 0.4, 1.0, 9.0]])
    unit_ids, mask = torch.tensor([[0, 0, 2, -1]]), torch.tensor([[1, 1, 1, 0]])
    assert rank_log_ratio(log_ratio, unit_ids, mask, 3)[0].tolist() == pytest.approx([0.3, 0.0, 1.0])
    assert place_units(torch.tensor([[5.0, 6.0, 7.0]]), unit_ids)[0].tolist() == [5, 5, 7, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": "item"}, "ratio is 'item'"),
        ({"beta": 0.1}, "ref_log_probs is missing"),
    ],
)
def test_errors_teach(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(random_batch(0), **options)


def test_narrow_advantages_are_refused() -> None:
    batch = random_batch(0)
    with pytest.raises(ValueError, match=r"expected at least num_ranks \+ 1"):
        run({**batch, "advantages": batch["advantages"][:, :K]})
