# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Figures of dev pools: what the first stage missed is not ranked, but missed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from resrank import ResRank
from resrank_evals.collection import Passage
from resrank_training.dev import DevPools
from resrank_training.lists import ListSet, TrainingList


def _set(passages: dict[str, Passage], *lists: TrainingList) -> ListSet:
    return ListSet("made", lists, passages, {}, "digest")


def test_the_pools_own_order_by_hand(passages: dict[str, Passage]) -> None:
    second = TrainingList("a", "cats", ("cats-0", "cats-1", "cats-2"), (None, 1, None))
    first = TrainingList("b", "bread", ("bread-0", "cats-1"), (1, None))
    found = DevPools([_set(passages, second, first)]).first_stage()
    assert found["made"] == pytest.approx((1 / math.log2(3) + 1) / 2)


def test_an_added_passage_is_missed(
    passages: dict[str, Passage], tiny_mini: Callable[..., ResRank], tmp_path: Path
) -> None:
    # The relevant passages are the third of the pool, and one that was added.
    missed = TrainingList("a", "cats", ("cats-0", "cats-1", "cats-2", "cats-3"), (None, None, 1, 1), pool=3)
    pools = DevPools([_set(passages, missed)])
    assert pools.first_stage()["made"] == pytest.approx((1 / math.log2(4)) / (1 + 1 / math.log2(3)))
    found = pools.measure(tiny_mini(), tmp_path, encoder_is_frozen=False)
    assert found["made"] <= 1 / (1 + 1 / math.log2(3)) + 1e-6
    only = TrainingList("a", "cats", ("cats-0", "cats-3"), (None, 1), pool=1)
    assert DevPools([_set(passages, only)]).measure(tiny_mini(), tmp_path, encoder_is_frozen=False)["made"] == 0


def test_a_frozen_encoders_vectors_are_kept_and_give_the_same(
    passages: dict[str, Passage], tiny_mini: Callable[..., ResRank], make_lists: Callable, tmp_path: Path
) -> None:
    pools = DevPools([_set(passages, *make_lists(6))], candidates=5)
    fresh = pools.measure(tiny_mini(), tmp_path, encoder_is_frozen=False)
    assert not list(tmp_path.iterdir())
    kept = pools.measure(tiny_mini(), tmp_path, encoder_is_frozen=True)
    assert len(list(tmp_path.glob("made-*.npy"))) == 2
    assert kept == pytest.approx(fresh)
    assert set(kept) == {f"{name}{kind}" for name in ("made", "ndcg@10") for kind in ("", "_pure", "_dense")}
    shuffled = DevPools([_set(passages, *make_lists(6))], candidates=5, shuffled=True)
    assert shuffled.measure(tiny_mini(), tmp_path, encoder_is_frozen=True) == pytest.approx(kept)


def test_without_evidence_the_dense_lists_candidates_are_ranked(
    passages: dict[str, Passage], tiny_mini: Callable[..., ResRank], make_lists: Callable, tmp_path: Path
) -> None:
    """The dense list of these lists misses the first candidate."""
    model = tiny_mini()
    lists = make_lists(12)
    found = DevPools([_set(passages, *lists)]).measure(model, tmp_path, encoder_is_frozen=False)
    expected = []
    for each in lists:
        query = model.encode_queries([each.query])[0]
        cosines = model.encode_passages([passages[id_].content for id_ in each.passages[1:]]) @ query
        order = (-cosines).argsort().tolist()
        (right,) = each.positives
        expected.append(0.0 if right == 0 else 1 / math.log2(2 + order.index(right - 1)))
    assert found["made_dense"] == pytest.approx(sum(expected) / len(expected))
    assert 0 in [each.positives[0] for each in lists]
    # A safe start without evidence ranks by cosine.
    assert found["made_pure"] == pytest.approx(found["made_dense"])


def test_training_mode_is_left_as_it_was(
    passages: dict[str, Passage], tiny_mini: Callable[..., ResRank], make_lists: Callable, tmp_path: Path
) -> None:
    model = tiny_mini()
    model.reranker.train()
    DevPools([_set(passages, *make_lists(2))]).measure(model, tmp_path, encoder_is_frozen=True)
    assert (model.reranker.training, model.encoder.training) == (True, False)


def test_fewer_queries(passages: dict[str, Passage], make_lists: Callable) -> None:
    lists = make_lists(4)
    assert (
        DevPools([_set(passages, *lists)], queries=2).first_stage()
        == DevPools([_set(passages, *lists[:2])]).first_stage()
    )
    assert replace(lists[0], pool=3).first_stage(5) == 3
    assert lists[0].first_stage(5) == 5
