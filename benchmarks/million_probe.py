# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
One stage of the benchmark `million`: `python -m benchmarks.million_probe STAGE FOLDER` prints JSON.

`FOLDER` holds `job.json`, `vectors.npy`, `queries.npy` and `neighbours.npy`; the store is its `store/`. Everything goes
through `QdrantEdgeDocumentStore`.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

_DOCUMENTS_PER_WRITE = 10_000
_TOP_K = 10
_WARMING = 50  # searches before those that are timed
_PAUSE_S = 0.25  # between searches beside a writer and a build: four a second at most


def main(stage: str, folder: Path) -> dict[str, Any]:
    """
    Go through a stage.

    :param stage: `write`, `optimize` or `search`; `passages` and `open` for the store of whole passages; `live` for a
        store that is written, indexed and searched at once.
    :param folder: see the module.
    :returns: plain values.
    """
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    stages = {
        "write": _write,
        "optimize": _optimize,
        "search": _search,
        "passages": _passages,
        "open": _open,
        "live": _live,
    }
    return stages[stage](folder, job)


def _store(folder: Path, job: dict[str, Any], search_params: dict[str, Any] | None = None) -> QdrantEdgeDocumentStore:
    return QdrantEdgeDocumentStore(
        path=str(folder / "store"),
        embedding_dim=job["dimension"],
        use_sparse_embeddings=False,
        optimize_threshold=0,  # one build, timed by itself
        optimize_in_background=False,  # here, so that its processor time and memory are this process's
        search_params=search_params,
        **job["store"],
    )


def _write(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    store = _store(folder, job)
    writing = 0.0
    started = time.perf_counter()
    for documents in _documents(folder):
        made = time.perf_counter()
        store.write_documents(documents)
        writing += time.perf_counter() - made
    ended = time.perf_counter()
    store.close()
    closing, making = time.perf_counter() - ended, ended - started - writing
    return {"seconds": writing, "closing_seconds": closing, "making_seconds": making, **_memory()}


def _documents(folder: Path) -> Iterator[list[Document]]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    for start in range(0, len(vectors), _DOCUMENTS_PER_WRITE):
        block = vectors[start : start + _DOCUMENTS_PER_WRITE].tolist()
        yield [
            Document(id=str(row), content=f"passage {row}", embedding=vector)
            for row, vector in enumerate(block, start=start)
        ]


def _optimize(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    store = _store(folder, job)
    store.warm_up()
    wall, processor = time.perf_counter(), time.process_time()
    changed = store.optimize()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    store.close()
    return {"seconds": wall, "processor_seconds": processor, "changed": changed, **_memory()}


def _whole_passages(folder: Path, job: dict[str, Any]) -> QdrantEdgeDocumentStore:
    return QdrantEdgeDocumentStore(
        path=str(folder / "passages"),
        embedding_dim=job["dimension"],
        optimize_threshold=0,
        optimize_in_background=False,
        **job["store"],
    )


def _passages(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    from haystack.dataclasses import SparseEmbedding

    from resrank import ResRank

    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    vectors = np.load(folder / "real.npy").tolist()
    lexical = ResRank.from_pretrained().lexical
    documents = [
        Document(
            id=str(row),
            content=text,
            meta={"file_path": f"collection/{row}.txt", "split_id": row},
            embedding=vector,
            sparse_embedding=SparseEmbedding(*terms),
        )
        for row, (text, vector, terms) in enumerate(zip(texts, vectors, lexical.encode_passages(texts), strict=True))
    ]
    store = _whole_passages(folder, job)
    started = time.perf_counter()
    for start in range(0, len(documents), _DOCUMENTS_PER_WRITE):
        store.write_documents(documents[start : start + _DOCUMENTS_PER_WRITE])
    seconds = time.perf_counter() - started
    store.optimize()
    store.close()
    return {
        "passages": len(texts),
        "characters": float(np.mean([len(text) for text in texts])),
        "terms": float(np.mean([len(each.sparse_embedding.indices) for each in documents if each.sparse_embedding])),
        "seconds": seconds,
    }


def _open(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    store = _whole_passages(folder, job)
    before = _memory()
    store.warm_up()
    after = _memory()
    store.close()
    return {name: after[name] - before[name] for name in ("rss_mib", "anonymous_mib")}


def _search(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    queries, expected = _queries(folder)
    store = _store(folder, job, job["searches"][0])
    imported = _memory()
    started = time.perf_counter()
    store.warm_up()
    opened = time.perf_counter() - started
    first = [_timed(store, query)[1] for query in queries[-10:]]
    measured: dict[str, Any] = {
        "open_seconds": opened,
        "first_searches_ms": first,
        "rss_before_mib": imported["rss_mib"],
        "rss_opened": _memory(),
        "searches": [],
    }
    for params in job["searches"]:
        using = _store(folder, job, params)
        for query in queries[:_WARMING]:
            _timed(using, query)
        timed = [_timed(using, query) for query in queries]
        times, processor = [each for _, each, _ in timed], [each for _, _, each in timed]
        hits = _hits(timed, expected)
        half = job["real_queries"]
        measured["searches"].append(
            {
                "params": params,
                "recall": float(np.mean(hits)),
                "recall_real_queries": float(np.mean(hits[:half])) if half else None,
                "recall_copies": float(np.mean(hits[half:])),
                "p50_ms": float(np.percentile(times, 50)),
                "p95_ms": float(np.percentile(times, 95)),
                "p99_ms": float(np.percentile(times, 99)),
                # Other processes' turns do not count here; all threads of this one do.
                "processor_p50_ms": float(np.percentile(processor, 50)),
                "processor_p95_ms": float(np.percentile(processor, 95)),
            }
        )
        using.close()
    measured.update(_memory())
    store.close()
    return measured


def _live(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """One thread writes as fast as it can, the store starts builds by itself, and another thread searches meanwhile."""
    queries, expected = _queries(folder)
    store = QdrantEdgeDocumentStore(
        path=str(folder / "live"), embedding_dim=job["dimension"], use_sparse_embeddings=False, **job["store"]
    )
    store.warm_up()
    phase, times, ended = "writing", {"writing": [], "indexing": []}, threading.Event()

    def search() -> None:
        for query in itertools.cycle(queries):
            if ended.wait(_PAUSE_S):
                return
            times[phase].append(_timed(store, query)[1])

    with ThreadPoolExecutor(1) as pool:
        searching = pool.submit(search)
        try:
            longest = 0.0
            started = time.perf_counter()
            for documents in _documents(folder):
                before = time.perf_counter()
                store.write_documents(documents)
                longest = max(longest, time.perf_counter() - before)
            written, phase = time.perf_counter(), "indexing"
            store.optimize()  # waits for what is under way, and indexes the rest
            indexed = time.perf_counter()
        finally:
            ended.set()
        searching.result()
    timed = [_timed(store, query) for query in queries]
    count = store.count_documents()
    store.close()
    return {
        "documents": count,
        "writing_seconds": written - started,
        "longest_write_seconds": longest,
        "indexing_seconds": indexed - written,
        "searches": {name: _percentiles(each) for name, each in times.items()},
        "indexed": _percentiles([each for _, each, _ in timed]),
        "recall": float(np.mean(_hits(timed, expected))),
        **_memory(),
    }


def _percentiles(times: list[float]) -> dict[str, float]:
    if not times:
        return {"count": 0}
    p50, p95, most = np.percentile(times, (50, 95, 100)).tolist()
    return {"count": len(times), "p50_ms": p50, "p95_ms": p95, "longest_ms": most}


def _queries(folder: Path) -> tuple[list[list[float]], list[set[str]]]:
    """The queries, and the ids of each one's exact neighbours."""
    neighbours = np.load(folder / "neighbours.npy")[:, :_TOP_K].tolist()
    return np.load(folder / "queries.npy").tolist(), [{str(row) for row in rows} for rows in neighbours]


def _hits(timed: list[tuple[set[str], float, float]], expected: list[set[str]]) -> list[float]:
    return [len(found & wanted) / _TOP_K for (found, _, _), wanted in zip(timed, expected, strict=True)]


def _timed(store: QdrantEdgeDocumentStore, query: list[float]) -> tuple[set[str], float, float]:
    started, worked = time.perf_counter(), time.process_time()
    found, _ = store.search_ids(query_embedding=query, query_sparse_embedding=None, top_k=_TOP_K)
    ended = time.perf_counter() - started, time.process_time() - worked
    return {name for name, _ in found or []}, 1_000 * ended[0], 1_000 * ended[1]


def _memory() -> dict[str, float]:
    """Resident memory in MiB: all of it, its peak, and the part that is not pages of files."""
    values = {"rss_mib": 0.0, "peak_mib": 0.0, "anonymous_mib": 0.0}
    fields = {"VmRSS:": "rss_mib", "VmHWM:": "peak_mib", "RssAnon:": "anonymous_mib"}
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.is_file() else []:
        name, *rest = line.split()
        if name in fields:
            values[fields[name]] = int(rest[0]) / 1_024
    return values


if __name__ == "__main__":
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
