# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from haystack import Pipeline

from resrank_pipelines import definition_path, definitions, load_pipeline, read_definition


def test_every_definition_loads_with_plain_pipeline_load_in_a_fresh_process():
    script = (
        "import json, sys, os\n"
        "assert 'HAYSTACK_DESERIALIZATION_ALLOWLIST' not in os.environ\n"
        "from haystack import Pipeline\n"
        "out = {}\n"
        "for path in sys.argv[1:]:\n"
        "    with open(path, encoding='utf-8') as file:\n"
        "        pipeline = Pipeline.load(file)\n"
        "    again = Pipeline.loads(pipeline.dumps())\n"
        "    assert again.to_dict()['components'] == pipeline.to_dict()['components'], path\n"
        "    out[path] = sorted(pipeline.to_dict()['components'])\n"
        "print(json.dumps(out))\n"
    )
    paths = [str(definition_path(name)) for name in definitions()]
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert set(loaded) == set(paths)
    assert len(paths) == 14
    assert loaded[str(definition_path("search"))] == ["ranker", "retriever"]


@pytest.mark.parametrize("name", definitions())
def test_every_definition_declares_inputs_and_outputs_that_exist(name):
    definition = read_definition(name)
    targets = []
    for value in definition["inputs"].values():
        targets.extend(value if isinstance(value, list) else [value])
    pipeline = Pipeline.from_dict(definition)
    sockets = {f"{c}.{s}" for c, found in pipeline.inputs().items() for s in found}
    assert targets
    assert set(targets) <= sockets
    outputs = {
        f"{c}.{s}"
        for c, found in pipeline.outputs(include_components_with_connected_outputs=True).items()
        for s in found
    }
    assert set(definition["outputs"].values()) <= outputs


def test_overrides_reach_every_model_store_and_component():
    definition = read_definition(
        "search_trio", model={"dtype": "float32"}, store={"path": "elsewhere"}, components={"ranker": {"top_k": 3}}
    )
    inner = definition["components"]["retriever"]["init_parameters"]
    assert inner["text_embedder"]["init_parameters"]["model"]["init_parameters"]["dtype"] == "float32"
    assert inner["retriever"]["init_parameters"]["document_store"]["init_parameters"]["path"] == "elsewhere"
    assert definition["components"]["ranker"]["init_parameters"]["top_k"] == 3
    assert "x-shared" not in definition


def test_unknown_names_say_what_there_is():
    with pytest.raises(ValueError, match=r"no pipeline definition 'find': there are index, index_server, passages,"):
        load_pipeline("find")
    with pytest.raises(ValueError, match=r"has no component 'reranker': it has retriever, ranker"):
        load_pipeline("search", components={"reranker": {}})


@pytest.mark.parametrize("name", ["search", "search_dense", "search_trio"])
def test_a_query_is_all_a_caller_writes(name, filled_store: Path, tiny_safe_checkpoint: Path):
    pipeline = load_pipeline(
        name, model={"model": str(tiny_safe_checkpoint)}, store={"path": str(filled_store), "embedding_dim": 32}
    )
    try:
        answer = pipeline.run({"query": "how do I parse a date?"})
    finally:
        pipeline.close()
    assert list(answer) == ["ranker"]  # no vectors in what a server would send
    documents = answer["ranker"]["documents"]
    assert 0 < len(documents) <= 10
    assert all(d.embedding is None for d in documents)
    assert [d.score for d in documents] == sorted((d.score for d in documents), reverse=True)


def test_the_index_pipeline_takes_sources(tmp_path: Path, tiny_safe_checkpoint: Path):
    (tmp_path / "a.txt").write_text("Dates are parsed with strptime.", encoding="utf-8")
    (tmp_path / "b.md").write_text("# Bread\n\nKnead the dough.", encoding="utf-8")
    (tmp_path / "c.html").write_text(
        "<html><body><article><p>Paris is the capital of France, a city on the Seine.</p></article></body></html>",
        encoding="utf-8",
    )
    pipeline = load_pipeline(
        "index",
        model={"model": str(tiny_safe_checkpoint)},
        store={"path": str(tmp_path / "store"), "embedding_dim": 32},
    )
    sources = [str(tmp_path / name) for name in ("a.txt", "b.md", "c.html")]
    try:
        assert pipeline.run({"sources": sources})["writer"]["documents_written"] == 3
        again = pipeline.run({"sources": sources}, include_outputs_from={"new_passages"})
    finally:
        pipeline.close()
    assert again["writer"]["documents_written"] == 0
    assert again["new_passages"]["unchanged"] == 3


def test_hayhooks_serves_the_shipped_search(filled_store: Path, tiny_safe_checkpoint: Path, tmp_path: Path):
    script = (
        "import os, sys\n"
        "from fastapi.testclient import TestClient\n"
        "import hayhooks\n"
        "with TestClient(hayhooks.create_app()) as client:\n"
        "    answer = client.post('/search/run', json={'query': 'how do I parse a date?'})\n"
        "    assert answer.status_code == 200, answer.text\n"
        "    print(len(answer.json()['result']['ranker']['documents']))\n"
        "    assert client.post('/search/run', json={}).status_code == 422\n"
    )
    text = definition_path("search").read_text(encoding="utf-8")
    text = text.replace("path: .resrank/store", f"path: {filled_store}").replace(
        "embedding_dim: 384", "embedding_dim: 32"
    )
    text = text.replace("model: resrank-mini", f"model: {tiny_safe_checkpoint}")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "search.yaml").write_text(text, encoding="utf-8")
    import os

    environment = {**os.environ, "HAYHOOKS_PIPELINES_DIR": str(tmp_path / "pipelines"), "HAYHOOKS_DISABLE_MCP": "true"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert int(done.stdout.splitlines()[-1]) > 0


@pytest.mark.parametrize("name", [name for name in definitions() if not name.endswith("_server")])
def test_a_server_definition_differs_in_the_store_alone(name):
    dense = {"edge_retriever.QdrantEdgeEmbeddingRetriever", "retriever.QdrantEmbeddingRetriever"}

    def without_store(node):
        if isinstance(node, list):
            return [without_store(value) for value in node]
        if not isinstance(node, dict):
            return node
        kind = str(node.get("type", ""))
        if kind.endswith("DocumentStore"):
            return "the store"
        same = {"type": "the store's retriever"} if any(kind.endswith(each) for each in dense) else {}
        return {key: without_store(value) for key, value in node.items()} | same

    assert without_store(read_definition(name)) == without_store(read_definition(f"{name}_server"))
