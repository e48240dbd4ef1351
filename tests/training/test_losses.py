# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Each loss against a value computed by hand and a naive loop, with its gradient, masks and ties."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resrank_training.losses import info_nce, list_mle, list_softmax, multi_task, rank_net

RANKING = (rank_net, list_mle)


def _random(seed: int, lists: int = 3, candidates: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, candidates, generator=generator)
    ranks = torch.randint(0, 4, (lists, candidates), generator=generator)
    mask = torch.rand(lists, candidates, generator=generator) < 0.8
    mask[:, 0] = True
    return scores, ranks, mask


# ------------------------------------------------------------------------------------------------------- naive loops
def naive_info_nce(s: torch.Tensor, positives: torch.Tensor, ignored: torch.Tensor, temperature: float) -> float:
    queries = []
    for q in range(len(s)):
        negatives = [math.exp(s[q, j] / temperature) for j in range(s.shape[1]) if not positives[q, j] | ignored[q, j]]
        own = [math.exp(s[q, j] / temperature) for j in range(s.shape[1]) if positives[q, j]]
        if own:
            queries.append(sum(-math.log(p / (p + sum(negatives))) for p in own) / len(own))
    return sum(queries) / len(queries) if queries else 0.0


def naive_rank_net(s: torch.Tensor, r: torch.Tensor, m: torch.Tensor, temperature: float, reciprocal: bool) -> float:
    lists = []
    for row in range(len(s)):
        real = [j for j in range(s.shape[1]) if m[row, j]]
        place = {j: 1 + sum(1 for k in real if r[row, k] < r[row, j]) for j in real}
        pairs = [(i, j) for i in real for j in real if r[row, i] < r[row, j]]
        weights = [1 / (place[i] + place[j]) if reciprocal else 1.0 for i, j in pairs]
        values = [math.log1p(math.exp(-float(s[row, i] - s[row, j]) / temperature)) for i, j in pairs]
        if pairs:
            lists.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return sum(lists) / len(lists) if lists else 0.0


def naive_list_mle(s: torch.Tensor, r: torch.Tensor, m: torch.Tensor, temperature: float) -> float:
    lists = []
    for row in range(len(s)):
        real = [j for j in range(s.shape[1]) if m[row, j]]
        last = max(int(r[row, j]) for j in real)
        terms = []
        for i in real:
            if r[row, i] < last:
                rest = sum(math.exp(s[row, j] / temperature) for j in real if r[row, j] >= r[row, i])
                terms.append(-math.log(math.exp(s[row, i] / temperature) / rest))
        if terms:
            lists.append(sum(terms) / len(terms))
    return sum(lists) / len(lists) if lists else 0.0


def naive_list_softmax(s: torch.Tensor, t: torch.Tensor, m: torch.Tensor, temperature: float) -> float:
    lists = []
    for row in range(len(s)):
        real = [j for j in range(s.shape[1]) if m[row, j]]
        total = sum(float(t[row, j]) for j in real)
        if total > 0:
            below = sum(math.exp(s[row, j] / temperature) for j in real)
            shares = [(float(t[row, j]) / total, math.exp(s[row, j] / temperature) / below) for j in real]
            lists.append(-sum(share * math.log(p) for share, p in shares))
    return sum(lists) / len(lists) if lists else 0.0


# ---------------------------------------------------------------------------------------------------------- by hand
def test_info_nce_by_hand() -> None:
    # tau = 1: -log(e^2 / (e^2 + e^1 + e^0)) = 0.40760596
    loss = info_nce(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[True, False, False]]), temperature=1.0)
    assert loss.item() == pytest.approx(0.40760596)


def test_rank_net_by_hand() -> None:
    # The only ordered pair has the difference -1: log(1 + e) = 1.31326169; at temperature 0.5, log(1 + e^2) = 2.12692801
    scores, ranks = torch.tensor([[0.0, 1.0]]), torch.tensor([[0, 1]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert rank_net(scores, ranks, mask).item() == pytest.approx(1.31326169)
    assert rank_net(scores, ranks, mask, temperature=0.5).item() == pytest.approx(2.12692801)


def test_rank_net_with_reciprocal_weights_by_hand() -> None:
    # Pairs (1,2), (1,3), (2,3) weigh 1/3, 1/4, 1/5 and differ by 1, 2, 1:
    # (0.31326169 / 3 + 0.12692801 / 4 + 0.31326169 / 5) / (47 / 60) = 0.25373...
    scores, ranks = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0, 1, 2]])
    expected = (0.31326169 / 3 + 0.12692801 / 4 + 0.31326169 / 5) / (47 / 60)
    loss = rank_net(scores, ranks, torch.ones(1, 3, dtype=torch.bool), weights="reciprocal")
    assert loss.item() == pytest.approx(expected)


def test_list_mle_by_hand() -> None:
    # Order 0, 1, 2 with equal scores: (log 3 + log 2) / 2, the last one needs no drawing.
    loss = list_mle(torch.zeros(1, 3), torch.tensor([[0, 1, 2]]), torch.ones(1, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx((math.log(3) + math.log(2)) / 2)


def test_list_softmax_by_hand() -> None:
    # Targets 3 : 1 and scores log 3 : log 1 agree: the entropy of (3/4, 1/4) = 0.56233514
    scores, targets = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[3.0, 1.0]])
    loss = list_softmax(scores, targets, torch.ones(1, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(0.56233514)


# --------------------------------------------------------------------------------------------- against naive loops
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([0.1, 0.5, 1.0]))
def test_naive_references(seed: int, temperature: float) -> None:
    scores, ranks, mask = _random(seed)
    for weights in ("equal", "reciprocal"):
        found = rank_net(scores, ranks, mask, temperature=temperature, weights=weights)
        expected = naive_rank_net(scores, ranks, mask, temperature, weights == "reciprocal")
        assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    found = list_mle(scores, ranks, mask, temperature=temperature)
    assert found.item() == pytest.approx(naive_list_mle(scores, ranks, mask, temperature), rel=1e-4, abs=1e-6)
    targets = torch.relu(ranks.float() - 1)
    found = list_softmax(scores, targets, mask, temperature=temperature)
    assert found.item() == pytest.approx(naive_list_softmax(scores, targets, mask, temperature), rel=1e-4, abs=1e-6)
    positives, ignored = ranks == 0, ranks == 3
    found = info_nce(torch.tanh(scores), positives, ignored, temperature=temperature)
    expected = naive_info_nce(torch.tanh(scores), positives, ignored, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


# ------------------------------------------------------------------------------------------------------- properties
@pytest.mark.parametrize("loss", RANKING)
def test_gradients_push_the_better_candidate_up(loss: Callable[..., torch.Tensor]) -> None:
    scores = torch.zeros(1, 3, requires_grad=True)
    loss(scores, torch.tensor([[1, 0, 1]]), torch.ones(1, 3, dtype=torch.bool)).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] < 0 < min(scores.grad[0, 0], scores.grad[0, 2])


@pytest.mark.parametrize("loss", RANKING)
def test_padding_changes_nothing(loss: Callable[..., torch.Tensor]) -> None:
    scores, ranks, mask = _random(3)
    wild = torch.where(mask, scores, 1e4)
    other_ranks = torch.where(mask, ranks, -7)
    assert loss(wild, other_ranks, mask).item() == pytest.approx(loss(scores, ranks, mask).item(), rel=1e-5)


@pytest.mark.parametrize("loss", RANKING)
def test_nothing_to_order_is_zero_with_zero_gradient(loss: Callable[..., torch.Tensor]) -> None:
    scores = torch.randn(2, 4, requires_grad=True)
    found = loss(scores, torch.zeros(2, 4, dtype=torch.long), torch.tensor([[True] * 4, [False] * 4]))
    found.backward()
    assert found.item() == 0
    assert scores.grad is not None
    assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_no_positive_is_zero_with_zero_gradient() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    for found_of in (
        lambda s: info_nce(s, nothing),
        lambda s: info_nce(s, nothing, ~nothing),
        lambda s: list_softmax(s, torch.zeros(2, 3), ~nothing),
        lambda s: list_softmax(s, torch.ones(2, 3), nothing),
    ):
        scores = torch.randn(2, 3, requires_grad=True)
        found = found_of(scores)
        found.backward()
        assert found.item() == 0
        assert scores.grad is not None
        assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_only_positives_give_no_loss_and_finite_gradients() -> None:
    similarities = torch.randn(2, 3, requires_grad=True)
    loss = info_nce(similarities, torch.ones(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert similarities.grad is not None
    assert bool(torch.isfinite(similarities.grad).all())


def test_other_positives_are_no_negatives() -> None:
    similarities = torch.tensor([[0.9, 0.8, 0.1]])
    one = info_nce(similarities[:, [0, 2]], torch.tensor([[True, False]]))
    other = info_nce(similarities[:, [1, 2]], torch.tensor([[True, False]]))
    both = info_nce(similarities, torch.tensor([[True, True, False]]))
    assert both.item() == pytest.approx((one.item() + other.item()) / 2)


def test_ignored_passages_do_not_count() -> None:
    similarities = torch.tensor([[0.9, 0.95, 0.1]])
    ignored = torch.tensor([[False, True, False]])
    with_it = info_nce(similarities, torch.tensor([[True, False, False]]), ignored)
    without = info_nce(similarities[:, [0, 2]], torch.tensor([[True, False]]))
    assert with_it.item() == pytest.approx(without.item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_dtypes_are_computed_in_float32(dtype: torch.dtype) -> None:
    scores, ranks, mask = _random(5)
    scores = scores.to(dtype)
    for loss in (rank_net, list_mle):
        found = loss(scores, ranks, mask, temperature=0.1)
        assert found.dtype == torch.float32
        assert found.item() == loss(scores.float(), ranks, mask, temperature=0.1).item()
    assert info_nce(scores, ranks == 0).dtype == torch.float32
    assert list_softmax(scores, ranks, mask).dtype == torch.float32


def test_large_scores_stay_finite() -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    ranks, mask = torch.tensor([[2, 0, 1]]), torch.ones(1, 3, dtype=torch.bool)
    total = rank_net(scores, ranks, mask) + list_mle(scores, ranks, mask) + list_softmax(scores, ranks, mask)
    total.backward()
    assert math.isfinite(total.item())
    assert scores.grad is not None
    assert bool(torch.isfinite(scores.grad).all())


def test_multi_task_is_the_weighted_sum() -> None:
    losses = {"info_nce": torch.tensor(0.5), "rank_net": torch.tensor(0.25)}
    assert multi_task(losses, {"info_nce": 1.0, "rank_net": 2.0}).item() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="expected one weight a loss"):
        multi_task(losses, {"info_nce": 1.0})


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperatures_are_positive(temperature: float) -> None:
    scores, ranks, mask = _random(1)
    with pytest.raises(ValueError, match="a temperature must be positive"):
        rank_net(scores, ranks, mask, temperature=temperature)
