# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Throughput of the document embedder against plain SentenceTransformer.encode on the same texts."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from haystack import Document
from rich.table import Table

from .outcome import Bar, Outcome
from .passages import documents
from .peers import sentence_transformer
from .settings import Settings
from .timing import milliseconds, no_collector

SHARE_OF_SENTENCE_TRANSFORMERS = 0.9
_NAMES = {
    "embedder": "ResRankDocumentEmbedder (dense + BM25)",
    "dense_only": "ResRankDocumentEmbedder(sparse=False)",
    "bm25": "BM25 term weights alone",
    "sentence_transformers": "SentenceTransformer.encode",
}


def run(settings: Settings) -> Outcome:
    """
    Measure.

    :param settings: of the run.
    :returns: passages and tokens a second of each way of encoding.
    """
    from haystack_integrations.common.resrank import ResRankModel
    from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder

    handle = ResRankModel(device=settings.device, dtype=settings.dtype, attn_implementation="sdpa")
    embedder = ResRankDocumentEmbedder(model=handle, progress_bar=False)
    dense_only = ResRankDocumentEmbedder(model=handle, progress_bar=False, sparse=False)
    for each in (embedder, dense_only):
        each.warm_up()
    model = handle.load("encoder")
    reference = sentence_transformer(settings.runtime(), model.encoder.backbone.state_dict())
    passages = documents(settings.pick(1_000, 32), small=settings.quick)
    lengths = [len(ids) for ids in model.encoder.tokenize([d.content or "" for d in passages], is_query=False)[0]]

    def run_once(name: str, chunk: list[Document]) -> Any:
        texts = [document.content or "" for document in chunk]
        if name == "sentence_transformers":
            return reference.encode(texts, show_progress_bar=False)
        if name == "bm25":
            return model.lexical.encode_passages(texts)
        return (embedder if name == "embedder" else dense_only).run(documents=chunk)

    chunk_size = settings.pick(125, 16)
    # Each takes passages from the whole range, so that the chunks are alike.
    chunks = [passages[i :: len(passages) // chunk_size] for i in range(len(passages) // chunk_size)]
    difference = _difference(run_once("embedder", chunks[0])["documents"], run_once("sentence_transformers", chunks[0]))
    times: dict[str, list[float]] = {name: [] for name in _NAMES}
    with no_collector():
        for turn, chunk in enumerate(chunks):
            names = list(_NAMES)[turn % len(_NAMES) :] + list(_NAMES)[: turn % len(_NAMES)]
            for name in names:
                times[name].append(milliseconds(lambda name=name, chunk=chunk: run_once(name, chunk)))
    ratio = statistics.median(
        peer / ours for peer, ours in zip(times["sentence_transformers"], times["embedder"], strict=True)
    )
    outcome = Outcome(
        title=f"Indexing {len(passages):,} passages: {settings.model_name} on {settings.device}",
        sizes={
            "passages": len(passages),
            "chunk": chunk_size,
            "tokens": {
                "mean": statistics.mean(lengths),
                "median": statistics.median(lengths),
                "p95": float(np.percentile(lengths, 95)),
                "max": max(lengths),
                "total": sum(lengths),
                "cut_at_limit": sum(length == model.encoder.max_length for length in lengths),
            },
        },
        results={name: _throughput(times[name], len(passages), sum(lengths)) for name in _NAMES},
        bars=[Bar("passages/s, embedder / SentenceTransformer", ratio, ">=", SHARE_OF_SENTENCE_TRANSFORMERS)],
        notes=[
            f"chunks of {chunk_size} take turns; the ratio is the median over {len(chunks)} chunks",
            f"same vectors: largest difference of a component {difference:.1e}",
        ],
    )
    whole = sum(times["embedder"])
    outcome.results["ratio_of_medians"] = ratio
    outcome.results["bm25_share"] = sum(times["bm25"]) / whole
    outcome.results["dense_share"] = sum(times["dense_only"]) / whole
    outcome.results["largest_difference"] = difference
    tokens = outcome.sizes["tokens"]
    table = Table(
        title=f"tokens a passage: mean {tokens['mean']:.0f}, median {tokens['median']:.0f}, p95 {tokens['p95']:.0f}, "
        f"max {tokens['max']}; {tokens['cut_at_limit']} at the limit",
        title_justify="left",
    )
    table.add_column("")
    for column in ("passages/s", "tokens/s", "ms a passage", "share of the embedder"):
        table.add_column(column, justify="right")
    for name, label in _NAMES.items():
        row = outcome.results[name]
        share = f"{sum(times[name]) / whole:.1%}"
        table.add_row(
            label,
            f"{row['passages_per_s']:,.0f}",
            f"{row['tokens_per_s']:,.0f}",
            f"{row['ms_per_passage']:.2f}",
            share,
        )
    outcome.shown.append(table)
    for each in (embedder, dense_only):
        each.close()
    return outcome


def _throughput(chunks_ms: list[float], passages: int, tokens: int) -> dict[str, float]:
    seconds = sum(chunks_ms) / 1_000
    return {
        "seconds": seconds,
        "passages_per_s": passages / seconds,
        "tokens_per_s": tokens / seconds,
        "ms_per_passage": seconds * 1_000 / passages,
    }


def _difference(embedded: list[Document], reference: Any) -> float:
    ours = np.asarray([document.embedding for document in embedded], dtype=np.float32)
    return float(np.abs(ours - np.asarray(reference, dtype=np.float32)).max())
