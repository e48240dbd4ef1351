# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Nothing acknowledged is lost, and every folder opens again, whenever the process is killed."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.resrank import shard as shard_module
from haystack_integrations.document_stores.resrank.manifest import read_manifest

WRITER = """
import sys
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

path, mode = sys.argv[1:]
store = QdrantEdgeDocumentStore(path=path, embedding_dim=4, write_batch_size=8, optimize_threshold=200)
number = store.count_documents()
while True:
    documents = [
        Document(id=str(n), meta={"n": n, "resrank": {"fingerprint": "one"}}, embedding=[1.0, 0.0, 0.0, float(n % 16)])
        for n in range(number, number + 16)
    ]
    store.write_documents(documents, DuplicatePolicy.OVERWRITE)
    number += 16
    print("written", number, flush=True)
    if mode == "optimise" and number % 160 == 0:
        store.optimize()
    if mode == "flush" and number % 64 == 0:
        store.flush()
"""


def check(path: Path, acknowledged: int) -> int:
    """Open what a killed writer left, and check that all acknowledged documents are whole."""
    store = QdrantEdgeDocumentStore(path=str(path), embedding_dim=4, optimize_threshold=0)  # no build of its own
    try:
        documents = sorted(store.filter_documents(), key=lambda document: document.meta["n"])
        assert len(documents) >= acknowledged
        assert [document.meta["n"] for document in documents] == list(range(len(documents)))
        assert all(document.embedding == [1.0, 0.0, 0.0, float(document.meta["n"] % 16)] for document in documents)
        assert store.fingerprint == ("one" if documents else store.fingerprint)
        store.write_documents([Document(id="new")], DuplicatePolicy.OVERWRITE)
        assert store.count_documents() == len(documents) + 1
        store.delete_documents(["new"])
        assert sorted(os.listdir(path)) == ["resrank.json", read_manifest(str(path)).shard]
        return len(documents)
    finally:
        store.close()


def kill_repeatedly(run_process, path: Path, *, kills: int, longest: float, mode: str = "write", fresh: bool = False):
    generator = random.Random()
    total = 0
    for _ in range(kills):
        codes, printed = run_process(WRITER, path, mode, kill_after=generator.uniform(0, longest))
        assert codes == [-9], printed
        acknowledged = [line.split()[1] for line in printed.splitlines(keepends=True) if line.endswith("\n")]
        total += check(path, int(acknowledged[-1]) if acknowledged else 0)
        if fresh:
            shutil.rmtree(path)
    return total


def test_kill_while_writing(run_process, tmp_path):
    assert kill_repeatedly(run_process, tmp_path / "store", kills=5, longest=0.5)


def test_kill_while_creating(run_process, tmp_path):
    kill_repeatedly(run_process, tmp_path / "store", kills=8, longest=0.08, fresh=True)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["write", "flush", "optimise"])
def test_kill_often_while_writing(run_process, tmp_path, mode):
    assert kill_repeatedly(run_process, tmp_path / "store", kills=20, longest=1.0, mode=mode)


@pytest.mark.slow
def test_kill_often_while_creating(run_process, tmp_path):
    kill_repeatedly(run_process, tmp_path / "store", kills=60, longest=0.1, fresh=True)


STEPS = ["write_manifest", "sync_folder", "_create_shard", "load_shard", "os.rename", "os.link"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_at_each_step_of_a_creation(run_process, tmp_path, step, when):
    """The same, at every step in turn: the process ends without any clean-up."""
    code = """
import os, sys
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore, shard
path, step, when = sys.argv[1:]
owner, name = (os, step[3:]) if step.startswith("os.") else (shard, step)
original = getattr(owner, name)
def replaced(*args, **kwargs):
    if when == "after":
        original(*args, **kwargs)
    os._exit(7)
setattr(owner, name, replaced)
QdrantEdgeDocumentStore(path=path, embedding_dim=4).count_documents()
"""
    codes, printed = run_process(code, tmp_path / "store", step, when)
    assert codes == [7], printed
    assert check(tmp_path / "store", 0) == 0


def test_a_failed_creation_leaves_nothing_behind(make_store, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        msg = "disk on fire"
        raise RuntimeError(msg)

    with monkeypatch.context() as patched:
        patched.setattr(shard_module.os, "rename", fail)
        with pytest.raises(shard_module.QdrantEdgeStoreError, match=r"could not create a collection.*disk on fire"):
            make_store().count_documents()
    assert os.listdir(tmp_path / "store") == ["resrank.json"]
    assert make_store().count_documents() == 0


def test_the_manifest_is_replaced_whole(make_store, tmp_path, monkeypatch):
    store = make_store()
    store.stamp("one")
    before = (tmp_path / "store" / "resrank.json").read_text()
    assert json.loads(before) == {
        "format": 1,
        "embedding_dim": 4,
        "similarity": "dot_product",
        "use_sparse_embeddings": True,
        "fingerprint": "one",
        "traits": [],
        "shard": "shard",
        "settings": {},
        "indexed": None,
    }

    def fail(*args):
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(shard_module.os, "replace", fail)
        with pytest.raises(OSError):
            store.stamp("two")
    assert (tmp_path / "store" / "resrank.json").read_text() == before
    assert store.fingerprint == "one"
    assert sorted(os.listdir(tmp_path / "store")) == ["resrank.json", "shard"]


def test_a_file_system_without_hard_links(make_store, monkeypatch):
    def fail(*args):
        raise OSError

    monkeypatch.setattr(shard_module.os, "link", fail)
    assert make_store().count_documents() == 0


def test_flush_and_reopen(make_store):
    store = make_store()
    store.write_documents([Document(id="a")])
    store.flush()
    store.close()
    assert store.count_documents() == 1


def test_a_failing_engine_gives_a_clear_error(make_store, tmp_path):
    make_store().warm_up()
    make_store().close()
    store = make_store("broken")
    store.warm_up()
    store.close()
    for file in (tmp_path / "broken" / "shard").rglob("segment.json"):
        file.write_text("{")
    with pytest.raises(shard_module.QdrantEdgeStoreError, match=r"could not open the store in .*broken"):
        store.count_documents()
