# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""One opened shard per folder and process: threads, processes, forks, closing."""

import asyncio
import gc
import os
import pickle
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from haystack import Document
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.resrank import shard as shard_module
from haystack_integrations.document_stores.resrank.shard import QdrantEdgeStoreError, ShardClosedError, StoreBusyError


def document(number: int, version: int = 0) -> Document:
    return Document(
        id=str(number),
        content=f"{number} {version}",
        meta={"n": number, "version": version},
        embedding=[1.0, 0.0, float(number % 7), 0.5],
        sparse_embedding=SparseEmbedding([number % 11, 20], [1.0, 1.0]),
    )


def test_stores_on_one_folder_share_one_shard(make_store, tmp_path, monkeypatch):
    first = make_store()
    first.write_documents([document(1)])
    (tmp_path / "link").symlink_to(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    others = [make_store(), make_store("link"), QdrantEdgeDocumentStore(path="store", embedding_dim=4)]
    assert [store.count_documents() for store in others] == [1, 1, 1]
    shards = {id(store._shard()) for store in [first, *others]}
    assert len(shards) == 1
    shard = first._shard()
    assert shard.users == 4
    for store in [first, *others]:
        assert not shard.closed
        store.close()
        store.close()
    assert shard.closed
    assert str(tmp_path / "store") not in shard_module._registry


def test_a_closed_store_opens_again(make_store):
    store = make_store()
    store.write_documents([document(1)])
    store.close()
    assert store.fingerprint is None
    assert store.count_documents() == 1


def test_a_collected_store_gives_its_reference_back(make_store, tmp_path):
    store = QdrantEdgeDocumentStore(path=str(tmp_path / "store"), embedding_dim=4)
    shard = store._shard()
    del store
    gc.collect()
    assert shard.closed
    # While the lock is taken, as by a thread that opens another folder, the reference waits for the next use.
    store = QdrantEdgeDocumentStore(path=str(tmp_path / "store"), embedding_dim=4)
    shard = store._shard()
    with shard_module._registry_lock:
        del store
        gc.collect()
        assert not shard.closed
    make_store("other").warm_up()
    assert shard.closed


def test_first_use_from_many_threads_opens_once(make_store, monkeypatch):
    opened = []
    original = shard_module.load_shard
    monkeypatch.setattr(shard_module, "load_shard", lambda *args: opened.append(1) or original(*args))
    store, others = make_store(), [make_store() for _ in range(8)]
    barrier = threading.Barrier(16)

    def use(number: int) -> int:
        barrier.wait()
        return (store if number % 2 else others[number // 2]).count_documents()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(use, range(16))) == [0] * 16
    assert len(opened) == 1
    shard = store._shard()
    gc.collect()
    assert shard.users == 9
    for each in [store, *others]:
        each.close()
    assert shard.closed


def test_reads_writes_and_closes_from_many_threads(make_store):
    """No call fails and no document is lost while other threads write, search, delete, optimise and close."""
    stores = [make_store() for _ in range(3)]
    stores[0].write_documents([document(number) for number in range(200)])
    stop = threading.Event()
    errors = []

    def loop(action) -> None:
        turn = 0
        while not stop.is_set():
            try:
                action(stores[turn % 3], turn)
            except Exception as error:
                errors.append(error)
                return
            turn += 1

    def write(store, turn):
        store.write_documents([document(number, turn) for number in range(50)], DuplicatePolicy.OVERWRITE)

    def add_and_delete(store, turn):
        store.write_documents([document(1000 + turn)], DuplicatePolicy.FAIL)
        store.delete_documents([str(1000 + turn)])

    def search(store, turn):
        dense, sparse = store.search_ids(
            query_embedding=[1.0, 0.0, 1.0, 1.0], query_sparse_embedding=SparseEmbedding([20], [1.0]), top_k=50
        )
        assert len(dense) == len(sparse) == 50
        assert all(found.embedding for found in store.get_documents_by_id([name for name, _ in dense]))

    def read(store, turn):
        found = store.filter_documents({"field": "meta.n", "operator": "<", "value": 50})
        assert len(found) == 50
        # One write is one version: no batch is seen half written.
        assert all(each.content == f"{each.meta['n']} {each.meta['version']}" for each in found)

    def close(store, turn):
        store.close()
        if turn % 5 == 0:
            store.optimize()

    threads = [threading.Thread(target=loop, args=(action,)) for action in (write, add_and_delete, search, read, close)]
    for thread in threads:
        thread.start()
    stop.wait(3)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert stores[0].count_documents() == 200


def test_a_search_overtaken_by_a_deletion_finds_the_next_best(make_store, monkeypatch):
    store = make_store()
    store.write_documents([document(number) for number in range(7)])
    original = shard_module.SharedShard.names_of
    overtaken = []

    def delete_first(shard, points):
        if not overtaken:
            overtaken.append(store.delete_documents(["6"]))
        return original(shard, points)

    monkeypatch.setattr(shard_module.SharedShard, "names_of", delete_first)
    dense, sparse = store.search_ids(
        query_embedding=[0.0, 0.0, 1.0, 0.0], query_sparse_embedding=SparseEmbedding([2], [1.0]), top_k=2
    )
    assert overtaken
    assert [name for name, _ in dense] == ["5", "4"]
    assert [name for name, _ in sparse] == ["2"]


def test_the_same_new_id_from_many_threads_is_written_once(make_store):
    stores = [make_store() for _ in range(4)]

    def write(number: int) -> int:
        return stores[number % 4].write_documents([document(7, number)], DuplicatePolicy.SKIP)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(16))) == 1


def test_async_methods_run_together(make_store):
    store = make_store()

    async def run() -> list[int]:
        await asyncio.gather(*(store.write_documents_async([document(number)]) for number in range(20)))
        counts = await asyncio.gather(*(store.count_documents_async() for _ in range(5)))
        await store.close_async()
        return counts

    assert asyncio.run(run()) == [20] * 5
    assert store.write_documents_async.__name__ == "write_documents_async"


def test_a_second_process_is_refused_with_a_reason(make_store, run_process):
    store = make_store()
    store.write_documents([document(1)])
    code = """
import sys
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
store = QdrantEdgeDocumentStore(path=sys.argv[1], embedding_dim=4)
print(store.fingerprint, store.count_documents())
"""
    codes, printed = run_process(code, store.path)
    assert codes == [1]
    assert "StoreBusyError" in printed
    assert "is open in another process" in printed
    assert "close that one, or use a Qdrant server" in printed
    assert issubclass(StoreBusyError, RuntimeError)
    assert store.count_documents() == 1
    store.close()
    assert run_process(code, store.path) == ([0], "None 1\n")


def test_processes_that_create_one_folder_at_once(run_process, tmp_path):
    code = """
import sys, time
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
store = QdrantEdgeDocumentStore(path=sys.argv[1], embedding_dim=4)
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    print(store.count_documents(), flush=True)
    time.sleep(3)  # until the slowest has tried
except RuntimeError as error:
    print(type(error).__name__, flush=True)
"""
    for name in ("a", "b", "c"):
        codes, printed = run_process(code, tmp_path / name, time.time() + 0.3, count=3)
        assert codes == [0, 0, 0], printed
        assert sorted(printed.split()) == ["0", "StoreBusyError", "StoreBusyError"]
        assert sorted(os.listdir(tmp_path / name)) == ["resrank.json", "shard"]


def test_a_forked_child_does_not_use_the_parents_handle(run_process, tmp_path):
    code = """
import os, sys
from haystack import Document
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
store = QdrantEdgeDocumentStore(path=sys.argv[1], embedding_dim=4)
store.write_documents([Document(id="a", embedding=[1.0, 0.0, 0.0, 0.0])])
store._query_by_embedding([1.0, 0.0, 0.0, 0.0])
pid = os.fork()
if pid == 0:
    try:
        store.count_documents()
    except RuntimeError as error:
        print(type(error).__name__, "parent" in str(error), flush=True)
    store.close()
    sys.exit(3)  # with the interpreter's clean-up
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), store.count_documents(), flush=True)
store.close()
pid = os.fork()
if pid == 0:
    print(store.count_documents(), flush=True)
    store.close()
    os._exit(0)
os.waitpid(pid, 0)
print(store.count_documents(), flush=True)
"""
    codes, printed = run_process(code, tmp_path / "store")
    assert codes == [0], printed
    assert printed.split() == ["StoreBusyError", "True", "3", "1", "1", "1"]


def test_the_interpreter_closes_what_is_open(run_process, tmp_path):
    code = """
import atexit, sys
from haystack import Document
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore, shard
# The last function registered is the first to run.
atexit.unregister(shard._close_all)
atexit.register(lambda: print("closed", opened.closed, flush=True))
atexit.register(shard._close_all)
store = QdrantEdgeDocumentStore(path=sys.argv[1], embedding_dim=4)
store.write_documents([Document(id="a", embedding=[1.0, 0.0, 0.0, 0.0])])
opened = store._shard()
sys.exit(0)
"""
    assert run_process(code, tmp_path / "store") == ([0], "closed True\n")


def test_settings_of_two_open_stores_must_agree(make_store):
    first = make_store(hnsw_config={"m": 8})
    first.warm_up()
    make_store().warm_up()
    make_store(hnsw_config={"m": 8}).warm_up()
    with pytest.raises(ValueError, match=r"open in this process with hnsw_config={'m': 8}, but hnsw_config={'m': 4}"):
        make_store(hnsw_config={"m": 4}).warm_up()
    with pytest.raises(ValueError, match="with quantization_config=None, but quantization_config="):
        make_store(quantization_config={"binary": {}}).warm_up()
    assert first._shard().users == 3


def test_a_second_store_may_add_an_index(make_store):
    first = make_store()
    first.write_documents([document(1)])
    make_store(payload_fields_to_index=[{"field_name": "n", "field_schema": "integer"}]).warm_up()
    assert list(first._shard().indexes) == [("meta", "n")]
    with pytest.raises(ValueError, match=r"cannot index the field 'content.x'"):
        make_store(payload_fields_to_index=[{"field_name": "content.x", "field_schema": "keyword"}]).warm_up()
    assert first._shard().users == 2
    first.close()


def test_a_removed_folder_is_not_written_to(make_store, tmp_path):
    store = make_store()
    store.write_documents([document(1)])
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(QdrantEdgeStoreError, match="was removed or replaced while it was open"):
        store.write_documents([document(2)])
    fresh = make_store()
    assert fresh.count_documents() == 0
    store.close()
    assert store.count_documents() == 0
    assert store._shard() is fresh._shard()


def test_engine_errors_are_wrapped(make_store):
    store = make_store()
    shard = store._shard()

    def fail(engine):
        raise RuntimeError

    class PanicException(BaseException):
        pass

    def panic(engine):
        raise PanicException

    for operation in (fail, panic):
        with pytest.raises(QdrantEdgeStoreError, match="The engine failed on the store in"):
            shard.call(operation)

    def interrupt(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard.call(interrupt)
    store.close()
    with pytest.raises(ShardClosedError):
        shard.call(lambda engine: engine.info())


def test_a_pickled_store_is_unopened(make_store):
    store = make_store()
    store.write_documents([document(1)])
    copied = pickle.loads(pickle.dumps(store))
    assert copied._lease is None
    assert copied.count_documents() == 1
    copied.close()
