# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time

from haystack_integrations.common.resrank import ResRankModel
from resrank_evals.peers.pe_rank import PERankRanker
from resrank_evals.systems import PERankSystem
from resrank_evals.trec import Run

from .ranking import Lists, Ranking, Told, followed_by, runs_as


def rank_by_pe_rank(system: PERankSystem, lists: Lists, total: int, model: ResRankModel, told: Told) -> Ranking:
    """
    Rank with PE-Rank on the stored vectors.

    :param system: its options.
    :param lists: (query id, query, candidates as the first stage gave them).
    :param total: how many lists.
    :param model: whose encoder made the vectors, and whose device and dtype the language model takes.
    :param told: progress.
    :returns: the ranking. `prompt` are tokens and `slots` passages of the prompts; each decoded passage is a
        generated token, and is read once more as the next input, which is not counted.
    :raises ValueError: when it was trained on vectors of another encoder.
    """
    device = None if model.device is None else model.device.to_torch_str()
    step = 10 if system.window is None else system.window // 2
    ranker = PERankRanker.from_pretrained(
        system.model, device=device, dtype=model.dtype, top_k=None, window_size=system.window, step=step
    )
    run: Run = {}
    times: list[float] = []
    tokens = {"prompt": 0, "slots": 0}
    warm = False
    for query_id, query, candidates in lists:
        documents = candidates[: system.depth]
        if documents and not warm:
            ranker.run(query=query, documents=documents)
            warm = True
        started = time.perf_counter()
        ranked = ranker.run(query=query, documents=documents)["documents"]
        times.append((time.perf_counter() - started) * 1_000)
        scored = [(document.id, float(document.score or 0.0)) for document in ranked]
        run[query_id] = followed_by(scored, candidates[len(documents) :])
        usage = ranker.last_usage
        tokens["prompt"] += usage.prompt_tokens - usage.generated_tokens
        tokens["slots"] += usage.generated_tokens  # every slot of a prompt is decoded once
        told(len(times), total)
    environment = runs_as(ranker.model.backbone)
    return Ranking(run, {"rerank": times}, tokens, generated_tokens=tokens["slots"], environment=environment)
