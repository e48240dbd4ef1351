# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from haystack import Document

from haystack_integrations.common.resrank import ResRankModel
from resrank.runtime import Runtime
from resrank_evals.systems import CrossEncoderSystem
from resrank_evals.trec import Run

from .ranking import Lists, Ranking, Told, followed_by, runs_as

if TYPE_CHECKING:
    from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker

_BATCH = 32


def rank_by_cross_encoder(
    system: CrossEncoderSystem, lists: Lists, total: int, model: ResRankModel, told: Told
) -> Ranking:
    """
    Rank with Haystack's `SentenceTransformersSimilarityRanker`.

    :param system: its options.
    :param lists: (query id, query, candidates as the first stage gave them).
    :param total: how many lists.
    :param model: whose device and dtype it takes.
    :param told: progress.
    :returns: the ranking.
    :raises ImportError: when the extra `evals` is not installed.
    """
    ranker = _cross_encoder(system.model, model)
    ranker.warm_up()
    encoder: Any = ranker._cross_encoder
    run: Run = {}
    times: list[float] = []
    pairs = 0
    warm = False
    for query_id, query, documents in lists:
        plain = [Document(id=d.id, content=d.content, score=d.score) for d in documents[: system.depth]]
        if plain and not warm:
            ranker.run(query=query, documents=plain[:_BATCH])
            warm = True
        started = time.perf_counter()
        ranked = ranker.run(query=query, documents=plain, top_k=max(1, len(plain)))["documents"]
        times.append((time.perf_counter() - started) * 1_000)
        scored = [(document.id, float(document.score or 0.0)) for document in ranked]
        run[query_id] = followed_by(scored, documents[len(plain) :])
        if plain:
            texts = [document.content or "" for document in plain]
            read = encoder.tokenizer([query] * len(texts), texts, truncation=True, max_length=encoder.max_seq_length)
            pairs += sum(map(len, read["input_ids"]))
        told(len(times), total)
    return Ranking(run, {"rerank": times}, {"pairs": pairs}, generated_tokens=0, environment=runs_as(encoder))


def _cross_encoder(name: str, model: ResRankModel) -> SentenceTransformersSimilarityRanker:
    try:
        from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker
    except ImportError as error:
        msg = "cross-encoder systems need sentence-transformers-haystack: pip install 'resrank[evals]'"
        raise ImportError(msg) from error
    device = None if model.device is None else model.device.to_torch_str()
    return SentenceTransformersSimilarityRanker(
        model=name,
        device=model.device,
        scale_score=False,
        batch_size=_BATCH,
        model_kwargs={"dtype": Runtime.resolve(device, model.dtype).dtype_name},
    )
