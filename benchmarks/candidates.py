# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Candidates as a store hands them to the reranker: vectors, and evidence of the first stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resrank import Evidence, ResRank
from resrank.evidence import FusedCandidate, evidence_from_meta, fuse


@dataclass(frozen=True)
class Candidates:
    """
    One query's candidates.

    :param vectors: (n, d) float32 unit vectors.
    :param evidence: n rows.
    """

    vectors: Any
    evidence: Evidence


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
    return _with_evidence(query, np.asarray(lexical), vectors @ model.encode_queries([query])[0], vectors)


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
    return _with_evidence(query, random.random(count), random.random(count), vectors)


def _with_evidence(query: str, lexical: Any, semantic: Any, vectors: Any) -> Candidates:
    def hits(scores: Any) -> list[tuple[str, float]]:
        order = np.argsort(-scores, kind="stable")
        return [(str(i), float(scores[i])) for i in order if scores[i] > 0]

    fused: dict[str, FusedCandidate] = {c.id: c for c in fuse(query, bm25=hits(lexical), dense=hits(semantic))}
    metas = [fused[str(i)].meta if str(i) in fused else None for i in range(len(vectors))]
    return Candidates(vectors, evidence_from_meta(query, metas)[0])
