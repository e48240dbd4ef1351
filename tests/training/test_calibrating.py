# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The prior's weights, against an independent regression."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resrank.head import PRIOR_SCALE, Head
from resrank_training.calibrating import calibrate
from resrank_training.lists import TrainingList

LEXICAL, DENSE = 5.0, 9.0  # what the judgments of `lists` are drawn with


@pytest.fixture
def lists():
    """The relevant candidate of each list is drawn by a known weighted sum of its scores; RRF says nothing."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(1500):
        size = 20 if number % 2 else 30
        bm25, cosine, rrf = rng.random(size), rng.uniform(-0.2, 0.9, size), rng.uniform(0.3, 1.0, size)
        chance = np.exp(LEXICAL * bm25 + DENSE * cosine)
        relevant = rng.choice(size, p=chance / chance.sum())
        grades = tuple(1 if row == relevant else (None if row % 3 else 0) for row in range(size))
        nothing = np.zeros(size)
        features = np.stack([bm25, cosine, rrf, nothing, nothing], axis=1).astype(np.float32)
        made.append(TrainingList(f"q{number}", "query", tuple(f"p{row}" for row in range(size)), grades, features))
    return made


def naive_loss(weights, lists):
    total = 0.0
    for each in lists:
        bm25, cosine, rrf = (each.evidence[:, column].astype(np.float64) for column in (0, 1, 2))
        scores = weights[0] * np.log(rrf) + weights[1] * bm25 + weights[2] * cosine
        (relevant,) = [row for row, grade in enumerate(each.grades) if grade]
        total += np.log(np.exp(scores).sum()) - scores[relevant]
    return total / len(lists) + 1e-4 * float(np.square(weights).sum())


def test_finds_the_weights_that_the_judgments_were_drawn_with(lists):
    head = Head("evidence", 4, 4)
    told = calibrate(head, lists)
    found = [head.prior_scale.item(), *head.prior_weights.tolist()]
    assert found[0] == pytest.approx(0.0, abs=0.5)
    assert found[1] == pytest.approx(LEXICAL, abs=0.5)
    assert found[2] == pytest.approx(DENSE, abs=0.5)
    assert (
        told == f"the prior is {found[0]:.2f} log(RRF) + {found[1]:.2f} BM25 + {found[2]:.2f} cosine, from 1,500 lists"
    )
    # No step in any direction is better: the minimum of an independent loss.
    least = naive_loss(np.array(found), lists)
    for direction in np.concatenate([np.eye(3), -np.eye(3)]):
        assert naive_loss(np.array(found) + 0.2 * direction, lists) > least
    assert head.prior_weights.requires_grad
    assert head.prior_weights.grad is None


def test_lists_without_evidence_or_judgments_say_nothing(lists):
    bare = [
        TrainingList("a", "query", ("p0", "p1"), (1, None), None),
        TrainingList("b", "query", ("p0", "p1"), (0, None), lists[0].evidence[:2]),
    ]
    head = Head("evidence", 4, 4)
    assert calibrate(head, bare) == "no list has evidence and judgments: the prior stays RRF's"
    assert (head.prior_scale.item(), head.prior_weights.tolist()) == (PRIOR_SCALE, [0.0, 0.0])
    assert head.is_safe_start
    alone, beside = Head("evidence", 4, 4), Head("evidence", 4, 4)
    calibrate(alone, lists[:200])
    calibrate(beside, lists[:200] + bare)
    assert torch.equal(alone.prior_weights, beside.prior_weights)


def test_log_rrf_is_never_given_a_negative_weight(lists):
    """Judgments that go against the fused order teach the other two weights alone."""
    against = []
    for each in lists:
        features = each.evidence.copy()
        features[:, 2] = np.exp(-3 * features[:, 0])  # RRF is best where BM25 is worst
        against.append(replace(each, evidence=features))
    head = Head("evidence", 4, 4)
    calibrate(head, against)
    assert head.prior_scale.item() == 0
    assert head.prior_weights.tolist() == pytest.approx([LEXICAL, DENSE], abs=0.5)
