"""The Rank-GRPO objective in pure torch: rank ratios, and the loss of arXiv 2510.20150, eq. 6, 7 and 9.

`B` completions of `T` tokens, `K` ranks, and `U` units: the K ranks, the end token, then one unit for each line beyond
rank K. Unit ids come from `segment_ranks`, advantages from `rank_advantages`.
"""

from __future__ import annotations

import torch
from torch import Tensor

RATIOS = ("rank", "token", "sequence")


def unit_mean(values: Tensor, unit_ids: Tensor, mask: Tensor, num_units: int) -> Tensor:
    """`(B, T)` -> `(B, U)`: mean over the tokens of each unit, 0 for a unit that is absent."""
    weights = mask.to(values.dtype) * (unit_ids >= 0)
    index = unit_ids.clamp(min=0)
    zeros = values.new_zeros(values.shape[0], num_units)
    sums = zeros.scatter_add(1, index, values * weights)
    return sums / zeros.scatter_add(1, index, weights).clamp(min=1.0)


def unit_tokens(unit_ids: Tensor, mask: Tensor, num_units: int) -> Tensor:
    """`(B, U)` int64: how many tokens of each unit count."""
    counted = mask.bool() & (unit_ids >= 0)
    counts = torch.zeros(unit_ids.shape[0], num_units, dtype=torch.long, device=unit_ids.device)
    return counts.scatter_add(1, unit_ids.clamp(min=0), counted.long())


def unit_present(unit_ids: Tensor, mask: Tensor, num_units: int) -> Tensor:
    """`(B, U)` bool: does the list hold at least one token of the unit?"""
    return unit_tokens(unit_ids, mask, num_units) > 0


def place_units(values: Tensor, unit_ids: Tensor) -> Tensor:
    """`(B, U)` -> `(B, T)`: each token gets the value of its unit; padding gets 0."""
    return values.gather(1, unit_ids.clamp(min=0)) * (unit_ids >= 0)


def rank_log_ratio(log_ratio: Tensor, unit_ids: Tensor, mask: Tensor, num_units: int) -> Tensor:
    """The log importance ratio of each unit: the mean over its tokens (eq. 7, the ratio of geometric means).

    Args:
        log_ratio: `(B, T)`, log pi_theta - log pi_old of each token.
        unit_ids: `(B, T)` long, from `segment_ranks`.
        mask: `(B, T)`, 1 on the tokens that count.
        num_units: U.

    Returns:
        `(B, U)`; 0, a ratio of 1, for a unit that is absent.
    """
    return unit_mean(log_ratio, unit_ids, mask, num_units)


def rank_grpo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    unit_ids: Tensor,
    mask: Tensor,
    advantages: Tensor,
    *,
    num_ranks: int,
    epsilon_low: float,
    epsilon_high: float,
    ratio: str = "rank",
    delta: float | None = None,
    unit_weights: Tensor | None = None,
    ref_log_probs: Tensor | None = None,
    beta: float = 0.0,
    kl_units: Tensor | None = None,
    list_tokens: Tensor | float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped Rank-GRPO loss (eq. 6) with its KL term.

    `loss = -1/(B K) * sum over the units present of min(w A, clip(w) A) + beta * KL`. The denominator is the constant
    `B K`, so a rank that is missing adds 0, the end token and the overflow lines are further terms of the same weight,
    and the value does not depend on how a batch is cut into micro-batches of equal size. The KL is the k3 estimate,
    not multiplied by the ratio: a mean within each unit, then summed and divided in the same way.

    Args:
        log_probs: `(B, T)`, log-probabilities of the tokens under the policy; carries the gradient.
        old_log_probs: `(B, T)`, the same under the policy that sampled them.
        unit_ids: `(B, T)` long, from `segment_ranks`.
        mask: `(B, T)`, 1 on the tokens that count.
        advantages: `(B, U)`, U >= K + 1: ranks, end token, overflow lines.
        num_ranks: K.
        epsilon_low: the ratio is clipped at `1 - epsilon_low`.
        epsilon_high: and at `1 + epsilon_high`.
        ratio: `"rank"`, the geometric mean over the unit's tokens; `"token"`, each token its own (the clipped terms of
            a unit's tokens are averaged); `"sequence"`, the geometric mean over the whole list.
        delta: *optional*; upper limit of the unclipped ratio (two-sided clipping of arXiv 2505.07291).
        unit_weights: *optional* `(B, U)`; constants each unit's policy term is multiplied with (the correction for
            lists that were sampled by another engine).
        ref_log_probs: `(B, T)` under the reference policy; needed where `beta` is not 0.
        beta: weight of the KL term.
        kl_units: *optional* `(B, U)` bool; the units whose KL counts, all if left out. The denominator stays `B K`.
        list_tokens: *optional*; L, the mean number of tokens of a list. With it every token weighs `1/(B L)`, and so a
            rank as much as its title is long, where without it every unit weighs `1/(B K)`; advantages, ratios and KL
            of the units stay as they are. The released code of the paper weighs tokens alike.

    Returns:
        The loss, a scalar, and metrics without gradient, all `(B, U)`: `present` (bool), `ratio`, `clipped` (share of
        the unit's terms where clipping cut the gradient off) and, with a reference, `kl`, of every unit present.

    Raises:
        ValueError: for an unknown `ratio`, advantages that are too narrow, or a `beta` without reference.
    """
    if ratio not in RATIOS:
        raise ValueError(f"ratio is {ratio!r}; expected one of {', '.join(map(repr, RATIOS))}.")
    if advantages.shape[1] <= num_ranks:
        raise ValueError(
            f"advantages has {advantages.shape[1]} units; expected at least num_ranks + 1 = {num_ranks + 1}: "
            "one for each rank and one for the end token."
        )
    if beta != 0.0 and ref_log_probs is None:
        raise ValueError(f"beta is {beta}, but ref_log_probs is missing: the KL term needs the reference policy.")

    batch, num_units = advantages.shape
    tokens = unit_tokens(unit_ids, mask, num_units)
    present = tokens > 0
    # What each unit weighs in the sum over the batch, which is then divided by B.
    share = present.to(log_probs) / num_ranks if list_tokens is None else tokens.to(log_probs) / list_tokens
    counts = mask.bool()  # padding may hold anything, -inf too
    log_ratio = torch.where(counts, log_probs - old_log_probs, 0.0)

    if ratio == "token":
        terms, clipped = _clipped_terms(
            log_ratio.exp(), place_units(advantages, unit_ids), epsilon_low, epsilon_high, delta
        )
        unit_ratio = unit_mean(log_ratio.exp(), unit_ids, mask, num_units)
        unit_terms = unit_mean(terms, unit_ids, mask, num_units)
        clipped = unit_mean(clipped, unit_ids, mask, num_units)
    else:
        if ratio == "rank":
            log_unit_ratio = rank_log_ratio(log_ratio, unit_ids, mask, num_units)
        else:
            log_unit_ratio = log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        unit_ratio = log_unit_ratio.expand(batch, num_units).exp()
        unit_terms, clipped = _clipped_terms(unit_ratio, advantages, epsilon_low, epsilon_high, delta)

    if unit_weights is not None:
        unit_terms = unit_terms * unit_weights
    loss = -(unit_terms * share).sum() / batch
    metrics = {"present": present, "ratio": unit_ratio.detach(), "clipped": clipped}

    if ref_log_probs is not None:
        gap = torch.where(counts, ref_log_probs - log_probs, 0.0)
        kl = unit_mean(gap.exp() - gap - 1, unit_ids, mask, num_units)
        metrics["kl"] = kl.detach()
        loss = loss + beta * (kl * (share if kl_units is None else share * kl_units)).sum() / batch
    return loss, metrics


def _clipped_terms(
    ratio: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float, delta: float | None
) -> tuple[Tensor, Tensor]:
    """The pessimistic term `min(w A, clip(w) A)` and, as floats 0/1, where it no longer depends on the policy."""
    cut_off = ((ratio < 1 - epsilon_low) & (advantages < 0)) | ((ratio > 1 + epsilon_high) & (advantages > 0))
    limited = ratio
    if delta is not None:
        limited = ratio.clamp(max=delta)
        cut_off = cut_off | ((ratio > delta) & (advantages < 0))
    terms = torch.minimum(limited * advantages, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * advantages)
    return terms, cut_off.to(ratio.dtype)
