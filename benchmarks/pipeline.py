# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Latency of the shipped search pipeline, and what it costs beyond the model and the store.

Overhead is the time of `pipeline.run` less the time inside `ResRank.encode_queries`, `ResRank.rerank`, the store's
`search_ids` and its `get_documents_by_id`. It is held against one `copy.deepcopy` of 100 documents with embeddings as
plain lists, taken in turns with the queries: what Haystack would do at each component boundary.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from dataclasses import replace
from typing import Any

from haystack import Document, Pipeline
from rich.table import Table

from .outcome import Bar, Outcome
from .passages import QUERIES, documents
from .settings import Settings
from .stopwatch import Stopwatch
from .timing import milliseconds, no_collector

OVERHEAD_IN_DEEP_COPIES = 0.5

_MODEL = {"encode_queries": "model: encode the query", "rerank": "model: rerank"}
_WORDS = {"matches": "model: compare words"}
_STORE = {"search_ids": "store: search both lists", "get_documents_by_id": "store: get documents and vectors"}
_OVERHEAD = {
    "retriever": "retriever component, the rest",
    "ranker": "ranker component, the rest",
    "haystack": "Haystack's pipeline",
}
_GROUPS = {"model": _MODEL | _WORDS, "store": _STORE, "overhead": _OVERHEAD}


def run(settings: Settings) -> Outcome:
    """
    Measure.

    :param settings: of the run.
    :returns: latency, its shares, and the overhead in deep copies.
    """
    from resrank_pipelines import load_pipeline

    model = {"device": settings.device, "dtype": settings.dtype, "attn_implementation": "sdpa"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pipeline = load_pipeline("search", model=model, store={"path": f"{folder}/store"})
        retriever: Any = pipeline.get_component("retriever")
        passages = documents(60 if settings.quick else None, small=settings.quick)
        fill(retriever.document_store, model, passages)
        pipeline.warm_up()
        try:
            samples, candidates = _measure(pipeline, settings.pick(20, 2))
        finally:
            pipeline.close()
    return _outcome(settings, samples, len(passages), candidates)


def fill(store: Any, model: dict[str, Any], passages: list[Document]) -> None:
    """
    Embed passages and write them.

    :param store: an embedded store.
    :param model: parameters of `ResRankModel`.
    :param passages: documents with content.
    """
    from haystack_integrations.common.resrank import ResRankModel
    from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder

    embedder = ResRankDocumentEmbedder(model=ResRankModel(**model), progress_bar=False)
    store.write_documents(embedder.run(documents=passages)["documents"])
    store.optimize()
    embedder.close()


def _measure(pipeline: Pipeline, turns: int) -> tuple[list[dict[str, float]], list[int]]:
    """One sample, in milliseconds, for each query of each turn, and how many candidates each query has."""
    from haystack_integrations.components.rankers.resrank import ResRankRanker
    from haystack_integrations.components.retrievers.resrank import ResRankRetriever
    from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
    from resrank import ResRank
    from resrank.matching import WordMatcher

    watched = {
        **{name: (ResRank, name) for name in _MODEL},
        **{name: (WordMatcher, name) for name in _WORDS},
        **{name: (QdrantEdgeDocumentStore, name) for name in _STORE},
        "retriever": (ResRankRetriever, "run"),
        "ranker": (ResRankRanker, "run"),
    }
    retriever: Any = pipeline.get_component("retriever")
    model = retriever.model.load("encoder")
    pools = {}
    for query in QUERIES:
        found = pipeline.run({"query": query}, include_outputs_from={"retriever"})["retriever"]["documents"]
        pools[query] = [_plain(document) for document in found]
    samples = []
    with no_collector(), Stopwatch(watched) as watch:
        for _ in range(turns):
            for query in QUERIES:
                model.forget_queries()  # each run is a new query
                watch.reset()
                started = time.perf_counter()
                pipeline.run({"query": query})
                total = (time.perf_counter() - started) * 1_000
                sample = {label: watch.seconds[label] * 1_000 for label in watched}
                missing = [label for label in watched if not watch.calls[label]]
                if missing:
                    msg = f"pipeline.run made no call of {', '.join(missing)}: its time cannot be told apart"
                    raise RuntimeError(msg)
                sample["haystack"] = total - sum(sample.values())
                sample["total"] = total
                sample["deep_copy"] = milliseconds(lambda query=query: copy.deepcopy(pools[query]))
                samples.append(sample)
    return samples, [len(pool) for pool in pools.values()]


def _plain(document: Document) -> Document:
    """A candidate as any other retriever would give it: plain lists and dictionaries."""
    meta = {key: dict(value) if isinstance(value, dict) else value for key, value in document.meta.items()}
    return replace(document, embedding=list(document.embedding or []), meta=meta)


def _outcome(settings: Settings, samples: list[dict[str, float]], passages: int, candidates: list[int]) -> Outcome:
    for sample in samples:
        for group, labels in _GROUPS.items():
            sample[group] = sum(sample[label] for label in labels)
    median = {label: statistics.median(sample[label] for sample in samples) for label in samples[0]}
    copies = statistics.median(sample["overhead"] / sample["deep_copy"] for sample in samples)
    totals = sorted(sample["total"] for sample in samples)
    outcome = Outcome(
        title=f"pipeline.run on the embedded store: {settings.model_name} on {settings.device}",
        sizes={"passages": passages, "queries": len(QUERIES), "runs": len(samples), "candidates": candidates},
        results={
            "median_ms": median,
            "p95_ms": totals[min(len(totals) - 1, int(0.95 * len(totals)))],
            "best_ms": totals[0],
            "best_overhead_ms": min(sample["overhead"] for sample in samples),
            "best_deep_copy_ms": min(sample["deep_copy"] for sample in samples),
            "overhead_in_deep_copies": copies,
            "shares": {group: median[group] / median["total"] for group in _GROUPS},
        },
        bars=[
            Bar("overhead / deep copy of the candidates with plain lists", copies, "<=", OVERHEAD_IN_DEEP_COPIES),
        ],
        notes=["telemetry of Haystack is off; shares are medians over runs, so they do not add up exactly"],
    )
    table = Table(
        title=f"{passages:,} passages, {statistics.median(candidates):.0f} candidates a query; "
        f"median {median['total']:.1f} ms, p95 {outcome.results['p95_ms']:.1f} ms, best {totals[0]:.1f} ms",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("median ms", justify="right")
    table.add_column("share", justify="right")
    for group, labels in _GROUPS.items():
        for label, text in labels.items():
            table.add_row(text, f"{median[label]:.2f}", f"{median[label] / median['total']:.1%}")
        table.add_row(f"[bold]{group}[/]", f"[bold]{median[group]:.2f}[/]", f"{median[group] / median['total']:.1%}")
        table.add_section()
    table.add_row("one deep copy of the candidates, plain lists", f"{median['deep_copy']:.2f}", "")
    outcome.shown.append(table)
    return outcome
