# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The list of one query: the first stage's candidates, and the relevant passages that it missed.

Candidates are what `ResRankRetriever` in hybrid mode gives, with the evidence that it leaves with them: the model
trains on what it will serve. Relevant passages that are not among them follow at the end with evidence of their own:
their cosine and rank among all passages, their BM25 score and rank in a deeper search, and the fusion score that
follows from those ranks. Nothing marks them as added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from resrank.evidence import Float32Array, evidence_from_meta, fuse, query_hash
from resrank.matching import WordMatcher
from resrank_evals.collection import Collection

from .exact_search import ExactSearch, Hits
from .keywords import keywords
from .lists import TrainingList

QueryForm = Literal["as-is", "keywords"]

_LIST_DEPTH = 100  # of each list that is fused, as ResRankRetriever's
_DEEP = 1_000  # where BM25 still knows a passage that is added
_FORMS: dict[QueryForm, Callable[[str], str]] = {"as-is": str, "keywords": keywords}


@dataclass(frozen=True)
class MiningSettings:
    """
    What decides the lists of a collection.

    :param candidates: how many of the pool a list keeps; 100 is what the model reads in one pass.
    :param queries: a seeded sample of so many; `None` takes all.
    :param seed: of the sample.
    :param max_score_ratio: leave out unjudged candidates whose cosine with the query is above this ratio of the best
        relevant passage's: they are likely relevant too. `None` keeps all; 0.95 is a common choice. TopK-PercPos of
        NV-Retriever (Moreira et al. 2024, arXiv 2407.15831).
    :param query_form: `as-is`, or `keywords`: queries reduced to their content words, for everything that is done with
        them; their ids end in `#keywords`.
    :raises ValueError: for values out of range.
    """

    candidates: int = 100
    queries: int | None = None
    seed: int = 0
    max_score_ratio: float | None = None
    query_form: QueryForm = "as-is"

    def __post_init__(self) -> None:
        for name in ("candidates", "queries"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        if self.max_score_ratio is not None and not 0 < self.max_score_ratio <= 1:
            msg = f"max_score_ratio must be above 0 and at most 1, got {self.max_score_ratio}"
            raise ValueError(msg)
        if self.query_form not in get_args(QueryForm):
            msg = f"query_form must be one of {', '.join(get_args(QueryForm))}, got {self.query_form!r}"
            raise ValueError(msg)

    @property
    def list_depth(self) -> int:
        """
        The length of the two lists that are fused, by `ResRankRetriever`'s rule.

        :returns: 100, or `candidates` where that is more.
        """
        return max(_LIST_DEPTH, self.candidates)


@dataclass
class Counts:
    """
    What happened to the queries of a collection.

    :param queries: that were looked at.
    :param without_positive: queries that were left out because no relevant passage of theirs can be found.
    :param not_found: judgments of relevant passages that the collection lacks, or that hold no text.
    :param in_pool: lists with a relevant passage among the candidates of the first stage.
    :param added: relevant passages that the first stage missed.
    :param duplicates: candidates left out because their text equals a relevant passage's: nobody judged them.
    :param filtered: unjudged candidates left out by `max_score_ratio`.
    :param candidates: in all lists together.
    :param unreduced: queries that `keywords` left as they were, because too little would remain.
    """

    queries: int = 0
    without_positive: int = 0
    not_found: int = 0
    in_pool: int = 0
    added: int = 0
    duplicates: int = 0
    filtered: int = 0
    candidates: int = 0
    unreduced: int = 0

    @property
    def lists(self) -> int:
        """
        What was made.

        :returns: how many lists.
        """
        return self.queries - self.without_positive


class ListMaker:
    """
    Makes the lists of one collection, and counts.

    :param collection: with judgments.
    :param search: over its passages.
    :param matcher: compares queries with their texts.
    :param settings: what to make.
    :param rrf_k: the model's constant of reciprocal rank fusion.
    """

    def __init__(
        self,
        collection: Collection,
        search: ExactSearch,
        matcher: WordMatcher,
        settings: MiningSettings,
        *,
        rrf_k: int = 60,
    ) -> None:
        self.collection = collection
        self._matcher = matcher
        self.search = search
        self.settings = settings
        self.counts = Counts()
        self._rrf_k = rrf_k
        form = _FORMS[settings.query_form]
        self.queries = {id_: form(query) for id_, query in collection.queries.items()}
        # Passages with one text have one number.
        numbers: dict[str, int] = {}
        self._text = {
            id_: numbers.setdefault(" ".join((passage.text.strip() or passage.title).split()), len(numbers))
            for id_, passage in collection.passages.items()
        }

    def list_of(self, query_id: str, cosines: Float32Array) -> TrainingList | None:
        """
        Make a query's list.

        :param query_id: of a query of the collection.
        :param cosines: (passages,) of its vector with all passages, as `ExactSearch.cosines` gives them.
        :returns: the list, or `None` when no relevant passage can be found.
        """
        counts, search, depth = self.counts, self.search, self.settings.list_depth
        query, grades = self.queries[query_id], self.collection.qrels[query_id]
        relevant = [id_ for id_, grade in grades.items() if grade > 0]
        positives = [id_ for id_ in relevant if id_ in search.position]
        counts.queries += 1
        reduced = self.settings.query_form == "keywords"
        counts.unreduced += reduced and query == self.collection.queries[query_id]
        counts.not_found += len(relevant) - len(positives)
        if not positives:
            counts.without_positive += 1
            return None
        dense, bm25 = search.dense(cosines, depth), search.bm25(query, depth)
        pool = fuse(query, bm25=bm25, dense=dense, rrf_k=self._rrf_k, top_k=self.settings.candidates)
        # The vectors are at hand: what only BM25 found has a cosine too, as it has when the model ranks it.
        metas = {each.id: {**each.meta, "dense_score": self._cosine(cosines, each.id)} for each in pool}
        missed = [id_ for id_ in positives if id_ not in metas]
        counts.in_pool += len(missed) < len(positives)
        counts.added += len(missed)
        ratio = self.settings.max_score_ratio
        limit = math.inf if ratio is None else ratio * max(self._cosine(cosines, id_) for id_ in positives)
        texts = {self._text[id_] for id_ in positives}
        kept = self._kept(metas, grades, texts, limit)
        pool_size = len(kept)
        if missed:
            unfit = {id_ for id_ in search.ids if self._text[id_] in texts or self._cosine(cosines, id_) > limit}
            beside = self._beside(missed, cosines, {*metas, *grades, *unfit})
            added = self._added(query, [*missed, *beside], cosines, bm25)
            metas.update(added)
            kept += sorted(added, key=lambda id_: (-added[id_]["rrf_score"], id_))
        counts.candidates += len(kept)
        matches = self._matcher.matches(query, [self.collection.passages[id_].content for id_ in kept])
        evidence, _ = evidence_from_meta(query, [metas[id_] for id_ in kept], matches)
        return TrainingList(
            f"{query_id}#keywords" if reduced else query_id,
            query,
            tuple(kept),
            tuple(grades.get(id_) for id_ in kept),
            evidence.features,
            pool=pool_size if missed else None,
        )

    def _kept(self, pool: Mapping[str, Any], grades: Mapping[str, int], texts: set[int], limit: float) -> list[str]:
        """The pool without what is likely relevant though nobody said so."""
        kept = []
        for id_, meta in pool.items():
            if grades.get(id_, 0) <= 0 and self._text[id_] in texts:
                self.counts.duplicates += 1
            elif id_ not in grades and meta["dense_score"] > limit:
                self.counts.filtered += 1
            else:
                kept.append(id_)
        return kept

    def _beside(self, missed: Sequence[str], cosines: Float32Array, excluded: set[str]) -> list[str]:
        """For each added passage the one next to it in the dense order: else deep ranks alone would tell it apart."""
        order = [self.search.ids[row] for row in np.argsort(-cosines, kind="stable")]
        free = {place: id_ for place, id_ in enumerate(order) if id_ not in excluded}
        beside: list[str] = []
        for id_ in missed:
            rank = self.search.dense_rank(cosines, id_) - 1
            nearest = min(free, key=lambda place: (abs(place - rank), place), default=None)
            if nearest is not None:
                beside.append(free.pop(nearest))
        return beside

    def _added(self, query: str, missed: Sequence[str], cosines: Float32Array, bm25: Hits) -> dict[str, dict[str, Any]]:
        """The evidence of passages outside the pool, in the form that `fuse` gives."""
        found = {id_ for id_, _ in bm25}
        if len(bm25) == self.settings.list_depth and not found.issuperset(missed):
            bm25 = self.search.bm25(query, max(_DEEP, self.settings.list_depth))
        best = max((score for _, score in bm25), default=0.0)
        lexical = {id_: (rank, score) for rank, (id_, score) in enumerate(bm25, 1)}
        metas = {}
        for id_ in missed:
            rank, score = lexical.get(id_, (0, 0.0))
            ranks = (rank, self.search.dense_rank(cosines, id_))
            rrf = sum(1.0 / (self._rrf_k + each) for each in ranks if each)
            metas[id_] = {
                "query": query_hash(query),
                "bm25_score": score / best if best > 0 else 0.0,
                "bm25_rank": rank,
                "dense_score": self._cosine(cosines, id_),
                "dense_rank": ranks[1],
                "rrf_score": rrf * (self._rrf_k + 1) / 2,  # of two lists, as `fuse` normalises
            }
        return metas

    def _cosine(self, cosines: Float32Array, id_: str) -> float:
        return float(cosines[self.search.position[id_]])
