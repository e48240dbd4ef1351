# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Which list comes when, which of its candidates are in it, and what is known of them.

Everything is drawn from the run's seed and the position in the schedule alone: a resumed run, or one on more processes,
sees the same lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from resrank.evidence import FEATURES, FIRST_STAGE, MATCH_COLUMNS, Float32Array

from .lists import ListSet, TrainingList
from .settings import EvidenceDropout, Stage

_BM25, _DENSE, _RRF, _BM25_RANK, _DENSE_RANK = range(len(FIRST_STAGE))

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class DrawnList:
    """
    A list as it goes into a step.

    :param source: of the stage's list sets, by index.
    :param of: the whole list.
    :param positives: its relevant candidates, drawn or not; without any, the teacher's best when that is the target.
    :param rows: (n,) which of its candidates, in the order in which the reranker sees them.
    :param features: (n, 10) float32 evidence that the prior is computed from, NaN where unknown.
    :param shown: (n, 10) float32 evidence that the slots are told: single numbers of `features` are unknown.
    :param ranks: (n,) int64 target ranks; smaller is better.
    :param grades: (n,) float32 target weights: judged grades, 0 where unjudged; or the reciprocal ranks in a teacher's
        order.
    """

    source: int
    of: TrainingList
    positives: tuple[int, ...]
    rows: Int64Array
    features: Float32Array
    shown: Float32Array
    ranks: Int64Array
    grades: Float32Array


class Schedule(Dataset[DrawnList]):
    """
    The lists of a stage, in order.

    :param sets: one a source of the stage.
    :param stage: its settings.
    :param total: how many lists are drawn in all.
    :param seed: of the run.
    :param rrf_k: the constant of the fusion that made the evidence.
    :raises ValueError: when a set has no list that can be learnt from.
    """

    def __init__(self, sets: Sequence[ListSet], stage: Stage, total: int, seed: int, rrf_k: int = 60) -> None:
        self._sets, self._stage, self._seed, self._rrf_k = sets, stage, seed, rrf_k
        self.usable = [usable_lists(of, stage) for of in sets]
        for of, usable in zip(sets, self.usable, strict=True):
            if not usable:
                msg = (
                    f"the lists of {of.name} have no "
                    + ("teacher's ranking: run resrank-train label" if stage.targets == "ranking" else "positive")
                    + f", which stage {stage.name!r} learns from"
                )
                raise ValueError(msg)
        self._order = self._shuffled(total)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> DrawnList:
        source, index = self._order[position]
        rng = np.random.default_rng([self._seed, position])
        return draw(self._sets[source].lists[index], source, self._stage, rng, self._rrf_k)

    def whole_lists(self, count: int) -> list[TrainingList]:
        """
        The lists that come first, each once and with all its candidates, of the sources that calibrate.

        :param count: most of them.
        :returns: the lists.
        """
        wanted = [place for place in self._order if self._stage.lists[place[0]].calibrate]
        return [self._sets[source].lists[i] for source, i in list(dict.fromkeys(wanted))[:count]]

    def _shuffled(self, total: int) -> list[tuple[int, int]]:
        sizes = np.array([len(usable) for usable in self.usable], dtype=np.float64)
        given = [source.share for source in self._stage.lists]
        shares = sizes if all(s is None for s in given) else np.array([1.0 if s is None else s for s in given])
        # The largest remainders get what rounding leaves.
        exact = shares / shares.sum() * total
        counts = np.floor(exact).astype(int)
        for i in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
            counts[i] += 1
        rng = np.random.default_rng([self._seed, len(self._sets)])
        order: list[tuple[int, int]] = []
        for source, (usable, count) in enumerate(zip(self.usable, counts, strict=True)):
            passes = [rng.permutation(usable) for _ in range(-(-count // len(usable)))]
            order += [(source, int(i)) for i in np.concatenate(passes)[:count]] if passes else []
        return [order[i] for i in rng.permutation(len(order))]


def usable_lists(of: ListSet, stage: Stage) -> list[int]:
    """
    The lists of a set that a stage can learn from.

    :param of: the set.
    :param stage: its settings.
    :returns: their indices.
    """
    return [i for i, each in enumerate(of.lists) if _teaches(each, stage)]


def draw(of: TrainingList, source: int, stage: Stage, rng: np.random.Generator, rrf_k: int = 60) -> DrawnList:
    """
    Choose candidates and what is known of them.

    :param of: the whole list.
    :param source: which set it is from.
    :param stage: list length, shares and dropout.
    :param rng: draws.
    :param rrf_k: the constant of the fusion that made the evidence.
    :returns: the drawn list, its candidates shuffled.
    """
    relevant = of.positives
    if not relevant and stage.targets == "ranking" and of.ranking:
        relevant = of.ranking[:1]
    positives = np.array(relevant, dtype=np.int64)
    if len(positives) > stage.positives:
        positives = rng.choice(positives, stage.positives, replace=False)
    others = np.setdiff1d(np.arange(len(of.passages)), np.array(relevant, dtype=np.int64))
    wanted = min(len(others), stage.list_length - len(positives))
    top = round(wanted * stage.hard_share)
    rest = rng.choice(others[top:], wanted - top, replace=False)
    rows = np.concatenate([positives, others[:top], rest]).astype(np.int64)
    unknown = np.full((len(of.passages), len(FEATURES)), np.nan, dtype=np.float32)
    features = unknown if of.evidence is None else of.evidence
    rows, features = _which_lists_ran(of, rows, features, stage.evidence_dropout, rng, rrf_k)
    rows = rng.permutation(rows)
    if stage.targets == "ranking" and of.ranking is not None:
        place = {row: rank for rank, row in enumerate(of.ranking)}
        ranks = np.array([place.get(int(row), len(place)) for row in rows], dtype=np.int64)
        grades = np.array([1 / (1 + place[row]) if row in place else 0.0 for row in rows.tolist()], dtype=np.float32)
    else:
        grades = np.array([max(0, of.grades[i] or 0) for i in rows], dtype=np.float32)
        ranks = (grades.max(initial=0.0) - grades).astype(np.int64)
    known = features[rows].astype(np.float32)
    shown = np.where(rng.random(known.shape) < stage.evidence_dropout.number, np.nan, known).astype(np.float32)
    return DrawnList(source, of, relevant, rows, known, shown, ranks, grades)


def one_list_only(features: Float32Array, rank: int, score: int, rrf_k: int = 60) -> Float32Array:
    """
    The evidence that a pool of one first stage would have left.

    :param features: (n, 10) evidence of a fused pool.
    :param rank: column of the reciprocal rank in the list that ran.
    :param score: column of its score.
    :param rrf_k: the constant of the fusion.
    :returns: (n, 10) float32; of candidates that this list did not return the words' matches alone are known.
    """
    found = np.full_like(features, np.nan)
    found[:, MATCH_COLUMNS] = features[:, MATCH_COLUMNS]
    with np.errstate(divide="ignore", invalid="ignore"):
        ran = features[:, rank] > 0
        found[ran, score] = features[ran, score]
        found[ran, rank] = features[ran, rank]
        found[ran, _RRF] = (rrf_k + 1) / (rrf_k + 1.0 / features[ran, rank])
    found[ran, _DENSE] = features[ran, _DENSE]  # the vector is at hand, so its cosine is always known
    return found


def _which_lists_ran(  # noqa: PLR0917
    of: TrainingList,
    rows: Int64Array,
    features: Float32Array,
    dropout: EvidenceDropout,
    rng: np.random.Generator,
    rrf_k: int,
) -> tuple[Int64Array, Float32Array]:
    """Drop what a whole first stage would have known, and the candidates that it alone brought."""
    chance = rng.random()
    for name, share in dropout.of_lists.items():
        if chance < share:
            return _as_known(name, of, rows, features, rrf_k)
        chance -= share
    return rows, features


def _as_known(
    name: str, of: TrainingList, rows: Int64Array, features: Float32Array, rrf_k: int
) -> tuple[Int64Array, Float32Array]:
    if name == "whole_list":  # its pool is the dense one: there is no other without a lexical list
        in_pool, _ = _of_one_pool(of, rows, one_list_only(features, _DENSE_RANK, _DENSE, rrf_k))
        return in_pool, np.full_like(features, np.nan)
    if name in ("first_stage", "matches"):
        changed = features.copy()
        changed[:, MATCH_COLUMNS if name == "matches" else slice(MATCH_COLUMNS.start)] = np.nan
        return rows, changed
    ran = (_BM25_RANK, _BM25) if name == "lexical_only" else (_DENSE_RANK, _DENSE)
    only = one_list_only(features, *ran, rrf_k)
    in_pool, usable = _of_one_pool(of, rows, only)
    return in_pool, only if usable else features


def _of_one_pool(of: TrainingList, rows: Int64Array, only: Float32Array) -> tuple[Int64Array, bool]:
    """The rows that one first stage returned; all of them, and false, when there is nothing to learn from those."""
    in_pool = rows[~np.isnan(only[rows, _RRF])]
    if not any((of.grades[i] or 0) > 0 for i in in_pool) or len(in_pool) < 2:
        return rows, False
    return in_pool, True


def _teaches(of: TrainingList, stage: Stage) -> bool:
    if len(of.passages) < 2:
        return False
    return bool(of.ranking) if stage.targets == "ranking" else bool(of.positives)
