# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time

from haystack import Document

from haystack_integrations.common.resrank import ResRankModel
from resrank_evals.peers.e2rank import E2RankRanker, E2RankUsage
from resrank_evals.systems import E2RankSystem
from resrank_evals.trec import Run

from .ranking import Lists, Ranking, Told, followed_by, runs_as


def rank_by_e2rank(system: E2RankSystem, lists: Lists, total: int, model: ResRankModel, told: Told) -> Ranking:
    """
    Rank with E2Rank on the texts.

    Passages are embedded for every query, as a stage of its own (`passages`, in time and tokens): where they are
    stored with E2Rank's own vectors, that stage falls away.

    :param system: its options.
    :param lists: (query id, query, candidates as the first stage gave them).
    :param total: how many lists.
    :param model: whose device and dtype it takes.
    :param told: progress.
    :returns: the ranking.
    """
    ranker = E2RankRanker(
        model=system.model,
        listwise_k=system.k,
        max_length=system.length,
        max_prompt_length=system.prompt,
        max_query_length=system.query,
        top_k=None,
        use_stored_embeddings=True,
        device=model.device,
        dtype=model.dtype,
    )
    run: Run = {}
    times: dict[str, list[float]] = {"passages": [], "rerank": []}
    warm = False
    try:
        ranker.warm_up()
        for query_id, query, candidates in lists:
            documents = candidates[: system.depth]
            if documents and not warm:
                _rank(ranker, query, documents)
                ranker.usage = E2RankUsage()  # what the warm-up read does not count
                warm = True
            scored, embedding_ms, ranking_ms = _rank(ranker, query, documents)
            run[query_id] = followed_by(scored, candidates[len(documents) :])
            times["passages"].append(embedding_ms)
            times["rerank"].append(ranking_ms)
            told(len(run), total)
        tokens = {"prompt": ranker.usage.prompt_tokens, "passages": ranker.usage.passage_tokens}
        environment = runs_as(ranker._loaded())
    finally:
        ranker.close()
    return Ranking(run, times, tokens, generated_tokens=0, environment=environment)


def _rank(ranker: E2RankRanker, query: str, documents: list[Document]) -> tuple[list[tuple[str, float]], float, float]:
    """The ranking, and milliseconds of embedding the passages and of all the rest."""
    texts = [document.content or "" for document in documents]
    started = time.perf_counter()
    vectors = ranker.encode_passages(texts)
    embedding_ms = (time.perf_counter() - started) * 1_000
    own = [
        Document(id=document.id, content=document.content, score=document.score, embedding=vector.tolist())
        for document, vector in zip(documents, vectors, strict=True)
    ]
    started = time.perf_counter()
    ranked = ranker.run(query=query, documents=own)["documents"]
    ranking_ms = (time.perf_counter() - started) * 1_000
    return [(document.id, float(document.score or 0.0)) for document in ranked], embedding_ms, ranking_ms
