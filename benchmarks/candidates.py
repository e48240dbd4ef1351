# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Candidates as a store hands them to the reranker: vectors, evidence of the first stage, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resrank import ResRank
from resrank.evidence import FusedCandidate, evidence_from_meta, fuse


@dataclass(frozen=True)
class Candidates:
    """
    One query's candidates.

    :param vectors: (n, d) float32 unit vectors.
    :param metas: what the first stage left with each, if anything.
    :param texts: of each; empty when there are none.
    """

    vectors: Any
    metas: Sequence[Mapping[str, Any] | None]
    texts: Sequence[str] = ()

    def rerank(self, model: ResRank, query: str, query_vector: Any = None) -> Any:
        """
        What the ranker does: evidence out of metas and words, then the forward pass.

        :param model: ranks.
        :param query: that they answer.
        :param query_vector: its vector; `None` encodes it.
        :returns: the scores.
        """
        matches = model.matcher.matches(query, self.texts) if self.texts else None
        evidence, _ = evidence_from_meta(query, self.metas, matches)
        return model.rerank(query, self.vectors, evidence, query_embedding=query_vector)


def stored(model: ResRank, query: str, texts: Sequence[str], vectors: Any) -> Candidates:
    """
    Candidates with the evidence that hybrid retrieval over just these texts gives.

    :param model: computes BM25 weights.
    :param query: that they answer.
    :param texts: of the candidates.
    :param vectors: (n, d) float32 unit vectors of the texts.
    :returns: the candidates.
    """
    terms = set(model.lexical.encode_query(query)[0])
    lexical = [
        sum(value for index, value in zip(*weights, strict=True) if index in terms)
        for weights in model.lexical.encode_passages(texts)
    ]
    metas = _metas(query, np.asarray(lexical), vectors @ model.encode_queries([query])[0])
    return Candidates(vectors, metas, texts)


def synthetic(query: str, count: int, dimension: int) -> Candidates:
    """
    Random unit vectors and a random first stage: any number of candidates, for sizes that no pool has.

    :param query: the evidence is for this one.
    :param count: of candidates.
    :param dimension: of the vectors.
    :returns: the candidates.
    """
    random = np.random.default_rng(0)
    vectors = random.standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Candidates(vectors, _metas(query, random.random(count), random.random(count)))


def _metas(query: str, lexical: Any, semantic: Any) -> list[Mapping[str, Any] | None]:
    def hits(scores: Any) -> list[tuple[str, float]]:
        order = np.argsort(-scores, kind="stable")
        return [(str(i), float(scores[i])) for i in order if scores[i] > 0]

    fused: dict[str, FusedCandidate] = {c.id: c for c in fuse(query, bm25=hits(lexical), dense=hits(semantic))}
    return [fused[str(i)].meta if str(i) in fused else None for i in range(len(lexical))]
