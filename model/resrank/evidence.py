# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
First-stage evidence: what lexical and dense retrieval knew about each candidate.

One vector per passage loses exact-match detail; five numbers per candidate bring it back at no extra token. This module
computes them, for serving, mining, training and evaluation alike. Rules that keep it honest:

* A number that is not known is NaN in arrays and absent in meta; the model has a learned "unknown" for it. A candidate
  that a stage ran for and did not return is known to be absent there: rank 0, score 0.
* Evidence carries the hash of the query it was computed for; another query's evidence is never used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
Hits = Sequence[tuple[str, float]]

FEATURES = ("bm25_score", "dense_score", "rrf_score", "bm25_reciprocal_rank", "dense_reciprocal_rank")
_RRF = FEATURES.index("rrf_score")
# Scores are 1 at most, or about that. Far larger ones would overflow in the model and turn the whole list into NaN.
_LARGEST_SCORE = 1e4
_LARGEST_RANK = float(np.finfo(np.float32).max)
_PLAIN = (float, int)
_UNKNOWN = (math.nan,) * len(FEATURES)
_META_KEYS = ("bm25_score", "bm25_rank", "dense_score", "dense_rank", "rrf_score")


@dataclass(frozen=True)
class Evidence:
    """
    Evidence of one query's candidates.

    :param query_hash: `query_hash(query)` of the query it was computed for.
    :param features: (candidates, 5) float32 in the order of `FEATURES`, NaN where unknown. `bm25_score` is divided by
        the pool's best; `dense_score` is a cosine; `rrf_score` is divided by the best possible one, so that 1 means
        first in both lists; reciprocal ranks are 1/rank, 0 when not in that list.
    """

    query_hash: str
    features: Float32Array

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            object.__setattr__(self, "features", np.asarray(self.features, dtype=np.float32))
        if self.features.ndim != 2 or self.features.shape[1] != len(FEATURES):
            msg = f"evidence features must have the shape (candidates, {len(FEATURES)}), got {self.features.shape}"
            raise ValueError(msg)
        if np.isinf(self.features).any():
            msg = "evidence features must be finite, or NaN where unknown; got an infinite value"
            raise ValueError(msg)

    @classmethod
    def unknown(cls, candidates: int) -> Evidence:
        """
        Nothing known about any candidate: the pure mode.

        :param candidates: how many.
        :returns: all-NaN evidence.
        """
        return cls("", np.full((candidates, len(FEATURES)), np.nan, dtype=np.float32))

    @property
    def rrf(self) -> Float32Array:
        """
        Normalised reciprocal rank fusion.

        :returns: (candidates,) float32, NaN where unknown.
        """
        return self.features[:, _RRF]


class FusedCandidate(NamedTuple):
    """
    One candidate of a fused pool.

    :param id: of the passage.
    :param score: RRF score, between 0 and 2 / (k + 1).
    :param meta: the evidence as plain values for a document's meta; `None` for what is not known.
    """

    id: str
    score: float
    meta: dict[str, str | float | int | None]


def query_hash(query: str) -> str:
    """
    Identify a query.

    :param query: its text.
    :returns: 16 hexadecimal digits; surrounding blanks do not count.
    """
    return hashlib.sha256(query.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fuse(query: str, *, bm25: Hits, dense: Hits, rrf_k: int = 60, top_k: int | None = None) -> list[FusedCandidate]:
    """
    Reciprocal rank fusion of a lexical and a dense list, with each candidate's evidence.

    Score: the sum of 1 / (k + rank) over the lists that hold the passage (Cormack, Clarke and Büttcher 2009).

    :param query: the query both lists answer.
    :param bm25: (id, score) pairs of lexical retrieval, best first.
    :param dense: (id, cosine) pairs of dense retrieval, best first.
    :param rrf_k: the constant k.
    :param top_k: how many to keep; `None` keeps all.
    :returns: candidates by (score descending, id).
    :raises ValueError: when `top_k` is not positive.
    """
    if top_k is not None and top_k <= 0:
        msg = f"top_k must be positive or None, got {top_k}"
        raise ValueError(msg)
    hashed = query_hash(query)
    best = max((score for _, score in bm25), default=0.0)
    lexical, semantic = _ranked(bm25), _ranked(dense)
    fused: dict[str, float] = {}
    for ranked in (lexical, semantic):
        for id_, (rank, _) in ranked.items():
            fused[id_] = fused.get(id_, 0.0) + 1.0 / (rrf_k + rank)
    best_first = sorted(fused.items(), key=lambda item: (-item[1], item[0]))
    candidates = []
    for id_, rrf in best_first[:top_k]:
        bm25_rank, bm25_score = lexical.get(id_, (0, 0.0))
        dense_rank, dense_score = semantic.get(id_, (0, None))
        meta: dict[str, str | float | int | None] = {
            "query": hashed,
            "bm25_score": bm25_score / best if best > 0 else 0.0,
            "bm25_rank": bm25_rank,
            "dense_rank": dense_rank,
            "dense_score": dense_score,
            "rrf_score": rrf * (rrf_k + 1) / 2,
        }
        candidates.append(FusedCandidate(id_, rrf, meta))
    return candidates


def evidence_from_meta(query: str, metas: Sequence[Mapping[str, Any] | None]) -> tuple[Evidence, int]:
    """
    Read back what `fuse` left with each candidate.

    :param query: the query that is being answered.
    :param metas: each candidate's evidence, or `None`.
    :returns: the evidence (unknown for candidates without), and how many carried another query's, which is ignored.
    :raises ValueError: when a value is not a number.
    """
    hashed = query_hash(query)
    rows = [_UNKNOWN] * len(metas)
    foreign = 0
    for row, meta in enumerate(metas):
        if not meta or "query" not in meta:
            continue
        if meta["query"] != hashed:
            foreign += 1
            continue
        bm25_score, bm25_rank, dense_score, dense_rank, rrf = [_number(meta, key) for key in _META_KEYS]
        rows[row] = (bm25_score, dense_score, rrf, _reciprocal(bm25_rank), _reciprocal(dense_rank))
    return Evidence(hashed, np.array(rows, dtype=np.float32).reshape(-1, len(FEATURES))), foreign


def _ranked(hits: Hits) -> dict[str, tuple[int, float]]:
    """Rank and score of each passage; one that occurs twice counts at its best rank."""
    ranked: dict[str, tuple[int, float]] = {}
    for rank, (id_, score) in enumerate(hits, 1):
        ranked.setdefault(id_, (rank, score))
    return ranked


def _number(meta: Mapping[str, Any], key: str) -> float:
    value = meta.get(key)
    if value is None:
        return math.nan
    if type(value) in _PLAIN and abs(value) <= _LARGEST_SCORE:  # nearly all of them
        return float(value)
    number = value.item() if isinstance(value, np.generic) else value
    largest = _LARGEST_RANK if key.endswith("_rank") else _LARGEST_SCORE
    if isinstance(number, bool) or not isinstance(number, int | float) or abs(number) > largest:
        msg = f"evidence {key!r} must be a finite number, got {value!r} (scores are 1 at most, or about that)"
        raise ValueError(msg)
    return float(number)


def _reciprocal(rank: float) -> float:
    if math.isnan(rank):
        return math.nan
    return 1.0 / rank if rank > 0 else 0.0
