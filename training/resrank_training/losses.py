# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Losses as pure functions: similarities or scores in, a float32 scalar out, whatever dtype came in.

| loss | reads | each list counts |
|---|---|---|
| `info_nce` | similarities of queries and all passages of the step, which of them are positives | once |
| `rank_net` | scores, ranks (pairs with different ranks) | once: the mean over its pairs |
| `list_mle` | scores, ranks (a full or partial order) | once: the mean over the ranked candidates |
| `list_softmax` | scores, target weights (grades) | once |

A list that a loss can say nothing about (no positive, all ranks tied) is left out of the mean; when all are, the loss
is zero, with a zero gradient. Ranks are any numbers, smaller is better, equal is tied. Padding is masked out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

LOSSES = ("info_nce", "rank_net", "list_mle", "list_softmax")
PairWeights = Literal["equal", "reciprocal"]

# Stands for minus infinity, whose gradient through an empty softmax would be NaN.
_NOTHING = -1e9


def info_nce(
    similarities: torch.Tensor,
    positives: torch.Tensor,
    ignored: torch.Tensor | None = None,
    *,
    temperature: float = 0.03,
) -> torch.Tensor:
    """
    Contrast each positive with all other passages of the step.

    Each positive stands alone against the negatives; the query's other positives are in neither. Source: van den Oord
    et al., arXiv 1807.03748, Eq. 4, with in-batch and list negatives and tau = 0.03 as in E2Rank, arXiv 2510.22733.

    :param similarities: (queries, passages) cosines.
    :param positives: (queries, passages) bool.
    :param ignored: (queries, passages) bool; passages that are no negatives of a query though they are not its
        positives, e.g. judged duplicates.
    :param temperature: tau; smaller looks harder at the hardest negatives.
    :returns: the mean over queries that have a positive.
    """
    logits = similarities.float() / _positive(temperature)
    excluded = positives if ignored is None else positives | ignored
    negatives = torch.logsumexp(logits.masked_fill(excluded, _NOTHING), dim=-1, keepdim=True)
    per_positive = torch.logaddexp(logits, negatives) - logits
    per_query = _masked_mean(per_positive, positives)
    return _masked_mean(per_query, positives.any(dim=-1), dim=0)


def rank_net(
    scores: torch.Tensor,
    ranks: torch.Tensor,
    mask: torch.Tensor,
    *,
    temperature: float = 1.0,
    weights: PairWeights = "equal",
) -> torch.Tensor:
    """
    Logistic loss of every pair that the target orders.

    Source: Burges et al. 2005, Eq. 3; in ResRank, arXiv 2604.22180, with weight lambda = 2 beside InfoNCE. Unlike
    `list_mle` it only asks for the order of pairs, so ties and partial orders need no care.

    :param scores: (lists, candidates).
    :param ranks: (lists, candidates); smaller is better.
    :param mask: (lists, candidates) bool, false for padding.
    :param temperature: divides the differences of scores: 0.1 suits cosines, 1 logits.
    :param weights: `equal`, or `reciprocal`: 1 / (i + j) for the 1-based target positions i and j of a pair, which
        looks harder at the top (FIRST, arXiv 2406.15657, Eq. 4).
    :returns: the mean over lists with an ordered pair.
    """
    scores = scores.float() / _positive(temperature)
    ordered = (ranks.unsqueeze(-1) < ranks.unsqueeze(-2)) & mask.unsqueeze(-1) & mask.unsqueeze(-2)
    # (lists, better, worse)
    pairs = torch.nn.functional.softplus(scores.unsqueeze(-2) - scores.unsqueeze(-1))
    if weights == "reciprocal":
        position = 1.0 + ((ranks.unsqueeze(-2) < ranks.unsqueeze(-1)) & mask.unsqueeze(-2)).sum(dim=-1).float()
        weight = (1.0 / (position.unsqueeze(-1) + position.unsqueeze(-2))).masked_fill(~ordered, 0.0)
    else:
        weight = ordered.float()
    total = weight.sum(dim=(-1, -2))
    per_list = (pairs * weight).sum(dim=(-1, -2)) / total.clamp(min=torch.finfo(torch.float32).tiny)
    return _masked_mean(per_list, total > 0, dim=0)


def list_mle(
    scores: torch.Tensor, ranks: torch.Tensor, mask: torch.Tensor, *, temperature: float = 1.0
) -> torch.Tensor:
    """
    Negative log-likelihood of the target order under the Plackett-Luce model.

    Candidates that share the last rank are unordered among themselves: they are only drawn from, never drawn. Ties
    above the last rank are drawn one by one against each other and all below, whatever their order (as in Xia et al.
    2008, Eq. 6, with the tied ones left in each other's denominators).

    :param scores: (lists, candidates).
    :param ranks: (lists, candidates); smaller is better.
    :param mask: (lists, candidates) bool, false for padding.
    :param temperature: divides the scores.
    :returns: the mean over lists of the mean over drawn candidates.
    """
    scores = scores.float() / _positive(temperature)
    # (lists, drawn, from): candidate i is drawn from those that are not above it.
    below = (ranks.unsqueeze(-2) >= ranks.unsqueeze(-1)) & mask.unsqueeze(-2)
    last = ranks.masked_fill(~mask, _smallest(ranks)).amax(dim=-1, keepdim=True)
    drawn = (ranks < last) & mask
    rest = torch.logsumexp(scores.unsqueeze(-2).masked_fill(~below, _NOTHING), dim=-1)
    per_candidate = torch.where(drawn, rest, 0.0) - torch.where(drawn, scores, 0.0)
    return _masked_mean(_masked_mean(per_candidate, drawn), drawn.any(dim=-1), dim=0)


def list_softmax(
    scores: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, *, temperature: float = 1.0
) -> torch.Tensor:
    """
    Cross entropy of the softmax of scores with a target distribution over the list.

    Source: ListNet, Cao et al. 2007, Eq. 3 with top-one probabilities.

    :param scores: (lists, candidates).
    :param targets: (lists, candidates) weights of 0 or more, e.g. grades; divided by their sum.
    :param mask: (lists, candidates) bool, false for padding.
    :param temperature: divides the scores.
    :returns: the mean over lists whose targets are not all zero.
    """
    logits = (scores.float() / _positive(temperature)).masked_fill(~mask, _NOTHING)
    targets = targets.float().masked_fill(~mask, 0.0)
    total = targets.sum(dim=-1, keepdim=True)
    shares = targets / total.clamp(min=torch.finfo(torch.float32).tiny)
    log_shares = torch.log_softmax(logits, dim=-1).masked_fill(~mask, 0.0)
    return _masked_mean(-(shares * log_shares).sum(dim=-1), total.squeeze(-1) > 0, dim=0)


def multi_task(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """
    The weighted sum of losses.

    :param losses: by name.
    :param weights: by name; exactly those of `losses`.
    :returns: a scalar.
    :raises ValueError: when the names differ.
    """
    if set(losses) != set(weights) or not losses:
        msg = f"expected one weight a loss, got losses {sorted(losses)} and weights {sorted(weights)}"
        raise ValueError(msg)
    return torch.stack([weights[name] * loss.float() for name, loss in losses.items()]).sum()


def _masked_mean(values: torch.Tensor, mask: torch.Tensor, dim: int = -1) -> torch.Tensor:
    # where, not a product: what is masked may be infinite.
    return torch.where(mask, values, 0.0).sum(dim=dim) / mask.sum(dim=dim).clamp(min=1)


def _positive(temperature: float) -> float:
    if not temperature > 0:
        msg = f"a temperature must be positive, got {temperature}"
        raise ValueError(msg)
    return temperature


def _smallest(values: torch.Tensor) -> float | int:
    kind = torch.finfo if values.is_floating_point() else torch.iinfo
    return kind(values.dtype).min
