# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""A collection of another model: refused by what would rank it, embedded again by what indexes, never mixed."""

from __future__ import annotations

import json
import shutil

import pytest

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank import ResRank

pytestmark = pytest.mark.slow


@pytest.fixture
def store(resrank, write_files, tmp_path, tiny_mini_checkpoint):
    """A store of the `mini` model; its files are in `files/`."""
    write_files(tmp_path / "files", 2)
    indexer = resrank("index", str(tmp_path / "files"), "--store", str(tmp_path / "store"), "--model",
                      str(tiny_mini_checkpoint))  # fmt: skip
    assert indexer.ended() == 0, indexer.log
    return tmp_path / "store"


@pytest.fixture
def same_size(qwen_encoder_folder, tmp_path):
    """Another model whose vectors have as many dimensions."""
    ResRank.from_backbones(qwen_encoder_folder, device="cpu", dtype="float32").save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def refused(process):
    assert process.ended() == 1, process.log
    assert "Traceback" not in process.log
    return " ".join(process.log.split())


@pytest.fixture
def run(resrank, store, same_size, tiny_reader_folder, tmp_path):
    """Run a command on the store with the other model."""
    at = ["--store", str(store), "--model", str(same_size)]
    commands = {
        "search": ["search", "a date", *at],
        "ask": ["ask", "a date", *at, "--reader", str(tiny_reader_folder)],
        "serve": ["serve", "--port", "0", *at, "--reader", str(tiny_reader_folder)],
        "index": ["index", str(tmp_path / "files"), *at],
    }
    return lambda name: resrank(*commands[name])


@pytest.mark.parametrize("command", ["search", "ask", "serve"])
def test_what_ranks_refuses_it(run, store, contents, command):
    before = contents(store)
    said = refused(run(command))
    assert "holds vectors of another model" in said
    assert "run `resrank index` with this model" in said
    assert contents(store) == before


@pytest.mark.parametrize("command", ["search", "index", "serve"])
def test_another_dimension_is_refused_by_all(run, store, command):
    manifest = json.loads((store / "resrank.json").read_text(encoding="utf-8"))
    (store / "resrank.json").write_text(json.dumps({**manifest, "embedding_dim": 384, "fingerprint": None}))
    files = sorted(path.stat().st_mtime_ns for path in store.rglob("*"))
    said = refused(run(command))
    assert "embedding_dim=384, but embedding_dim=32 was given" in said
    assert "use the model that it was indexed with" in said
    assert "Nothing was changed" in said
    assert sorted(path.stat().st_mtime_ns for path in store.rglob("*")) == files


def test_the_indexer_embeds_again_and_never_mixes(run, store, contents):
    before = contents(store)
    indexer = run("index")
    assert indexer.ended() == 0, indexer.log
    assert f"{len(before)} passages were embedded again for the changed model" in " ".join(indexer.log.split())
    after = contents(store)
    assert after.keys() == before.keys()
    assert all(after[id_][0] == before[id_][0] and after[id_][1] != before[id_][1] for id_ in after)
    opened = QdrantEdgeDocumentStore(path=str(store), embedding_dim=32)
    stamps = {document.meta["resrank"]["fingerprint"] for document in opened.filter_documents()}
    assert stamps == {opened.fingerprint}
    opened.close()


def test_vectors_under_a_false_stamp_are_refused_one_by_one(run, store, same_size):
    """A store whose manifest was exchanged: the documents themselves say whose they are."""
    other = ResRank.from_pretrained(same_size, device="cpu", dtype="float32").fingerprint
    manifest = json.loads((store / "resrank.json").read_text(encoding="utf-8"))
    (store / "resrank.json").write_text(json.dumps({**manifest, "fingerprint": other}), encoding="utf-8")
    said = refused(run("search"))
    assert "carry vectors of another model" in said


def test_a_folder_that_is_no_store_is_left_alone(resrank, tmp_path, tiny_mini_checkpoint):
    folder = shutil.copytree(tiny_mini_checkpoint, tmp_path / "model")
    before = sorted(path.name for path in folder.rglob("*"))
    said = refused(resrank("search", "a date", "--store", str(folder), "--model", str(tiny_mini_checkpoint)))
    assert "Choose another path. Nothing was changed." in said
    assert sorted(path.name for path in folder.rglob("*")) == before
