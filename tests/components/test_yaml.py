# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Every class in YAML, loaded in a fresh process by plain `Pipeline.load`: no allow-list, no import of ours before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from haystack import Pipeline
from haystack.components.retrievers import TextEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from haystack_integrations.common.resrank import ResRankModel
from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder, ResRankTextEmbedder
from haystack_integrations.components.preprocessors.resrank import NewPassageFilter
from haystack_integrations.components.rankers.resrank import ResRankRanker
from haystack_integrations.components.retrievers.resrank import QdrantEdgeEmbeddingRetriever, ResRankRetriever
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

QUERY = "how do I parse a date?"

# For each pipeline in order: load, look, warm up, run, close. Prints one JSON line.
CHILD = """
import json, os, sys
from haystack import Document, Pipeline
assert not any("resrank" in name for name in sys.modules)
outcome = {}
for name, inputs in json.loads(sys.argv[1]):
    with open(name + ".yaml") as file:
        pipeline = Pipeline.load(file)
    from haystack_integrations.common.resrank import loaded_models
    steps = {"dump": pipeline.dumps(), "loaded": [loaded_models()]}
    again = Pipeline.loads(pipeline.dumps())
    steps["stable"] = again.dumps() == steps["dump"] and again.to_dict() == Pipeline.loads(again.dumps()).to_dict()
    pipeline.warm_up()
    steps["loaded"].append(loaded_models())
    if "texts" in inputs:
        inputs = {"documents": [Document(id=f"doc-{i:03}", content=t) for i, t in enumerate(inputs["texts"])]}
    found = pipeline.run(inputs)
    steps["documents"] = [[d.id, d.score] for out in found.values() for d in out.get("documents", [])]
    steps["outputs"] = sorted(key for out in found.values() for key in out)
    del found
    pipeline.close()
    steps["loaded"].append(loaded_models())
    outcome[name] = steps
print(json.dumps(outcome))
"""


def single(component: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("only", component)
    return pipeline


def search(retriever: Any, ranker: ResRankRanker, *, embedding: bool = True) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    pipeline.add_component("ranker", ranker)
    pipeline.connect("retriever.documents", "ranker.documents")
    if embedding:
        pipeline.connect("retriever.query_embedding", "ranker.query_embedding")
    return pipeline


def index(store: Any, model: ResRankModel) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("new", NewPassageFilter(document_store=store, model=model))
    pipeline.add_component("embedder", ResRankDocumentEmbedder(model=model, progress_bar=False))
    pipeline.add_component("writer", DocumentWriter(document_store=store, policy=DuplicatePolicy.OVERWRITE))
    pipeline.connect("new.documents", "embedder.documents")
    pipeline.connect("embedder.documents", "writer.documents")
    return pipeline


@pytest.fixture(scope="module")
def cases(tiny_mini_checkpoint: Path, corpus: tuple[str, ...]) -> dict[str, tuple[Pipeline, dict[str, Any]]]:
    model = ResRankModel(str(tiny_mini_checkpoint), dtype="float32")  # device None: portable
    edge = QdrantEdgeDocumentStore(path="store", embedding_dim=32)
    server = QdrantDocumentStore(
        location=":memory:", embedding_dim=32, similarity="dot_product", use_sparse_embeddings=True, sparse_idf=True
    )
    ranker, query, texts = (lambda: ResRankRanker(model=model)), {"query": QUERY}, {"texts": corpus}
    pure = lambda: ResRankRanker(model=model, use_evidence=False)  # noqa: E731 - the classic trio leaves no first stage's
    classic = TextEmbeddingRetriever(
        text_embedder=ResRankTextEmbedder(model=model),
        retriever=QdrantEdgeEmbeddingRetriever(document_store=edge, top_k=100, return_embedding=True),
    )
    return {
        "index": (index(edge, model), texts),
        "new_passage_filter": (single(NewPassageFilter(document_store=edge, model=model)), texts),
        "text_embedder": (single(ResRankTextEmbedder(model=model)), {"text": QUERY}),
        "document_embedder": (single(ResRankDocumentEmbedder(model=model, progress_bar=False)), texts),
        "ranker": (single(ResRankRanker(model=model)), {"query": QUERY, "documents": []}),
        "retriever": (single(ResRankRetriever(document_store=edge, model=model)), query),
        "server_retriever": (single(ResRankRetriever(document_store=server, model=model)), query),
        "hybrid": (search(ResRankRetriever(document_store=edge, model=model), ranker()), query),
        "dense": (search(ResRankRetriever(document_store=edge, model=model, mode="dense"), pure()), query),
        "bm25": (search(ResRankRetriever(document_store=edge, model=model, mode="bm25"), ranker()), query),
        "classic": (search(classic, pure(), embedding=False), query),
        "server": (search(ResRankRetriever(document_store=server, model=model), ranker()), query),
    }


@pytest.fixture(scope="module")
def fresh_process(cases: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that starts with nothing but Haystack makes of the YAML files."""
    folder = tmp_path_factory.mktemp("yaml")
    for name, (pipeline, _) in cases.items():
        (folder / f"{name}.yaml").write_text(pipeline.dumps(), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HAYSTACK", "PYTHONPATH"))}
    environment["HAYSTACK_TELEMETRY_ENABLED"] = "false"
    inputs = json.dumps([(name, given) for name, (_, given) in cases.items()])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, inputs],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


CASES = (
    "index", "new_passage_filter", "text_embedder", "document_embedder", "ranker", "retriever", "server_retriever",
    "hybrid", "dense", "bm25", "classic", "server",
)  # fmt: skip


def test_every_case_is_tested(cases: dict[str, Any]):
    assert tuple(cases) == CASES


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_process_loads_the_same_pipeline(cases: dict[str, Any], fresh_process: dict[str, Any], name: str):
    ours, theirs = yaml.safe_load(cases[name][0].dumps()), yaml.safe_load(fresh_process[name]["dump"])
    for definition in (ours, theirs):  # Haystack writes connections in another order after loading
        definition["connections"].sort(key=json.dumps)
    assert theirs == ours


@pytest.mark.parametrize("name", CASES)
def test_load_dump_load_is_stable(fresh_process: dict[str, Any], name: str):
    assert fresh_process[name]["stable"]


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_loaded_before_warm_up_one_model_after_it_and_none_after_close(
    fresh_process: dict[str, Any], name: str
):
    assert fresh_process[name]["loaded"] == [0, 1, 0]


@pytest.mark.parametrize("name", ["hybrid", "dense", "classic"])
def test_search_pipelines_rank_the_indexed_documents(fresh_process: dict[str, Any], name: str):
    found = fresh_process[name]["documents"]
    assert len({id_ for id_, _ in found}) == len(found) == 10  # the ranker's top_k
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_bm25_alone_finds_fewer(fresh_process: dict[str, Any]):
    assert 0 < len(fresh_process["bm25"]["documents"]) < 10


def test_dense_retriever_and_haystacks_own_around_our_parts_answer_the_same(fresh_process: dict[str, Any]):
    ours, theirs = fresh_process["dense"]["documents"], fresh_process["classic"]["documents"]
    assert [id_ for id_, _ in ours] == [id_ for id_, _ in theirs]
    assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)


def test_second_run_of_the_filter_finds_everything_stored(fresh_process: dict[str, Any]):
    assert fresh_process["new_passage_filter"]["documents"] == []
    assert fresh_process["new_passage_filter"]["outputs"] == [
        "blank",
        "changed",
        "documents",
        "passage_ids",
        "unchanged",
    ]


def test_empty_server_store_answers_with_nothing(fresh_process: dict[str, Any]):
    assert fresh_process["server"]["documents"] == []


def test_dumps_keep_the_device_open_and_the_token_out(cases: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    for pipeline, _ in cases.values():
        assert "hf_very_secret" not in pipeline.dumps()
    model = yaml.safe_load(cases["ranker"][0].dumps())["components"]["only"]["init_parameters"]["model"]
    assert model["init_parameters"]["device"] is None
    assert model["init_parameters"]["dtype"] == "float32"


HAND_WRITTEN = """
components:
  embedder:
    type: haystack_integrations.components.embedders.resrank.text_embedder.ResRankTextEmbedder
    init_parameters: {model: "%s"}
  ranker:
    type: haystack_integrations.components.rankers.resrank.ranker.ResRankRanker
    init_parameters: {top_k: 3, score_threshold: 0.0}
"""


def test_yaml_may_name_the_model_in_short(tiny_mini_checkpoint: Path):
    pipeline = Pipeline.loads(HAND_WRITTEN % tiny_mini_checkpoint)
    assert pipeline.get_component("embedder").model.model == str(tiny_mini_checkpoint)
    ranker = pipeline.get_component("ranker")
    assert (ranker.model.model, ranker.top_k, ranker.score_threshold) == ("resrank-mini", 3, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("top_k: 0", "top_k must be a positive integer or None, got 0"),
        ("topk: 3", "unexpected keyword argument 'topk'"),
        ("on_missing_embedding: skip", "on_missing_embedding must be 'encode' or 'raise', got 'skip'"),
    ],
)
def test_mistakes_in_yaml_are_named_when_loading(change: str, message: str):
    with pytest.raises(Exception, match=message):
        Pipeline.loads(HAND_WRITTEN.replace("top_k: 3", change) % "resrank-mini")


@pytest.mark.parametrize("top_level", [False, True], ids=["handle", "store"])
def test_a_mistake_in_a_nested_object_is_named(top_level: bool, make_store: Callable[..., Any]):
    pipeline = single(ResRankRetriever(document_store=make_store(), model="resrank-mini"))
    wrong = pipeline.dumps().replace("embedding_dim:" if top_level else "dtype:", "no_such_setting:")
    with pytest.raises(Exception, match="no_such_setting"):
        Pipeline.loads(wrong)
