# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The order that a peer learns, and the candidates of a list that it learns it on.

The papers have a strong model's order of every list. Where a list has none, the judged positives come first, by grade;
what comes after them is ours (`Unjudged`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from resrank_training.lists import ListSet, TrainingList

Unjudged = Literal["tied", "pool"]
"""`tied`: below the positives, in no order. `pool`: in the order of the pool, the first stage as a weak teacher."""


def target_order(each: TrainingList, unjudged: Unjudged = "tied") -> tuple[int, ...]:
    """
    The order of a list.

    :param each: the list.
    :param unjudged: what comes after the positives where there is no teacher.
    :returns: indices of candidates, best first; those that it leaves out rank below, tied.
    """
    if each.ranking is not None:
        return each.ranking
    positives = tuple(sorted(each.positives, key=lambda i: -(each.grades[i] or 0)))
    if unjudged == "tied":
        return positives
    return positives + tuple(i for i in range(len(each.passages)) if i not in positives)


def target_ranks(each: TrainingList, unjudged: Unjudged = "tied") -> tuple[int, ...]:
    """
    The same order as ranks, equal grades tied.

    :param each: the list.
    :param unjudged: as in `target_order`.
    :returns: a rank a candidate, from 0; smaller is better.
    """
    order = target_order(each, unjudged)
    place = {row: rank for rank, row in enumerate(order)}
    ranks = [place.get(row, len(order)) for row in range(len(each.passages))]
    if each.ranking is None:
        for i in each.positives:
            ranks[i] = sum((each.grades[j] or 0) > (each.grades[i] or 0) for j in each.positives)
    return tuple(ranks)


def kept_candidates(each: TrainingList, most: int) -> list[int]:
    """
    Cut a list: the best one and the positives are kept, then the pool's first ones.

    :param each: the list.
    :param most: so many candidates.
    :returns: their indices.
    """
    best = target_order(each)[:1]
    return list(dict.fromkeys([*best, *each.positives, *range(len(each.passages))]))[:most]


def some_lists(sets: list[ListSet], most: int | None, seed: int) -> list[ListSet]:
    """
    Draw lists, from all sets alike, for a run that is shorter than an epoch.

    :param sets: of training lists.
    :param most: so many in all; `None` takes all.
    :param seed: of the draw.
    :returns: the sets with the drawn lists, in their order; passages, digests and folders stay.
    """
    total = sum(len(of.lists) for of in sets)
    if most is None or most >= total:
        return sets
    drawn = np.zeros(total, dtype=bool)
    drawn[np.random.default_rng([seed, total]).permutation(total)[:most]] = True
    found, start = [], 0
    for of in sets:
        mine = drawn[start : start + len(of.lists)]
        found.append(replace(of, lists=tuple(each for each, is_drawn in zip(of.lists, mine, strict=True) if is_drawn)))
        start += len(of.lists)
    return found
