# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""nDCG@10 on held-out pools while a model is trained. The harness gives the figures that are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from resrank import ResRank, TruncationReport
from resrank.evidence import FEATURES, Evidence, Float32Array, query_hash
from resrank_evals.measures import evaluate, mean

from .lists import ListSet, TrainingList
from .vectors import encode_sets

_MEASURE = "nDCG@10"
_DENSE, _DENSE_RANK = FEATURES.index("dense_score"), FEATURES.index("dense_reciprocal_rank")
_QUERIES_AT_ONCE = 8

_Scored = tuple[Sequence[str], Sequence[float] | Float32Array]  # candidates and what they got


class DevPools:
    """
    Pools of dev queries, reranked with and without their evidence.

    The pools are those of the encoder that mined them. Relevant passages that the first stage missed are not ranked,
    but count in the ideal ranking; a query none of whose relevant passages can be found is in no list, and not counted.

    :param sets: list sets that `mine --split dev` wrote.
    :param candidates: of each list, the pool's first so many.
    :param queries: of each set, the first so many; `None` takes all.
    :param shuffled: whether the reranker sees the candidates in a random order, the same each time.
    """

    def __init__(
        self, sets: Sequence[ListSet], *, candidates: int = 100, queries: int | None = None, shuffled: bool = False
    ) -> None:
        self._candidates = candidates
        self._sets = [_first(of, queries) for of in sets]
        if shuffled:
            self._sets = [
                replace(of, lists=tuple(_shuffled(each, candidates, i) for i, each in enumerate(of.lists)))
                for of in self._sets
            ]

    def first_stage(self) -> dict[str, float]:
        """
        What the pools' own order reaches.

        :returns: nDCG@10 by name of the set.
        """
        found = {}
        for of in self._sets:
            pools = [each.passages[: self._size(each)] for each in of.lists]
            found[of.name] = _ndcg(of, [(pool, range(len(pool), 0, -1)) for pool in pools])
        return found

    def measure(self, model: ResRank, folder: Path, *, encoder_is_frozen: bool) -> dict[str, float]:
        """
        Rerank the pools.

        :param model: in any state; what is in training mode is so again afterwards.
        :param folder: where vectors of a frozen encoder are kept.
        :param encoder_is_frozen: whether vectors may be kept from one call to the next.
        :returns: `<set>` with evidence; `<set>_pure` without, of the candidates that the dense list brought, and
            `<set>_dense`, their own order by cosine; and the means `ndcg@10`, `ndcg@10_pure` and `ndcg@10_dense`.
        """
        parts: tuple[nn.Module, ...] = (model.encoder, model.reranker, model.head)
        training = [part.training for part in parts]
        for part in parts:
            part.eval()
        try:
            found: dict[str, float] = {}
            for of in self._sets:
                told, pure, dense = self._one(model, of, folder if encoder_is_frozen else None)
                found |= {of.name: told, f"{of.name}_pure": pure, f"{of.name}_dense": dense}
        finally:
            for part, was in zip(parts, training, strict=True):
                part.train(was)
        names = [of.name for of in self._sets]
        if names:
            for kind in ("", "_pure", "_dense"):
                found[f"ndcg@10{kind}"] = float(np.mean([found[f"{name}{kind}"] for name in names]))
        return found

    def _size(self, of: TrainingList) -> int:
        return of.first_stage(self._candidates)

    def _one(self, model: ResRank, of: ListSet, folder: Path | None) -> tuple[float, float, float]:
        if folder is not None:
            kept = encode_sets(model, [of], folder, progress_bar=False)
            queries, passages, row_of = kept.queries[0], kept.passages[0], kept.rows[0]
        else:
            needed = dict.fromkeys(id_ for each in of.lists for id_ in each.passages[: self._size(each)])
            row_of = {id_: row for row, id_ in enumerate(needed)}
            report = TruncationReport()  # reported when the lists were mined
            passages = model.encode_passages([of.passages[id_].content for id_ in needed], report=report)
            queries = model.encode_queries([each.query for each in of.lists], report=report)
        told: list[_Scored] = []
        pure: list[_Scored] = []
        dense: list[_Scored] = []
        for start in range(0, len(of.lists), _QUERIES_AT_ONCE):
            lists = of.lists[start : start + _QUERIES_AT_ONCE]
            texts = [each.query for each in lists]
            own = list(queries[start : start + len(lists)])
            pools = [each.passages[: self._size(each)] for each in lists]
            vectors = [passages[[row_of[id_] for id_ in pool]] for pool in pools]
            evidence = [
                None
                if each.evidence is None
                else Evidence(query_hash(each.query), _with_current_scores(each.evidence[: len(v)], v @ u))
                for each, v, u in zip(lists, vectors, own, strict=True)
            ]
            cut = TruncationReport()
            told += zip(pools, model.rerank_batch(texts, vectors, evidence, own, cut), strict=True)
            returned = [_dense_list(each, len(pool)) for each, pool in zip(lists, pools, strict=True)]
            pools = [tuple(pool[i] for i in rows) for pool, rows in zip(pools, returned, strict=True)]
            vectors = [v[rows] for v, rows in zip(vectors, returned, strict=True)]
            pure += zip(pools, model.rerank_batch(texts, vectors, None, own, cut), strict=True)
            dense += [(pool, v @ u) for pool, v, u in zip(pools, vectors, own, strict=True)]
        return _ndcg(of, told), _ndcg(of, pure), _ndcg(of, dense)


def _dense_list(of: TrainingList, size: int) -> list[int]:
    """Which of the first so many candidates the dense list brought; all of them when nothing is known of that."""
    if of.evidence is None:
        return list(range(size))
    return np.flatnonzero(of.evidence[:size, _DENSE_RANK] > 0).tolist()


def _with_current_scores(evidence: Float32Array, cosines: Float32Array) -> Float32Array:
    now = evidence.copy()
    now[:, _DENSE] = np.where(np.isnan(evidence[:, _DENSE]), np.nan, cosines)
    return now


def _ndcg(of: ListSet, scored: Sequence[_Scored]) -> float:
    run = {
        each.query_id: [(id_, float(score)) for id_, score in zip(ids, scores, strict=True)]
        for each, (ids, scores) in zip(of.lists, scored, strict=True)
    }
    qrels = {
        each.query_id: {id_: grade for id_, grade in zip(each.passages, each.grades, strict=True) if grade is not None}
        for each in of.lists
    }
    return mean(evaluate(run, qrels, [_MEASURE]))[_MEASURE]


def _shuffled(of: TrainingList, candidates: int, seed: int) -> TrainingList:
    """The pool's candidates in another order; what is beyond them stays there."""
    size = of.first_stage(candidates)
    order = [*np.random.default_rng(seed).permutation(size).tolist(), *range(size, len(of.passages))]
    return replace(
        of,
        passages=tuple(of.passages[i] for i in order),
        grades=tuple(of.grades[i] for i in order),
        evidence=None if of.evidence is None else of.evidence[order],
        ranking=None,
    )


def _first(of: ListSet, queries: int | None) -> ListSet:
    if queries is None:
        return of
    # With all passages: the vectors that mining left are of all of them.
    return replace(of, lists=of.lists[:queries])
