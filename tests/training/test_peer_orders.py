# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from resrank_training.lists import ListSet, TrainingList
from resrank_training.peers.orders import kept_candidates, some_lists, target_order, target_ranks

GRADED = TrainingList("q", "query", tuple("abcdef"), (None, 1, 0, 3, 1, None))


def test_without_a_teacher_positives_come_first():
    assert target_order(GRADED) == (3, 1, 4)
    assert target_order(GRADED, "pool") == (3, 1, 4, 0, 2, 5)
    assert target_ranks(GRADED) == (3, 1, 3, 0, 1, 3)  # equal grades tie
    assert target_ranks(GRADED, "pool") == (3, 1, 4, 0, 1, 5)


@pytest.mark.parametrize("unjudged", ["tied", "pool"])
def test_a_teachers_order_stands(unjudged):
    taught = GRADED.ranked((2, 0, 5))
    assert target_order(taught, unjudged) == (2, 0, 5)
    assert target_ranks(taught, unjudged) == (1, 3, 0, 3, 3, 2)


def test_best_and_positives_are_kept():
    assert kept_candidates(GRADED, 4) == [3, 1, 4, 0]
    assert kept_candidates(GRADED.ranked((5, 0)), 5) == [5, 1, 3, 4, 0]
    assert kept_candidates(GRADED, 9) == [3, 1, 4, 0, 2, 5]


def test_some_lists_are_drawn_from_all_sets():
    def lists(name: str, count: int) -> ListSet:
        return ListSet(name, tuple(TrainingList(f"{name}{i}", "q", ("a",), (1,)) for i in range(count)), {}, {}, name)

    sets = [lists("x", 30), lists("y", 10)]
    assert some_lists(sets, None, 0) == sets
    assert some_lists(sets, 40, 0) == sets
    drawn = some_lists(sets, 20, 0)
    assert drawn == some_lists(sets, 20, 0) != some_lists(sets, 20, 1)
    assert sum(len(of.lists) for of in drawn) == 20
    assert 10 <= len(drawn[0].lists) < 20
    assert [of.digest for of in drawn] == ["x", "y"]
    for of, whole in zip(drawn, sets, strict=True):
        assert [each for each in whole.lists if each in of.lists] == list(of.lists)
