# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The prior's weights, against an independent regression."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resrank.evidence import FEATURES
from resrank.head import PRIOR_SCALE, SCORE_SCALE, Head
from resrank.matching import MATCHES
from resrank_training.calibrating import calibrate
from resrank_training.lists import TrainingList

LEXICAL, DENSE = 5.0, 7.0  # what the judgments of `lists` are drawn with
MATCHED = 6.0


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
        features = np.full((size, len(FEATURES)), np.nan, dtype=np.float32)  # nobody gave the texts
        features[:, :3] = np.stack([bm25, cosine, rrf], axis=1)
        features[:, 3:5] = 0.0
        made.append(TrainingList(f"q{number}", "query", tuple(f"p{row}" for row in range(size)), grades, features))
    return made


def naive_loss(weights, lists):
    total = 0.0
    for each in lists:
        bm25, cosine, rrf = (each.evidence[:, column].astype(np.float64) for column in (0, 1, 2))
        scores = weights[0] * np.log(rrf) + weights[1] * bm25 + weights[2] * cosine
        (relevant,) = [row for row, grade in enumerate(each.grades) if grade]
        total += np.log(np.exp(scores).sum()) - scores[relevant]
    return total / len(lists) + 4e-4 * float(np.square(weights).sum())


def test_finds_the_weights_that_the_judgments_were_drawn_with(lists):
    head = Head("evidence", 4, 4)
    told = calibrate(head, lists)
    found = [head.prior_scale.item(), *head.prior_weights.tolist()]
    assert found[0] == 0
    assert found[1] == pytest.approx(LEXICAL, abs=0.5)
    assert found[2] == pytest.approx(DENSE, abs=0.5)
    texts = head.text_weights.tolist()
    # The same shift for all candidates: matches that nobody knows teach nothing.
    assert [*found[3:], *texts[1:]] == pytest.approx([0.0] * 10, abs=1e-4)
    first, others = (
        " + ".join(f"{weight:.2f} {name}" for weight, name in zip(weights, names, strict=True))
        for weights, names in (
            (found[1:], ["BM25", "cosine", *MATCHES]),
            (texts, ["cosine", *MATCHES]),
        )
    )
    assert told == f"the prior is {first}; without a first stage {others}; from 1,500 lists"
    found = found[:3]
    # No step in any direction is better: the minimum of an independent loss.
    least = naive_loss(np.array(found), lists)
    for direction in np.concatenate([np.eye(3)[1:], -np.eye(3)[1:]]):
        assert naive_loss(np.array(found) + 0.2 * direction, lists) > least
    # Nor with the cosine alone.
    least = naive_loss(np.array([0.0, 0.0, texts[0]]), lists)
    for step in (0.2, -0.2):
        assert naive_loss(np.array([0.0, 0.0, texts[0] + step]), lists) > least
    for weights in (head.prior_weights, head.text_weights):
        assert weights.requires_grad
        assert weights.grad is None


def test_lists_without_evidence_or_judgments_say_nothing(lists):
    bare = [
        TrainingList("a", "query", ("p0", "p1"), (1, None), None),
        TrainingList("b", "query", ("p0", "p1"), (0, None), lists[0].evidence[:2]),
    ]
    head = Head("evidence", 4, 4)
    assert calibrate(head, bare) == "no list has evidence and judgments: the prior stays RRF's"
    assert (head.prior_scale.item(), head.prior_weights.tolist()) == (PRIOR_SCALE, [0.0] * 7)
    assert head.text_weights.tolist() == [SCORE_SCALE, *[0.0] * 5]
    assert head.is_safe_start
    alone, beside = Head("evidence", 4, 4), Head("evidence", 4, 4)
    calibrate(alone, lists[:200])
    calibrate(beside, lists[:200] + bare)
    assert torch.equal(alone.prior_weights, beside.prior_weights)
    assert torch.equal(alone.text_weights, beside.text_weights)


@pytest.mark.parametrize("sign", [1, -1])
def test_log_rrf_is_given_no_weight(lists, sign):
    """Whether the fused order says what the scores say or the opposite: they alone count."""
    changed = []
    for each in lists:
        features = each.evidence.copy()
        features[:, 2] = np.exp(sign * 3 * features[:, 0] - 3)
        changed.append(replace(each, evidence=features))
    head = Head("evidence", 4, 4)
    calibrate(head, changed)
    assert head.prior_scale.item() == 0
    assert head.prior_weights.tolist() == pytest.approx([LEXICAL, DENSE, *[0.0] * 5], abs=0.5)


def test_a_share_of_the_matches_lies_between_the_weights_without_and_with_them(lists):
    rng = np.random.default_rng(3)
    matched = []
    for each in lists[:300]:
        features = each.evidence.copy()
        features[:, 5:] = 0.5 * rng.random((len(features), 5)) + 0.5 * features[:, :1]  # words say what BM25 says
        matched.append(replace(each, evidence=features))
    heads = {share: Head("evidence", 4, 4) for share in (0.0, 0.25, 1.0)}
    for share, head in heads.items():
        calibrate(head, matched, share)
    without, quarter, whole = (head.prior_weights.detach() for head in heads.values())
    assert without[2:].tolist() == pytest.approx([0.0] * 5, abs=1e-4)
    assert without[0] > whole[0] + 0.2
    torch.testing.assert_close(quarter, without.lerp(whole, 0.25), atol=0.02, rtol=0)
    bare = Head("evidence", 4, 4)
    calibrate(bare, lists[:300])
    torch.testing.assert_close(without[:2], bare.prior_weights.detach()[:2], atol=0.02, rtol=0)
    assert torch.equal(heads[0.0].text_weights, heads[1.0].text_weights)


@pytest.mark.parametrize("deciding", range(5), ids=MATCHES)
def test_matches_decide_where_they_alone_do(lists, deciding):
    """The relevant candidate is drawn by one match alone; scores and the other matches say nothing."""
    rng = np.random.default_rng(deciding)
    drawn = []
    for each in lists:
        features = each.evidence.copy()
        features[:, 5:] = rng.random((len(features), 5))
        chance = np.exp(MATCHED * features[:, 5 + deciding])
        relevant = rng.choice(len(features), p=chance / chance.sum())
        grades = tuple(int(row == relevant) for row in range(len(features)))
        drawn.append(replace(each, evidence=features, grades=grades))
    head = Head("evidence", 4, 4)
    told = calibrate(head, drawn)
    expected = [MATCHED if row == 2 + deciding else 0.0 for row in range(7)]
    assert head.prior_scale.item() == 0
    assert head.prior_weights.tolist() == pytest.approx(expected, abs=0.5)
    assert head.text_weights.tolist() == pytest.approx(expected[1:], abs=0.5)
    assert f" + {head.prior_weights[2 + deciding].item():.2f} {MATCHES[deciding]}" in told


def test_a_candidate_without_text_counts_as_one_that_matches_nothing(lists):
    rng = np.random.default_rng(0)
    zero, unknown = [], []
    for each in lists[:200]:
        features = each.evidence.copy()
        features[:, 5:] = rng.random((len(features), 5))
        for row, of in ((0.0, zero), (np.nan, unknown)):
            features = features.copy()
            features[::4, 5:] = row
            of.append(replace(each, evidence=features))
    heads = [Head("evidence", 4, 4) for _ in range(2)]
    for head, of in zip(heads, (zero, unknown), strict=True):
        calibrate(head, of)
    assert torch.equal(heads[0].prior_weights, heads[1].prior_weights)
    assert heads[0].prior_weights[2:].all()
    assert torch.equal(heads[0].text_weights, heads[1].text_weights)
    assert heads[0].text_weights.all()
