# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`ResRankRetriever` ranks the same on the embedded store and on Qdrant's: 250 real passages, 20 questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from haystack import Document

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
from haystack_integrations.components.rankers.resrank import ResRankRanker
from haystack_integrations.components.retrievers.resrank import ResRankRetriever
from resrank_pipelines.standard_library import harvest

QUESTIONS = (
    "how do I parse a date?",
    "read a csv file",
    "compress a file with gzip",
    "run a command and get its output",
    "send an email over smtp",
    "parse command line arguments",
    "make a temporary directory",
    "walk a directory tree",
    "copy a file with its permissions",
    "base64 encode bytes",
    "open a web page in the browser",
    "wait for several threads to finish",
    "abstract base class",
    "binary search in a sorted list",
    "calendar of a month as text",
    "encode and decode audio frames",
    "what is the error code?",
    "the class that is used by the",
    "asyncio event loop subprocess",
    "ast node visitor",
)
# Measured: 6e-8 in cosines, one float32 step (2e-6) in BM25 scores of up to 23. Fusion sees ranks only.
TOLERANCES = {"hybrid": 0.0, "dense": 1e-6, "bm25": 1e-5}
FILTERS = {
    "none": None,
    "equal": {"field": "meta.kind", "operator": "==", "value": "class"},
    "nested": {
        "operator": "OR",
        "conditions": [
            {"field": "meta.line", "operator": "<", "value": 100},
            {
                "operator": "AND",
                "conditions": [
                    {"field": "meta.kind", "operator": "in", "value": ["function", "module"]},
                    {"field": "meta.title", "operator": "!=", "value": "argparse"},
                ],
            },
        ],
    },
    "nothing": {"field": "meta.kind", "operator": "==", "value": "no such kind"},
}


@pytest.fixture(scope="module")
def passages(mini: ResRankModel) -> list[Document]:
    """The start of each 30th passage of the standard library or so, and copies of one: ties are part of life."""
    everything = harvest()
    chosen = everything[:: max(1, len(everything) // 242)][:242]
    chosen += [replace(chosen[0], id=f"{i}-copy") for i in range(8)]
    documents = [
        replace(d, content=(d.content or "")[:200], meta={**d.meta, "kind": (d.content or "").split(" ", 1)[0]})
        for d in chosen
    ]
    return ResRankDocumentEmbedder(model=mini, progress_bar=False).run(documents=documents)["documents"]


@pytest.fixture(scope="module")
def stores(make_store: Callable[..., Any], passages: list[Document]) -> dict[str, Any]:
    made = {kind: make_store(kind, embedding_dim=384) for kind in ("edge", "server")}
    for store in made.values():
        store.write_documents(passages)
    return made


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_both_stores_rank_the_same(stores: dict[str, Any], mini: ResRankModel, mode: Any, filters: str):
    edge, server = (ResRankRetriever(document_store=stores[kind], model=mini, mode=mode) for kind in ("edge", "server"))
    results = 0
    for question in QUESTIONS if filters != "nothing" else QUESTIONS[:2]:
        ours = edge.run(query=question, filters=FILTERS[filters])["documents"]
        theirs = server.run(query=question, filters=FILTERS[filters])["documents"]
        results += len(ours)
        assert [d.id for d in ours] == [d.id for d in theirs]
        scores = [document.score for document in theirs]
        assert [document.score for document in ours] == pytest.approx(scores, abs=TOLERANCES[mode], rel=0)
    assert (results == 0) is (filters == "nothing")


def test_ranker_answers_the_same_on_both_stores(stores: dict[str, Any], mini: ResRankModel):
    ranker = ResRankRanker(model=mini)
    for question in QUESTIONS[:6]:
        ours, theirs = (
            ranker.run(query=question, **ResRankRetriever(document_store=stores[kind], model=mini).run(query=question))
            for kind in ("edge", "server")
        )
        assert [d.id for d in ours["documents"]] == [d.id for d in theirs["documents"]]
        scores = [d.score for d in theirs["documents"]]
        assert [d.score for d in ours["documents"]] == pytest.approx(scores, abs=1e-4, rel=0)


def test_documents_are_the_same_on_both_stores(stores: dict[str, Any], mini: ResRankModel):
    ours, theirs = (
        ResRankRetriever(document_store=stores[kind], model=mini).run(query=QUESTIONS[0])["documents"]
        for kind in ("edge", "server")
    )
    assert [(d.id, d.content, d.meta["title"], d.meta["line"]) for d in ours] == [
        (d.id, d.content, d.meta["title"], d.meta["line"]) for d in theirs
    ]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.embedding == pytest.approx(other.embedding, abs=1e-6)
