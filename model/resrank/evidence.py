# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Evidence: what lexical and dense retrieval knew about each candidate, and how its words match the query's.

One vector per passage loses exact-match detail; ten numbers per candidate bring it back at no extra token. This module
and `resrank.matching` compute them, for serving, mining, training and evaluation alike. Rules that keep it honest:

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

from .matching import MATCHES

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
Float64Array = np.ndarray[Any, np.dtype[np.float64]]
Hits = Sequence[tuple[str, float]]

FIRST_STAGE = ("bm25_score", "dense_score", "rrf_score", "bm25_reciprocal_rank", "dense_reciprocal_rank")
FEATURES = (*FIRST_STAGE, *MATCHES)
MATCH_COLUMNS = slice(len(FIRST_STAGE), len(FEATURES))
_RRF = FEATURES.index("rrf_score")
# Scores are 1 at most, or about that. Far larger ones would overflow in the model and turn the whole list into NaN.
_LARGEST_SCORE = 1e4
_LARGEST_RANK = float(np.finfo(np.float32).max)
_PLAIN = frozenset({float, int, type(None)})
_NOTHING: Mapping[str, Any] = {}
# What `fuse` writes for each candidate.
META_KEYS = ("query", "bm25_score", "bm25_rank", "dense_score", "dense_rank", "rrf_score")
_META_KEYS = META_KEYS[1:]
_LARGEST = np.array([_LARGEST_RANK if key.endswith("_rank") else _LARGEST_SCORE for key in _META_KEYS])
_RANKS = [_META_KEYS.index("bm25_rank"), _META_KEYS.index("dense_rank")]
_ORDER = [_META_KEYS.index(name.replace("reciprocal_", "")) for name in FIRST_STAGE]


@dataclass(frozen=True)
class Evidence:
    """
    Evidence of one query's candidates.

    :param query_hash: `query_hash(query)` of the query it was computed for.
    :param features: (candidates, 10) float32 in the order of `FEATURES`, NaN where unknown. `bm25_score` is divided by
        the pool's best; `dense_score` is a cosine; `rrf_score` is divided by the best possible one, so that 1 means
        first in every list that ran; reciprocal ranks are 1/rank, 0 when not in that list. The others are the shares of
        `resrank.matching`.
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


def fuse(
    query: str, *, bm25: Hits | None, dense: Hits | None, rrf_k: int = 60, top_k: int | None = None
) -> list[FusedCandidate]:
    """
    Reciprocal rank fusion of a lexical and a dense list, with each candidate's evidence.

    One list alone keeps its order; nothing is then known of the other.

    Score: the sum of 1 / (k + rank) over the lists that hold the passage (Cormack, Clarke and Büttcher 2009).

    :param query: the query both lists answer.
    :param bm25: (id, score) pairs of lexical retrieval, best first; `None` when it did not run.
    :param dense: (id, cosine) pairs of dense retrieval, best first; `None` when it did not run.
    :param rrf_k: the constant k.
    :param top_k: how many to keep; `None` keeps all.
    :returns: candidates by (score descending, id).
    :raises ValueError: when `top_k` is not positive.
    """
    if top_k is not None and top_k <= 0:
        msg = f"top_k must be positive or None, got {top_k}"
        raise ValueError(msg)
    hashed = query_hash(query)
    best = max((score for _, score in bm25 or ()), default=0.0)
    lexical, semantic = _ranked(bm25 or ()), _ranked(dense or ())
    lists = max(1, sum(1 for hits in (bm25, dense) if hits is not None))
    fused = {id_: 1.0 / (rrf_k + rank) for id_, (rank, _) in lexical.items()}
    for id_, (rank, _) in semantic.items():
        fused[id_] = fused.get(id_, 0.0) + 1.0 / (rrf_k + rank)
    best_first = sorted((-rrf, id_) for id_, rrf in fused.items())
    candidates = []
    for negative, id_ in best_first[:top_k]:
        rrf = -negative
        bm25_rank, bm25_score = lexical.get(id_, (0, 0.0))
        dense_rank, dense_score = semantic.get(id_, (0, None))
        meta: dict[str, str | float | int | None] = {
            "query": hashed,
            "bm25_score": None if bm25 is None else bm25_score / best if best > 0 else 0.0,
            "bm25_rank": None if bm25 is None else bm25_rank,
            "dense_rank": None if dense is None else dense_rank,
            "dense_score": dense_score,
            "rrf_score": rrf * (rrf_k + 1) / lists,
        }
        candidates.append(FusedCandidate(id_, rrf, meta))
    return candidates


def evidence_from_meta(
    query: str, metas: Sequence[Mapping[str, Any] | None], matches: Float32Array | None = None
) -> tuple[Evidence, int]:
    """
    Read back what `fuse` left with each candidate.

    :param query: the query that is being answered.
    :param metas: each candidate's evidence, or `None`.
    :param matches: (candidates, 5) float32 of `WordMatcher.matches`; `None`: the texts are not known.
    :returns: the evidence (unknown for candidates without), and how many carried another query's, which is ignored.
    :raises ValueError: when a value is not a number.
    """
    if matches is None:
        matches = np.full((len(metas), len(MATCHES)), np.nan, dtype=np.float32)
    hashed = query_hash(query)
    own = [meta if meta and meta.get("query") == hashed else _NOTHING for meta in metas]
    foreign = sum(1 for meta, used in zip(metas, own, strict=True) if meta and used is _NOTHING and "query" in meta)
    numbers = _numbers([meta.get(key) for meta in own for key in _META_KEYS])
    ranks = numbers[:, _RANKS]
    with np.errstate(divide="ignore", over="ignore"):
        numbers[:, _RANKS] = np.where(ranks <= 0, 0.0, 1.0 / ranks)  # rank 0: not in that list
        return Evidence(hashed, np.concatenate([numbers[:, _ORDER], matches], axis=1)), foreign


def _ranked(hits: Hits) -> dict[str, tuple[int, float]]:
    """Rank and score of each passage; one that occurs twice counts at its best rank."""
    ranked: dict[str, tuple[int, float]] = {}
    for rank, (id_, score) in enumerate(hits, 1):
        ranked.setdefault(id_, (rank, score))
    return ranked


def _numbers(values: list[Any]) -> Float64Array:
    """(candidates, 5) in the order of the meta keys, NaN where not known."""
    plain = values
    if not _PLAIN.issuperset(map(type, values)):  # nearly never
        plain = [_plain(value, _META_KEYS[i % len(_META_KEYS)]) for i, value in enumerate(values)]
    try:
        numbers: Float64Array = np.array(plain, dtype=np.float64).reshape(-1, len(_META_KEYS))
    except OverflowError:  # an integer beyond any float
        numbers = np.array([_bounded(value) for value in plain], dtype=np.float64).reshape(-1, len(_META_KEYS))
    wrong = np.flatnonzero(np.abs(numbers) > _LARGEST)  # NaN is not
    if len(wrong):
        raise _bad_number(_META_KEYS[wrong[0] % len(_META_KEYS)], values[wrong[0]])
    return numbers


def _plain(value: Any, key: str) -> float | int | None:
    number: Any = value.item() if isinstance(value, np.generic) else value
    if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
        raise _bad_number(key, value)
    return number


def _bounded(value: float | None) -> float | None:
    return math.inf if isinstance(value, int) and abs(value) > _LARGEST_RANK else value


def _bad_number(key: str, value: Any) -> ValueError:
    msg = f"evidence {key!r} must be a finite number, got {value!r} (scores are 1 at most, or about that)"
    return ValueError(msg)
