# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`resrank migrate`: on Qdrant's local mode, and on the server that QDRANT_URL names."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_client
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore
from qdrant_client import models
from typer.testing import CliRunner

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.resrank.converters import point_id
from resrank_pipelines import cli
from resrank_pipelines.loader import load_pipeline, read_definition
from resrank_pipelines.migration import Migration, MigrationReport, differing_parts

DIMENSION = 8
COUNT = 23
BATCH = 5
FINGERPRINT = "model-a"


def _documents(count: int = COUNT, *, start: int = 0, fingerprint: str | None = FINGERPRINT) -> list[Document]:
    random = np.random.default_rng(7)
    vectors = random.normal(size=(start + count, DIMENSION)).astype(np.float32)
    made = []
    for number in range(start, start + count):
        meta: dict[str, Any] = {"number": number, "share": number / 7, "tags": ["a", "ü"], "none": None}
        if fingerprint is not None:
            meta["resrank"] = {"fingerprint": fingerprint, "embedded_as": "x"}
        made.append(
            Document(
                id=f"document-{number}",
                content=f"Passage {number} 🚀",
                meta=meta,
                embedding=(vectors[number] / np.linalg.norm(vectors[number])).tolist(),
                sparse_embedding=SparseEmbedding(indices=[number + 9, 2, 4_000_000_000], values=[0.1, number / 3, 1.5]),
            )
        )
    return made


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., QdrantEdgeDocumentStore]]:
    """Makes the store to migrate from; a second one on the folder shares its engine."""
    stores = []

    def make(documents: list[Document] | None = None, **settings: Any) -> QdrantEdgeDocumentStore:
        stores.append(
            QdrantEdgeDocumentStore(**{"path": str(tmp_path / "store"), "embedding_dim": DIMENSION, **settings})
        )
        if documents:
            stores[-1].write_documents(documents)
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: Any, tmp_path: Path) -> Path:
    """A folder with COUNT documents."""
    make_store(_documents()).close()
    return tmp_path / "store"


@pytest.fixture
def client(qdrant: tuple[str, qdrant_client.QdrantClient]) -> qdrant_client.QdrantClient:
    return qdrant[1]


@pytest.fixture
def migration(qdrant: Any, collection: str) -> Iterator[Callable[..., Migration]]:
    """Makes migrations to the test's collection, in batches of BATCH, and closes them."""
    made = []

    def make(folder: Path, **settings: Any) -> Migration:
        made.append(Migration(folder, qdrant[0], collection, **{"batch_size": BATCH, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _contents(client: qdrant_client.QdrantClient, collection: str) -> dict[str, Any]:
    records, _ = client.scroll(collection, limit=1_000, with_payload=True, with_vectors=True)
    return {str(record.id): (record.payload, record.vector) for record in records}


def test_everything_arrives_as_it_was(store, migration, client, collection):
    told = []
    report = migration(store, progress=lambda *step: told.append(step)).run()
    assert report == MigrationReport(created=True, documents=COUNT, written=COUNT, total=COUNT, verified=True)
    assert told[-1] == ("Verifying", COUNT, COUNT)
    payload, vectors = _contents(client, collection)[str(point_id("document-3"))]
    expected = _documents()[3]
    assert (payload["id"], payload["content"], payload["meta"]) == (expected.id, expected.content, expected.meta)
    assert np.array_equal(np.float32(vectors["text-dense"]), np.float32(expected.embedding))
    sparse = vectors["text-sparse"]
    assert dict(zip(sparse.indices, np.float32(sparse.values).tolist(), strict=True)) == dict(
        zip(expected.sparse_embedding.indices, np.float32(expected.sparse_embedding.values).tolist(), strict=True)
    )


def test_the_collection_is_one_of_the_shipped_server_definitions(store, migration, qdrant, collection):
    migration(store).run()
    settings = {"url": qdrant[0], "index": collection, "embedding_dim": DIMENSION, "progress_bar": False}
    definition = read_definition("search_server", store=settings)
    opened = QdrantDocumentStore.from_dict(definition["components"]["retriever"]["init_parameters"]["document_store"])
    assert opened.count_documents() == COUNT
    assert qdrant[1].get_collection(collection).config.params.sparse_vectors["text-sparse"].modifier == "idf"


def test_a_second_run_writes_nothing(store, migration, client, collection, monkeypatch):
    migration(store).run()
    before = _contents(client, collection)
    monkeypatch.setattr(QdrantDocumentStore, "write_documents", lambda *_: pytest.fail("written"))
    report = migration(store).run()
    assert (report.created, report.written, report.unchanged, report.verified) == (False, 0, COUNT, True)
    assert _contents(client, collection) == before


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_killed_run_is_gone_on_with(store, migration, client, collection, *, monkeypatch, batches):
    write, calls = QdrantDocumentStore.write_documents, []

    def killed(self, documents, policy):
        calls.append(len(documents))
        if len(calls) > batches:
            raise KeyboardInterrupt
        return write(self, documents, policy)

    with monkeypatch.context() as patch:
        patch.setattr(QdrantDocumentStore, "write_documents", killed)
        with pytest.raises(KeyboardInterrupt):
            migration(store).run()
    assert client.count(collection).count == batches * BATCH
    report = migration(store).run()
    assert (report.written, report.unchanged) == (COUNT - batches * BATCH, batches * BATCH)
    assert (report.total, report.verified) == (COUNT, True)


def test_changed_documents_of_the_store_are_written_over(store, make_store, migration):
    migration(store).run()
    make_store().update_by_filter({"field": "meta.number", "operator": "<", "value": 2}, {"note": "new"})
    report = migration(store).run()
    assert (report.written, report.unchanged, report.verified) == (2, COUNT - 2, True)


def test_the_source_is_left_as_it_was(store, make_store, migration):
    before = make_store().filter_documents()
    migration(store).run()
    assert make_store().filter_documents() == before


def _tamper_dense(client, collection, point):
    vector = np.float32(_documents()[3].embedding)
    vector[5] += 1e-5
    client.update_vectors(collection, [models.PointVectors(id=point, vector={"text-dense": vector.tolist()})])


def _tamper_sparse(client, collection, point):
    sparse = models.SparseVector(indices=[1], values=[1.0])
    client.update_vectors(collection, [models.PointVectors(id=point, vector={"text-sparse": sparse})])


def _tamper_content(client, collection, point):
    client.set_payload(collection, {"content": "other"}, [point])


def _tamper_meta(client, collection, point):
    client.set_payload(collection, {"number": -1}, [point], key="meta")


def _tamper_fingerprint(client, collection, point):
    client.set_payload(collection, {"fingerprint": "model-b"}, [point], key="meta.resrank")


def _lose(client, collection, point):
    client.delete(collection, [point])


@pytest.mark.parametrize(
    ("tamper", "parts"),
    [
        (_tamper_dense, ["embedding"]),
        (_tamper_sparse, ["sparse_embedding"]),
        (_tamper_content, ["content"]),
        (_tamper_meta, ["meta"]),
        (_tamper_fingerprint, ["fingerprint", "meta"]),
        (_lose, ["missing"]),
    ],
)
def test_the_verification_finds_what_differs(store, migration, client, collection, *, tamper, parts):
    one = migration(store)
    report = one.run()
    tamper(client, collection, str(point_id("document-3")))
    one.verify(report)
    assert report.verified is False
    assert report.differing == 1
    assert report.differences == [{"id": "document-3", "differs": parts}]


def test_a_document_that_came_in_meanwhile_fails_the_verification(store, migration, client, collection):
    one = migration(store)
    report = one.run()
    client.upsert(collection, [models.PointStruct(id=str(point_id("new")), vector={}, payload={"id": "new"})])
    one.verify(report)
    assert (report.verified, report.differing, report.total) == (False, 0, COUNT + 1)


def test_a_dry_run_makes_and_writes_nothing(store, migration, client, collection):
    report = migration(store).run(dry_run=True)
    assert (report.created, report.written, report.verified) == (True, COUNT, None)
    assert not client.collection_exists(collection)
    migration(store).run()
    _lose(client, collection, str(point_id("document-3")))
    report = migration(store).run(dry_run=True)
    assert (report.created, report.written, report.unchanged, report.total) == (False, 1, COUNT - 1, COUNT - 1)
    assert client.count(collection).count == COUNT - 1


def test_searches_give_the_same_on_both(filled_store, tiny_safe_checkpoint, migration, qdrant, collection):
    assert migration(filled_store).run().verified is True
    model = {"model": str(tiny_safe_checkpoint), "dtype": "float32"}
    here = {"path": str(filled_store), "embedding_dim": 32}
    there = {"url": qdrant[0], "index": collection, "embedding_dim": 32}
    found = []
    for name, place in (("search", here), ("search_server", there)):
        pipeline = load_pipeline(name, model=model, store=place)
        found.append(pipeline.run({"query": "how do I parse a date?"})["ranker"]["documents"])
        pipeline.close()
    assert [document.id for document in found[0]] == [document.id for document in found[1]]
    assert len(found[0]) == 3


# ------------------------------------------------------------------------------------------------------------ refusals


def _collection_of(qdrant: Any, collection: str, documents: list[Document], **settings: Any) -> None:
    defaults = {"use_sparse_embeddings": True, "sparse_idf": True, "similarity": "dot_product", "progress_bar": False}
    values = {"url": qdrant[0], "index": collection, "embedding_dim": DIMENSION, **defaults, **settings}
    made = QdrantDocumentStore(**values, api_key=Secret.from_env_var("QDRANT_API_KEY", strict=False))
    made.count_documents()
    if documents:
        made.write_documents(documents, DuplicatePolicy.OVERWRITE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding_dim": 4}, "its vectors have 4 dimensions, those of the store 8"),
        ({"similarity": "cosine"}, "compares vectors by Cosine, the store by Dot"),
        ({"use_sparse_embeddings": False}, "it has no sparse vectors"),
        ({"sparse_idf": False}, "sparse_idf"),
    ],
)
def test_a_collection_of_another_kind_is_refused(store, migration, qdrant, collection, *, settings, message):
    _collection_of(qdrant, collection, [], **settings)
    with pytest.raises(ValueError, match=message):
        migration(store).run(into_existing=True)
    assert qdrant[1].count(collection).count == 0


def test_a_collection_of_another_tool_is_refused(store, migration, client, collection):
    vectors = {"theirs": models.VectorParams(size=DIMENSION, distance=models.Distance.DOT)}
    client.create_collection(collection, vectors_config=vectors)
    with pytest.raises(ValueError, match="not made by Haystack"):
        migration(store).run()


def test_vectors_of_another_model_are_refused_whatever_is_said(store, migration, qdrant, collection):
    _collection_of(qdrant, collection, _documents(3, fingerprint="model-b"))
    before = _contents(qdrant[1], collection)
    with pytest.raises(ValueError, match=r"3 of its documents have vectors of another model .*model-a"):
        migration(store).run(into_existing=True)
    assert _contents(qdrant[1], collection) == before


@pytest.mark.parametrize("fingerprint", [FINGERPRINT, None])
def test_documents_of_others_need_to_be_accepted(store, migration, qdrant, collection, fingerprint):
    _collection_of(qdrant, collection, _documents(7, start=COUNT - 1, fingerprint=fingerprint))
    with pytest.raises(ValueError, match=re.escape("holds 6 documents that the store does not")) as caught:
        migration(store).run()
    assert "--into-existing" in str(caught.value)
    report = migration(store).run(into_existing=True)
    assert (report.others, report.total, report.verified) == (6, COUNT + 6, True)
    assert report.written == (COUNT if fingerprint is None else COUNT - 1)


def test_a_point_that_only_carries_an_id_of_ours_is_anothers(store, migration, qdrant, collection):
    _collection_of(qdrant, collection, [])
    qdrant[1].upsert(collection, [models.PointStruct(id=1, vector={}, payload={"id": "document-3"})])
    with pytest.raises(ValueError, match="holds 1 documents"):
        migration(store).run()


def test_a_store_that_is_half_embedded_again_is_refused(store, make_store, migration, client, collection):
    make_store().stamp("model-b")
    with pytest.raises(ValueError, match=f"{COUNT} documents of the store .* run `resrank index`"):
        migration(store).run()
    assert not client.collection_exists(collection)


# ---------------------------------------------------------------------------------------------------- kinds of stores


def test_an_empty_store_makes_an_empty_collection(make_store, tmp_path, migration, client, collection):
    make_store().warm_up()
    report = migration(tmp_path / "store").run()
    assert (report.documents, report.verified) == (0, True)
    assert client.count(collection).count == 0


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_other_similarities_are_kept(make_store, tmp_path, migration, client, collection, *, similarity):
    make_store(_documents(), similarity=similarity)
    assert migration(tmp_path / "store").run().verified is True
    distance = client.get_collection(collection).config.params.vectors["text-dense"].distance
    assert distance == {"cosine": models.Distance.COSINE, "l2": models.Distance.EUCLID}[similarity]


def test_without_sparse_vectors(make_store, tmp_path, migration):
    make_store(_documents(), use_sparse_embeddings=False)
    for written in (COUNT, 0):
        report = migration(tmp_path / "store").run()
        assert (report.written, report.verified) == (written, True)


def test_documents_of_every_shape(make_store, tmp_path, migration):
    sparse = SparseEmbedding(indices=[], values=[])
    blob = ByteStream(data=bytes(range(256)), meta={"share": 1 / 3}, mime_type="image/png")
    make_store(
        [
            Document(id="no vectors", content="x"),
            Document(id="no content", embedding=[0.5] * DIMENSION, sparse_embedding=sparse),
            Document(id="blob", blob=blob, embedding=[0.0] * DIMENSION),
            Document(id="deep", content="", meta={"a": {"b": [{"c": []}, {}, True, 2**60, 1e-300, "\x00"]}}),
        ]
    )
    for written in (4, 0):
        report = migration(tmp_path / "store").run()
        assert (report.written, report.verified) == (written, True), report.differences


def test_what_counts_as_equal():
    left, right = _documents()[3], _documents()[3]
    assert differing_parts(left, right) == []
    right.meta["share"] = float(np.nextafter(right.meta["share"], 1))
    assert differing_parts(left, right) == []
    right.meta["share"] += 1e-12
    assert differing_parts(left, right) == ["meta"]
    left.meta["share"], right.meta["share"] = 1, True
    assert differing_parts(left, right) == ["meta"]


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def resrank(qdrant: Any, collection: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `resrank migrate` from the store to the collection; gives the result."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, **options: str) -> Any:
        values = {"store": str(store), "qdrant": qdrant[0], "collection": collection, **options}
        named = [part for name, value in values.items() for part in (f"--{name}", value)]
        return CliRunner().invoke(cli.app, ["migrate", *named, *arguments], catch_exceptions=False)

    return run


def test_the_command(resrank):
    planned = resrank("--dry-run")
    assert planned.exit_code == 0, planned.output
    assert f"Of {COUNT} passages, {COUNT} would be written" in planned.stdout
    done = resrank()
    assert done.exit_code == 0, done.output
    assert f"{COUNT} passages written, 0 were there already" in done.stdout
    assert f"Verified: all {COUNT}" in done.stdout
    report = json.loads(resrank("--json").stdout)
    assert (report["written"], report["unchanged"], report["verified"]) == (0, COUNT, True)


def test_the_command_reports_what_differs_with_exit_code_1(resrank, client, collection, monkeypatch):
    write = QdrantDocumentStore.write_documents

    def write_and_tamper(self, documents, policy):
        write(self, documents, policy)
        _tamper_dense(client, collection, str(point_id("document-3")))

    monkeypatch.setattr(QdrantDocumentStore, "write_documents", write_and_tamper)
    done = resrank()
    assert done.exit_code == 1
    assert "differs document-3: embedding" in done.stderr
    assert "Verified" not in done.stdout


def test_no_store(resrank, tmp_path):
    done = resrank(store=str(tmp_path / "nowhere"))
    assert done.exit_code == 1
    assert "there is no store at" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_url_that_is_none(resrank):
    done = resrank(qdrant="localhost:6333")
    assert done.exit_code == 1
    assert "such as http://localhost:6333" in done.stderr


def test_a_store_that_another_process_has_open(resrank, store):
    code = (
        "import sys\n"
        "from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore\n"
        f"store = QdrantEdgeDocumentStore(path={str(store)!r}, embedding_dim={DIMENSION})\n"
        "store.warm_up(); print('open', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        done = resrank()
        process.stdin.close()
    assert done.exit_code == 1
    assert "is open in another process" in done.stderr


def test_no_server(store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = CliRunner().invoke(cli.app, ["migrate", "--store", str(store), "--qdrant", url], catch_exceptions=False)
    assert done.exit_code == 1
    assert f"no Qdrant server answers at {url}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("status", "message"), [(401, "set QDRANT_API_KEY"), (403, "set QDRANT_API_KEY"), (500, "answered 500: oh no")]
)
def test_a_server_that_refuses(store, status, message):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"oh no")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        migration = Migration(store, f"http://127.0.0.1:{server.server_port}", "any")
        with pytest.raises(RuntimeError, match=message):
            migration.run()
        migration.close()
        server.shutdown()
