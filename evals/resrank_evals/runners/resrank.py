# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
import time

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.rankers.resrank import ResRankRanker
from resrank_evals.pools import query_tokens
from resrank_evals.systems import ResRankSystem
from resrank_evals.trec import Run

from .ranking import Lists, Ranking, Told

_WARM_UP = 2  # lists before the clock counts


def rank_by_resrank(  # noqa: PLR0917
    system: ResRankSystem, lists: Lists, total: int, model: ResRankModel, seed: int, told: Told
) -> Ranking:
    """
    Rank with `ResRankRanker`.

    The query's vector is known to the model when the first stage has just encoded it, as in a pipeline; after BM25 it
    is encoded, and counted, here.

    :param system: its options.
    :param lists: (query id, query, candidates as the first stage gave them).
    :param total: how many lists.
    :param model: of the ranker.
    :param seed: of the shuffle.
    :param told: progress.
    :returns: the ranking.
    """
    ranker = ResRankRanker(model=model, top_k=None, use_evidence=system.evidence, on_missing_embedding="raise")
    encodes = system.pool == "bm25"
    run: Run = {}
    times: list[float] = []
    tokens = {"query": 0, "prompt": 0, "slots": 0}
    warm = False
    try:
        ranker.warm_up()
        engine = model.load("encoder", "reranker")
        for query_id, query, documents in lists:
            given = list(documents)
            if system.order == "shuffled":
                random.Random(f"{seed} {query_id}").shuffle(given)  # noqa: S311
            for _ in range(_WARM_UP if given and not warm else 0):
                ranker.run(query=query, documents=given)
                warm = True
            engine.forget_queries()
            if encodes:
                tokens["query"] += query_tokens(engine, query)
            else:
                engine.encode_queries([query])
            started = time.perf_counter()
            ranked = ranker.run(query=query, documents=given)["documents"]
            times.append((time.perf_counter() - started) * 1_000)
            run[query_id] = [(document.id, float(document.score or 0.0)) for document in ranked]
            prompt, slots = engine.rerank_tokens(query, len(given))
            tokens["prompt"] += prompt
            tokens["slots"] += slots
            told(len(times), total)
    finally:
        ranker.close()
    return Ranking(run, {"rerank": times}, tokens, generated_tokens=0)
