# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
`resrank demo`: index real passages, then compare BM25, dense retrieval and ResRank on questions a user might ask.

Latencies are medians over a few runs of the same query, so that the first one's warm-up does not count.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

from haystack import Document, Pipeline
from rich.markup import escape
from rich.table import Table

from haystack_integrations.common.resrank import ResRankModel

from .display import err, out, snippet, source_of
from .indexing import Indexer, Progress
from .loader import MODEL_TYPE, load_pipeline
from .standard_library import harvest, standard_library

QUESTIONS = (
    "how do I parse a date from a string",
    "run a command and capture its output",
    "copy a whole directory tree",
    "count how often each item occurs in a list",
    "make an HTTP request with a timeout",
    "cache the results of an expensive function",
)
SYSTEMS = ("BM25", "dense", "ResRank")
_REPEATS = 5


@dataclass(frozen=True)
class Comparison:
    """
    One question, answered by every system.

    :param question: the query.
    :param documents: the top results of each system.
    :param latency_ms: the median latency of each system in milliseconds, query encoding included where it is needed.
    """

    question: str
    documents: dict[str, list[Document]]
    latency_ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """
        For programs.

        :returns: plain values.
        """
        return {
            "question": self.question,
            "systems": {
                name: {
                    "latency_ms": round(self.latency_ms[name], 2),
                    "results": [{"title": source_of(d), "score": d.score} for d in found],
                }
                for name, found in self.documents.items()
            },
        }


class Demo:
    """
    The demonstration on one store.

    :param model: init parameters of `ResRankModel`.
    :param store: init parameters of the embedded store.
    :param top_k: results of each system.
    """

    def __init__(self, *, model: dict[str, Any], store: dict[str, Any], top_k: int = 3) -> None:
        self._top_k = top_k
        self._model = model
        self._store = store
        self._pipelines: dict[str, Pipeline] = {}
        self._engine = ResRankModel.from_dict({"type": MODEL_TYPE, "init_parameters": dict(model)}).load()

    def index(self, progress: Progress) -> dict[str, Any]:
        """
        Harvest and index the standard library; what is stored already is left alone.

        :param progress: told (what, done, total).
        :returns: counts and seconds.
        """
        started = time.perf_counter()
        progress("Harvesting the Python standard library", 0, 0)
        passages = harvest()
        harvested = time.perf_counter()
        progress("Harvesting the Python standard library", len(passages), len(passages))
        indexer = Indexer(model=self._model, store=self._store, progress=progress)
        try:
            report = indexer.run_documents(passages)
        finally:
            indexer.close()
        return {
            "passages": report.passages,
            "written": report.written,
            "unchanged": report.unchanged,
            "truncated": report.truncated,
            "harvest_s": round(harvested - started, 2),
            "index_s": round(time.perf_counter() - harvested, 2),
        }

    def compare(self, question: str) -> Comparison:
        """
        Ask every system.

        :param question: the query.
        :returns: results and latencies.
        """
        documents, latency = {}, {}
        for name in SYSTEMS:
            pipeline, last = self._pipeline(name)
            pipeline.run({"query": question})
            times = []
            for _ in range(_REPEATS):
                self._engine.forget_queries()
                started = time.perf_counter()
                outcome = pipeline.run({"query": question})
                times.append((time.perf_counter() - started) * 1_000)
            documents[name] = outcome[last]["documents"]
            latency[name] = statistics.median(times)
        return Comparison(question, documents, latency)

    @property
    def is_safe_start(self) -> bool:
        """
        Whether the model is not trained yet.

        :returns: true when ResRank's order is that of its first stage.
        """
        return self._engine.head.is_safe_start

    def close(self) -> None:
        """
        Let model and store go.
        """
        for pipeline in self._pipelines.values():
            pipeline.close()

    def _pipeline(self, system: str) -> tuple[Pipeline, str]:
        if system not in self._pipelines:
            if system == "ResRank":
                self._pipelines[system] = load_pipeline(
                    "search", model=self._model, store=self._store, components={"ranker": {"top_k": self._top_k}}
                )
            else:
                # The same retriever on its own, with one list and as many results as the ranker gives.
                whole = load_pipeline(
                    "search",
                    model=self._model,
                    store=self._store,
                    components={"retriever": {"mode": system.lower(), "top_k": self._top_k}},
                )
                whole.remove_component("ranker")
                self._pipelines[system] = whole
        return self._pipelines[system], "ranker" if system == "ResRank" else "retriever"


def demo_folder() -> str:
    """
    Name the demo's store after the standard library that it holds: another Python has another one.

    :returns: a folder name.
    """
    library = hashlib.sha256(str(standard_library()).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"demo-{sys.version_info.major}.{sys.version_info.minor}-{library}"


def show(comparison: Comparison) -> None:
    """
    Print the results of all systems side by side.

    :param comparison: one question.
    """
    table = Table(title=f"[bold]{escape(comparison.question)}[/]", title_justify="left", expand=True, show_lines=False)
    table.add_column("#", justify="right", no_wrap=True)
    for name in SYSTEMS:
        table.add_column(f"{name}  ({comparison.latency_ms[name]:.1f} ms)", overflow="ellipsis", no_wrap=True, ratio=1)
    for row in range(max(len(found) for found in comparison.documents.values())):
        cells = []
        for name in SYSTEMS:
            found = comparison.documents[name]
            cells.append(_cell(found[row]) if row < len(found) else "")
        table.add_row(str(row + 1), *cells)
    out.print(table)


def ask(demo: Demo) -> None:
    """
    Take questions from the terminal until an empty line, Ctrl-D or Ctrl-C.

    :param demo: indexed.
    """
    err.print("Your own question (empty line to end):")
    while True:
        try:
            question = err.input("[bold]> [/]")
        except (EOFError, KeyboardInterrupt):
            err.print()
            return
        if not question.strip():
            return
        show(demo.compare(question))


def _cell(document: Document) -> str:
    content = (document.content or "").split("\n", 1)[-1]
    return f"[cyan]{escape(source_of(document))}[/]\n[dim]{escape(snippet(Document(content=content, id='x'), 70))}[/]"
