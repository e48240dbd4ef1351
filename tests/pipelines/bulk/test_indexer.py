# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`BulkIndexer` and `resrank bulk` in one process: what ends up in the store, what is embedded, what is told."""

from __future__ import annotations

import json
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from haystack import Document
from typer.testing import CliRunner

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank import ResRank
from resrank_pipelines import cli
from resrank_pipelines.bulk.fields import Fields
from resrank_pipelines.bulk.indexer import BulkIndexer
from resrank_pipelines.indexing import Indexer


def stored(store: Any) -> dict[str, Document]:
    return {document.id: document for document in store.filter_documents()}


def assert_same(found: dict[str, Document], expected: dict[str, Document]) -> None:
    assert found.keys() == expected.keys()
    for name, document in expected.items():
        other = found[name]
        assert (other.content, other.meta) == (document.content, document.meta)
        assert np.allclose(other.embedding, document.embedding, atol=1e-6)
        assert other.sparse_embedding.indices == document.sparse_embedding.indices
        assert np.allclose(other.sparse_embedding.values, document.sparse_embedding.values)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were really encoded, in order."""
    texts: list[str] = []
    original = ResRank.encode_passages

    def counting(self: ResRank, passages: list[str], **settings: Any) -> Any:
        texts.extend(passages)
        return original(self, passages, **settings)

    monkeypatch.setattr(ResRank, "encode_passages", counting)
    return texts


class Interrupt:
    """A progress that presses Ctrl-C when so many rows are acknowledged."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(self, what: str, done: int, total: int) -> None:
        if what.startswith("Indexing rows") and done >= self.rows:
            raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------------- the store


def test_the_same_collection_as_by_the_plain_pipeline(bulk, rows, write, parameters, tmp_path):
    indexer = bulk()
    report = indexer.run([write(rows(50))])
    assert (report.rows, report.passages, report.written, report.total) == (50, 50, 50, 50)
    contents = [f"{row['title']}\n{row['text']}" if "title" in row else row["text"] for row in rows(50)]
    documents = [
        Document(id=row["_id"], content=content, meta={"title": row["title"]} if "title" in row else {})
        for row, content in zip(rows(50), contents, strict=True)
    ]
    model = {**parameters["model"], "dtype": "float32"}
    naive = Indexer("passages", model=model, store={**parameters["store"], "path": str(tmp_path / "naive")})
    try:
        assert naive.run_documents(documents).written == 50
        assert_same(stored(indexer._open().store), stored(naive.store))
    finally:
        naive.close()


def test_a_second_run_encodes_nothing_and_leaves_no_state(bulk, rows, write, tmp_path, encoded):
    path = write(rows(30))
    assert bulk().run([path]).written == 30
    assert len(encoded) == 30
    second = bulk().run([path])
    assert (second.written, second.unchanged, second.resumed, second.total) == (0, 30, 0, 30)
    assert len(encoded) == 30
    assert not list((tmp_path / "state").iterdir())


def test_only_what_has_changed_is_encoded_and_written_over(bulk, rows, write, encoded):
    made = rows(30)
    bulk().run([write(made)])
    del encoded[:]
    made[4]["text"] = "Another text."
    made[9]["title"] = "Another title"
    indexer = bulk()
    report = indexer.run([write([*made, {"_id": "new", "text": "New."}])])
    assert (report.written, report.replaced, report.unchanged, report.total) == (3, 2, 28, 31)
    title_and_text = f"Another title\n{made[9]['text']}"
    assert sorted(encoded) == sorted(["Another text.", title_and_text, "New."])
    found = stored(indexer._open().store)
    assert (found["d4"].content, found["d9"].meta["title"]) == ("Another text.", "Another title")


def test_a_renamed_file_and_another_order_change_nothing(bulk, rows, write, encoded):
    bulk().run([write(rows(30))])
    del encoded[:]
    assert bulk().run([write(rows(30)[::-1], "dump-2.jsonl")]).unchanged == 30
    assert encoded == []


def test_a_prefix_keeps_corpora_apart(bulk, rows, write):
    bulk(fields=Fields(prefix="a/")).run([write(rows(5))])
    indexer = bulk(fields=Fields(prefix="b/"))
    assert indexer.run([write(rows(5))]).total == 10
    assert {name[:2] for name in stored(indexer._open().store)} == {"a/", "b/"}


def test_rows_that_contradict_each_other_settle_at_once(bulk, rows, write, encoded):
    path = write([*rows(20), {"_id": "d3", "text": "Another text for an old id."}, rows(20)[5]])
    first = bulk().run([path])
    assert (first.written, first.conflicts, first.duplicates) == (20, 1, 1)
    assert [problem.where for problem in first.problems] == [f"{path}:21", f"{path}:22"]
    del encoded[:]
    assert bulk().run([path]).unchanged == 20
    assert encoded == []


def test_another_model_embeds_the_corpus_again_and_tells_of_other_passages(bulk, rows, write, tiny_mini, tmp_path):
    bulk().run([write([*rows(10), {"_id": "elsewhere", "text": "Of another corpus."}])])
    other = tiny_mini().load()
    with torch.no_grad():
        for parameter in other.encoder.backbone.parameters():
            parameter.mul_(1.1)
    other.save_pretrained(tmp_path / "other-model")
    changed = {"model": str(tmp_path / "other-model"), "dtype": "float32"}
    indexer = bulk(model=changed)
    report = indexer.run([write(rows(10))])
    assert (report.written, report.replaced, report.outdated, report.total) == (10, 10, 1, 11)
    stamps = {name: document.meta["resrank"]["fingerprint"] for name, document in stored(indexer._open().store).items()}
    assert len({stamp for name, stamp in stamps.items() if name != "elsewhere"}) == 1


def test_cut_passages_are_counted_with_their_lines(bulk, write):
    path = write([{"_id": "short", "text": "Words."}, {"_id": "long", "text": "word " * 200}])
    report = bulk().run([path])
    assert report.truncated == 1
    (problem,) = report.problems
    assert (problem.kind, problem.where) == ("truncated", f"{path}:2")
    assert "tokens were cut off" in problem.what


def test_memory_holds_a_few_batches_whatever_the_corpus(bulk, rows, write, monkeypatch):
    made: list[weakref.ref[Document]] = []
    alive: list[int] = []
    original = Fields.document

    def watched(self: Fields, *row: Any) -> Document:
        document = original(self, *row)
        made.append(weakref.ref(document))
        return document

    monkeypatch.setattr(Fields, "document", watched)
    count = lambda *_: alive.append(sum(ref() is not None for ref in made))  # noqa: E731
    report = bulk(progress=count, batch_size=10).run([write(rows(300))])
    assert (report.written, len(made)) == (300, 300)
    assert len(alive) >= 30
    assert max(alive) <= 2 * 10


# ----------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_an_interrupted_run_goes_on_and_encodes_nothing_twice(kind, bulk, rows, write, encoded):
    path = write(rows(50))
    if kind == "gzip":
        import gzip

        path = path.with_name("c.jsonl.gz")
        path.write_bytes(gzip.compress((path.parent / "corpus.jsonl").read_bytes()))
    for rows_until in (16, 32):
        with pytest.raises(KeyboardInterrupt):
            bulk(progress=Interrupt(rows_until)).run([path])
    indexer = bulk()
    report = indexer.run([path])
    assert report.resumed == 32
    assert (report.rows, report.passages, report.written, report.unchanged, report.total) == (50, 50, 50, 0, 50)
    assert len(encoded) == len(set(encoded)) == 50


def test_problems_before_an_interruption_are_still_told(bulk, rows, write):
    path = write([*rows(9), rows(9)[0], *rows(50)[9:], rows(50)[1]])
    with pytest.raises(KeyboardInterrupt):
        bulk(progress=Interrupt(24)).run([path])
    report = bulk().run([path])
    assert (report.rows, report.duplicates, report.total) == (52, 2, 50)
    assert [problem.where for problem in report.problems] == [f"{path}:10", f"{path}:52"]


def test_a_checkpoint_does_not_count_when_the_store_lost_what_it_speaks_of(bulk, rows, write, encoded):
    path = write(rows(50))
    with pytest.raises(KeyboardInterrupt):
        bulk(progress=Interrupt(32)).run([path])
    indexer = bulk()
    indexer._open().store.delete_documents([f"d{n}" for n in range(10)])
    report = indexer.run([path])
    assert (report.resumed, report.total) == (0, 50)
    assert len(encoded) == 60


@pytest.mark.parametrize("kind", ["file", "model", "told so"])
def test_a_checkpoint_of_something_else_does_not_count(*, kind, bulk, rows, write, tiny_safe_checkpoint, tmp_path):
    path = write(rows(50))
    with pytest.raises(KeyboardInterrupt):
        bulk(progress=Interrupt(32)).run([path])
    if kind == "file":
        changed = rows(50)
        changed[0]["text"] = "Another text."
        report = bulk().run([write(changed)])
        assert (report.resumed, report.replaced, report.total) == (0, 1, 50)
    elif kind == "model":
        import shutil

        folder = shutil.copytree(tiny_safe_checkpoint, tmp_path / "changed")
        config = json.loads((folder / "config.json").read_text())
        config["lexical"] = {**config.get("lexical", {}), "avg_len": 10.0}
        (folder / "config.json").write_text(json.dumps(config))
        report = bulk(model={"model": str(folder), "dtype": "float32"}).run([path])
        assert (report.resumed, report.written, report.outdated) == (0, 50, 0)
    else:
        report = bulk().run([path], from_start=True)
        assert (report.resumed, report.unchanged, report.total) == (0, 32, 50)


def test_a_damaged_row_keeps_what_was_written_and_the_mended_file_goes_on(bulk, rows, write, encoded):
    made = rows(50)
    with pytest.raises(ValueError, match=r"corpus.jsonl:31: expected a JSON object"):
        bulk().run([write([*made[:30], "{", *made[30:]])])
    assert len(encoded) == 24
    assert bulk().run([write(made)]).total == 50
    assert len(encoded) == 50


# ------------------------------------------------------------------------------------------------------------ server


def test_a_server_gets_the_same_collection(*, bulk, rows, write, server, collection, remote, parameters, encoded):
    path = write(rows(50))
    edge = bulk()
    edge.run([path])
    target = {"url": server, "index": collection}
    with pytest.raises(KeyboardInterrupt):
        bulk(store=target, progress=Interrupt(16)).run([path])
    report = bulk(store=target).run([path])
    assert (report.resumed, report.written, report.total) == (16, 50, 50)
    assert len(encoded) == 100
    assert bulk(store=target).run([path]).unchanged == 50
    assert len(encoded) == 100
    found = remote(collection)
    assert_same(stored(found), stored(edge._open().store))
    found.close()


def test_no_server_is_said_in_one_line(bulk, rows, write):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=rf"no Qdrant server answers at http://127.0.0.1:{port}"):
        bulk(store={"url": f"http://127.0.0.1:{port}", "index": "x"}).run([write(rows(3))])


def test_settings_that_cannot_work_are_refused_before_anything_loads(bulk):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        bulk(batch_size=0)
    with pytest.raises(ValueError, match=r"Ray's actors write to a Qdrant server, .* --qdrant"):
        bulk(runner="ray")
    with pytest.raises(ValueError, match=r"--qdrant takes the URL of a server, .*got 'localhost:6333'"):
        bulk(store={"url": "localhost:6333"})


# ----------------------------------------------------------------------------------------------------------- command


def invoke(path: Path, model: Path, *arguments: str) -> Any:
    store = str(path.parent / "commanded")
    common = ["--store", store, "--state", f"{store}-state", "--model", str(model), "--dtype", "float32"]
    return CliRunner().invoke(cli.app, ["bulk", str(path), *common, *arguments])


def test_the_command_tells_what_it_did(rows: Callable[..., Any], write, tiny_safe_checkpoint):
    path = write([*rows(20), rows(20)[0], {"_id": "e", "text": ""}])
    done = invoke(path, tiny_safe_checkpoint)
    assert done.exit_code == 0, done.output
    assert "20 passages written, 0 unchanged, from 22 rows" in done.output
    assert "1 rows repeat an earlier one and were left out" in done.output
    assert f"blank {path}:22: 'e' has no text" in done.output.replace("\n", "")
    again = invoke(path, tiny_safe_checkpoint, "--json")
    summary = json.loads(again.stdout)
    expected = {"rows": 22, "passages": 20, "written": 0, "unchanged": 20, "blank": 1, "duplicates": 1, "total": 20}
    assert {key: summary[key] for key in expected} == expected
    assert [problem["kind"] for problem in summary["problems"]] == ["duplicates", "blank"]


def test_the_command_stops_at_a_damaged_row_or_counts_it(rows, write, tiny_safe_checkpoint):
    path = write([*rows(3), "{"])
    stopped = invoke(path, tiny_safe_checkpoint)
    assert stopped.exit_code == 1
    output = stopped.output.replace("\n", "")
    assert f"error: {path}:4: expected a JSON object" in output
    assert "--skip-damaged" in output
    skipped = invoke(path, tiny_safe_checkpoint, "--skip-damaged")
    assert skipped.exit_code == 3
    assert "1 rows are damaged and were left out" in skipped.output


def test_what_bulk_writes_the_other_commands_find(rows, write, tiny_safe_checkpoint):
    path = write([*rows(20), {"_id": "x", "text": "Zinc is a metal.", "title": "Zinc", "year": 2026}])
    assert invoke(path, tiny_safe_checkpoint, "--meta", "year").exit_code == 0
    store = str(path.parent / "commanded")
    found = CliRunner().invoke(
        cli.app, ["search", "zinc metal", "--store", store, "--model", str(tiny_safe_checkpoint), "--json", "-k", "21"]
    )
    assert found.exit_code == 0, found.output
    results = {result["id"]: result for result in json.loads(found.stdout)["results"]}
    assert results["x"]["meta"] == {"title": "Zinc", "year": 2026}
    assert results["x"]["content"] == "Zinc\nZinc is a metal."


def test_an_embedded_store_that_is_open_elsewhere_is_said(bulk, rows, write, parameters):
    # In one process all stores on a folder share one engine; here only that nothing is left open.
    indexer: BulkIndexer = bulk()
    indexer.run([write(rows(3))])
    indexer.close()
    store = QdrantEdgeDocumentStore(**parameters["store"])
    assert store.count_documents() == 3
    store.close()
