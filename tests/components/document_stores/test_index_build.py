# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""The index is built beside the open store: what is searched, written, deleted and killed meanwhile."""

import gc
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy

from haystack_integrations.document_stores.resrank import access, index_build
from haystack_integrations.document_stores.resrank import shard as shard_module
from haystack_integrations.document_stores.resrank.manifest import read_manifest
from haystack_integrations.document_stores.resrank.shard import QdrantEdgeStoreError, StoreBusyError

DIMENSION = 64
VECTORS = np.random.default_rng(0).standard_normal((1_000, DIMENSION)).astype("f4")
INDEX = {"m": 8, "ef_construct": 40, "full_scan_threshold": 10}
PAUSED = """
import os, runpy, sys, time
open({here!r}, "w").close()
while not os.path.exists({go!r}):
    if os.getppid() == 1:
        sys.exit("orphan")
    time.sleep(0.005)
runpy.run_path({builder!r}, run_name="__main__")
"""


def document(number: int, version: int = 0) -> Document:
    return Document(
        id=str(number),
        content=f"{number} {version}",
        meta={"n": number, "version": version},
        embedding=VECTORS[(number + version) % len(VECTORS)].tolist(),
        sparse_embedding=SparseEmbedding([number % 50, 1_000 + version], [1.0, 2.0]),
    )


def documents(start: int, end: int, version: int = 0) -> list[Document]:
    return [document(number, version) for number in range(start, end)]


def plain(found: list[Document]) -> dict[str, dict]:
    return {each.id: {**each.to_dict(flatten=False), "score": None} for each in found}


def found_ids(store, query: np.ndarray, top_k: int) -> list[str]:
    dense, _ = store.search_ids(query_embedding=query.tolist(), query_sparse_embedding=None, top_k=top_k)
    return [name for name, _ in dense]


def nearest(store, query: np.ndarray, top_k: int) -> list[str]:
    """The naive reference: score every stored document."""
    scored = [(-float(np.dot(query, each.embedding)), each.id) for each in store.filter_documents() if each.embedding]
    return [name for _, name in sorted(scored)[:top_k]]


@pytest.fixture
def make(make_store):
    settings = {"embedding_dim": DIMENSION, "hnsw_config": INDEX, "optimize_threshold": 500}
    return lambda **changes: make_store(**{**settings, **changes})


@pytest.fixture
def paused(monkeypatch, tmp_path):
    """Builds wait until `go` is called; `started` waits until one runs."""
    here, go = tmp_path / "here", tmp_path / "go"
    script = tmp_path / "paused.py"
    script.write_text(PAUSED.format(here=str(here), go=str(go), builder=str(index_build._BUILDER)))
    monkeypatch.setattr(index_build, "_BUILDER", script)

    class Paused:
        def started(self) -> None:
            tick = threading.Event()
            for _ in range(6_000):
                if here.exists():
                    return
                tick.wait(0.01)
            pytest.fail("no build started")

        def go(self) -> None:
            go.touch()

    yield Paused()
    go.touch()


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """Builds fail with the code given."""

    def fail(code: str) -> None:
        script = tmp_path / "failing.py"
        script.write_text(code)
        monkeypatch.setattr(index_build, "_BUILDER", script)

    return fail


def test_what_is_written_while_the_index_is_built_is_kept(make, paused):
    store = make()
    store.write_documents(documents(0, 600))
    build = store._shard().build
    paused.started()
    expected = {each.id: each for each in documents(0, 600)}
    store.write_documents(documents(590, 700, 1), DuplicatePolicy.OVERWRITE)
    store.delete_documents([str(number) for number in range(0, 40)])
    assert store.delete_by_filter({"field": "meta.n", "operator": ">=", "value": 690}) == 10
    assert store.update_by_filter({"field": "meta.n", "operator": "<", "value": 50}, {"seen": True}) == 10
    store.write_documents([document(5, 7), Document(id="blind", content="no vectors")])
    expected |= {each.id: each for each in documents(590, 690, 1)}
    for number in range(0, 40):
        del expected[str(number)]
    for number in range(40, 50):
        expected[str(number)].meta["seen"] = True
    expected |= {"5": document(5, 7), "blind": Document(id="blind", content="no vectors")}
    # Everything is visible at once, from the former index.
    assert plain(store.filter_documents()) == plain(list(expected.values()))
    assert store._shard().build is build
    paused.go()
    build.wait()
    assert plain(store.filter_documents()) == plain(list(expected.values()))
    for row in (3, 60, 595):
        assert found_ids(store, VECTORS[row], 10) == nearest(store, VECTORS[row], 10)
    exact = make(search_params={"exact": True})
    dense, sparse = exact.search_ids(
        query_embedding=VECTORS[0].tolist(), query_sparse_embedding=SparseEmbedding([1_001], [1.0]), top_k=1_000
    )
    assert len(dense) == len(expected) - 1
    assert {name for name, _ in sparse} == {str(number) for number in range(590, 690)}
    shard = store._shard()
    assert shard.engine.info().indexed_vectors_count > 500
    assert sorted(os.listdir(store.path)) == ["resrank.json", shard.manifest.shard]
    store.close()
    assert plain(store.filter_documents()) == plain(list(expected.values()))


def test_a_build_that_the_writer_outran_is_done_again(make, paused, monkeypatch):
    copied: list[int] = []
    copy = index_build.IndexBuild._copy

    def counted(build: index_build.IndexBuild, to: str) -> tuple[int, int]:
        copied.append(build._size())
        return copy(build, to)

    monkeypatch.setattr(index_build.IndexBuild, "_copy", counted)
    store = make()
    store.write_documents(documents(0, 500))
    shard = store._shard()
    build = shard.build
    paused.started()
    store.write_documents(documents(500, 1_001))
    store.update_by_filter({"field": "meta.n", "operator": "<", "value": 3}, {"seen": True})
    paused.go()
    build.wait()
    assert copied == [500, 1_001]
    assert (shard.optimized, shard.unoptimized, shard.build) == (1_001, 0, None)
    assert shard.engine.info().indexed_vectors_count >= 1_001
    seen = {str(number): {"seen": True} for number in range(3)}
    found = {each.id: each for each in store.filter_documents()}
    assert len(found) == 1_001
    assert all(each.meta == {"n": int(id_), "version": 0, **seen.get(id_, {})} for id_, each in found.items())
    assert sorted(os.listdir(store.path)) == ["resrank.json", shard.manifest.shard]


def test_threads_search_and_write_while_indexes_are_built(make):
    """No call fails, a search finds what was written before it, and every acknowledged document is there at the end."""
    store = make(optimize_threshold=200)
    store.write_documents(documents(0, 400))
    stop = threading.Event()
    errors: list[Exception] = []
    turns = dict.fromkeys(("write", "search", "read"), 0)
    written = [400]

    def loop(action) -> None:
        while not stop.is_set():
            try:
                action()
                turns[action.__name__] += 1
                stop.wait(0.02)  # leave something of a small machine to the build
            except Exception as error:
                errors.append(error)
                return

    def write() -> None:
        start = written[0]
        store.write_documents(documents(start, start + 25))
        written[0] = start + 25
        store.delete_documents([str(start)])
        store.write_documents([document(start, 3)])

    def search() -> None:
        number = written[0] - 1
        assert str(number) in found_ids(store, VECTORS[number % len(VECTORS)], 20)

    def read() -> None:
        assert [each.content for each in store.get_documents_by_id(["7", "399"])] == ["7 0", "399 0"]

    threads = [threading.Thread(target=loop, args=(action,)) for action in (write, search, read)]
    for thread in threads:
        thread.start()
    builds = set()
    for _ in range(2):
        while store._shard().build is None and not errors:
            stop.wait(0.005)
        build = store._shard().build
        if build is not None:
            builds.add(id(build))
            build.wait()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert builds
    assert all(turns.values())
    assert store.count_documents() == written[0]
    versions = {each.id: each.meta["version"] for each in store.filter_documents()}
    assert versions == {str(n): 3 * (n >= 400 and n % 25 == 0) for n in range(written[0])}


def test_closing_waits_for_the_build(make, paused):
    store = make()
    store.write_documents(documents(0, 600))
    paused.started()
    closing = threading.Thread(target=store.close)
    closing.start()
    closing.join(0.3)
    assert closing.is_alive()
    paused.go()
    closing.join(60)
    assert not closing.is_alive()
    assert str(Path(store.path).resolve()) not in shard_module._registry
    assert store._shard().unoptimized == 0
    assert store.count_documents() == 600


def test_a_store_that_is_dropped_leaves_its_build_to_finish(make_store, tmp_path, paused):
    from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

    path = str(tmp_path / "dropped")
    store = QdrantEdgeDocumentStore(path=path, embedding_dim=DIMENSION, hnsw_config=INDEX, optimize_threshold=500)
    store.write_documents(documents(0, 500))
    paused.started()
    build = store._shard().build
    del store
    gc.collect()
    # The folder stays open, and another store shares it.
    other = make_store("dropped", embedding_dim=DIMENSION)
    assert other._shard().build is build
    paused.go()
    build.wait()
    assert other.count_documents() == 500
    assert other._shard().unoptimized == 0


def test_the_end_of_a_program_waits_for_the_build(run_process, tmp_path):
    code = """
import sys
import numpy as np
from haystack import Document
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
store = QdrantEdgeDocumentStore(path=sys.argv[1], embedding_dim=64, hnsw_config={"m": 8, "full_scan_threshold": 10}, optimize_threshold=500)
vectors = np.random.default_rng(0).standard_normal((5_000, 64)).tolist()
store.write_documents([Document(id=str(i), embedding=vector) for i, vector in enumerate(vectors)])
sys.exit(0)
"""
    codes, printed = run_process(code, tmp_path / "store")
    assert codes == [0], printed
    manifest = read_manifest(str(tmp_path / "store"))
    assert manifest.shard != "shard"
    assert manifest.indexed == manifest.settings
    assert sorted(os.listdir(tmp_path / "store")) == ["resrank.json", manifest.shard]


def test_a_failure_is_logged_and_raised_and_loses_nothing(make, failing, caplog):
    failing("import sys; sys.exit('the disk is on fire')")
    store = make()
    store.write_documents(documents(0, 500))
    build = store._shard().build
    if build is not None:
        build.wait()
    assert "the disk is on fire" in caplog.text
    assert store._shard().unoptimized == 500
    assert store.write_documents(documents(500, 600)) == 100  # not tried again at every write
    assert store._shard().build is None
    with pytest.raises(QdrantEdgeStoreError, match=r"Building the index of .* failed: the disk is on fire"):
        store.optimize()
    assert found_ids(store, VECTORS[550], 1) == ["550"]
    assert store.optimize() is True  # told once; then tried again, and few documents are indexed in place
    assert store._shard().unoptimized == 0
    assert sorted(os.listdir(store.path)) == ["resrank.json", "shard"]


def test_closing_raises_a_failure_that_nobody_was_told(make, failing):
    failing("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    store = make()
    store.write_documents(documents(0, 500))
    with pytest.raises(QdrantEdgeStoreError, match=r"exit code -9 \(killed, perhaps for want of memory\)"):
        store.close()
    assert store.count_documents() == 500  # it was closed nevertheless, and opens again
    store.close()


def test_a_full_disk_is_told_before_anything_is_copied(make, monkeypatch):
    monkeypatch.setattr(index_build, "_SPARE_SPACE", 1e9)
    store = make()
    store.write_documents(documents(0, 500))
    build = store._shard().build
    if build is not None:
        build.wait()
    with pytest.raises(
        QdrantEdgeStoreError, match=r"GB of disk, [0-9.]+ GB are free. Free some, or pass optimize_in_back"
    ):
        store.close()


def test_optimize_builds_aside_when_there_is_much(make, monkeypatch):
    monkeypatch.setattr(access, "_SMALLEST_BUILT_ASIDE", 100)
    store = make(optimize_threshold=0)
    store.write_documents(documents(0, 500))
    assert store.optimize() is True
    shard = store._shard()
    assert shard.manifest.shard != "shard"
    assert (shard.unoptimized, shard.optimized) == (0, 500)
    former = shard.manifest.shard
    assert store.optimize() is False  # nothing to do: the shard stays
    assert shard.manifest.shard == former
    assert sorted(os.listdir(store.path)) == ["resrank.json", former]


def test_deleting_everything_gives_the_build_up(make, paused):
    store = make()
    store.write_documents(documents(0, 600))
    build = store._shard().build
    paused.started()
    store.delete_all_documents()
    build.wait()
    assert store.count_documents() == 0
    store.write_documents(documents(0, 10))
    store.close()
    assert store.count_documents() == 10
    assert sorted(os.listdir(store.path)) == ["resrank.json", "shard"]


def test_a_payload_index_made_meanwhile_is_kept(make, paused):
    store = make()
    store.write_documents(documents(0, 600))
    build = store._shard().build
    paused.started()
    indexed = make(payload_fields_to_index=[{"field_name": "meta.n", "field_schema": "integer"}])
    indexed.warm_up()
    paused.go()
    build.wait()
    assert list(store._shard().engine.info().payload_schema) == ["meta.n"]


def test_no_other_process_gets_in(make, paused, run_process):
    code = """
import sys
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.resrank.shard import StoreBusyError
try:
    QdrantEdgeDocumentStore(path=sys.argv[1], embedding_dim=64).count_documents()
except StoreBusyError:
    print("busy")
"""
    store = make()
    store.write_documents(documents(0, 600))
    build = store._shard().build
    paused.started()
    assert run_process(code, store.path) == ([0], "busy\n")
    assert len([name for name in os.listdir(store.path) if name.startswith("shard")]) == 2  # it removed nothing
    paused.go()
    build.wait()
    assert run_process(code, store.path) == ([0], "busy\n")
    assert store.count_documents() == 600


STEPS = ["_copy", "_build", "_take_over", "os.rename", "load_shard", "_bring_up_to_date", "move_to", "change_manifest"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_at_each_step(run_process, make, tmp_path, step, when):
    """The process ends at a step without any clean-up; what it had written is there, and nothing else."""
    code = """
import os, sys, threading
import numpy as np
from haystack import Document
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore, index_build, shard
path, step, when = sys.argv[1:]
store = QdrantEdgeDocumentStore(path=path, embedding_dim=64, hnsw_config={"m": 8, "full_scan_threshold": 10}, optimize_threshold=0)
vectors = np.random.default_rng(0).standard_normal((300, 64)).astype("f4").tolist()
store.write_documents([Document(id=str(i), embedding=vector) for i, vector in enumerate(vectors[:250])])
owners = {"os.rename": os, "load_shard": index_build, "move_to": shard.SharedShard, "change_manifest": shard.SharedShard}
owner, name = owners.get(step, index_build.IndexBuild), step.removeprefix("os.")
original = getattr(owner, name)
def replaced(*args, **kwargs):
    if when == "after":
        original(*args, **kwargs)
    if threading.current_thread() is not threading.main_thread():
        os._exit(7)
    if when == "before":
        return original(*args, **kwargs)
setattr(owner, name, replaced)
build = index_build.IndexBuild.start(store._shard())
store.write_documents([Document(id=str(i), embedding=vectors[i]) for i in range(250, 300)])
build.wait()
"""
    codes, printed = run_process(code, tmp_path / "store", step, when)
    assert codes == [7], printed
    store = make(hnsw_config=None)
    found = store.filter_documents()
    assert len(found) in (250, 300)
    assert all(each.embedding for each in found)
    assert sorted(os.listdir(store.path)) == ["resrank.json", store._shard().manifest.shard]
    assert store.write_documents([document(999)]) == 1


# --- Changed settings -------------------------------------------------------------------------------------------------


def segment_configs(store) -> list[dict]:
    folder = Path(store.path) / read_manifest(store.path).shard / "segments"
    configs = [json.loads(path.read_text()) for path in folder.glob("*/segment.json")]
    dense = [config.get("config", config)["vector_data"]["text-dense"] for config in configs]
    return [config for config in dense if config["index"]["type"] == "hnsw"]


def indexed_store(make, **settings):
    store = make(optimize_threshold=0, **settings)
    store.write_documents(documents(0, 500))
    store.optimize()
    return store


@pytest.mark.parametrize("background", [True, False])
def test_changed_settings_warn_and_are_applied_by_the_next_optimisation(make, caplog, monkeypatch, background):
    monkeypatch.setattr(access, "_SMALLEST_BUILT_ASIDE", 1)
    store = indexed_store(make)
    store.close()
    assert segment_configs(store)[0]["index"]["options"]["m"] == 8
    changed = make(
        hnsw_config={**INDEX, "m": 12},
        quantization_config="int8",
        on_disk=True,
        optimize_threshold=0,
        optimize_in_background=background,
    )
    assert found_ids(changed, VECTORS[7], 1) == ["7"]
    assert "until optimize() rebuilds it" in caplog.text
    assert changed.optimize() is True
    changed.close()
    (segment,) = segment_configs(changed)
    assert segment["index"]["options"]["m"] == 12
    assert segment["quantization_config"]["scalar"]["type"] == "int8"
    assert segment["storage_type"] == "Mmap"
    caplog.clear()
    # The same written out, and nothing at all, are no change.
    written_out = {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}
    for settings in ({"quantization_config": written_out}, {"hnsw_config": None}, {}):
        again = make(**{"hnsw_config": {**INDEX, "m": 12}, "optimize_threshold": 0, **settings})
        assert found_ids(again, VECTORS[7], 1) == ["7"]
        again.close()
    assert not caplog.text


def test_the_next_write_applies_changed_settings(make):
    store = indexed_store(make)
    store.close()
    changed = make(hnsw_config={**INDEX, "m": 12}, optimize_threshold=100_000, optimize_in_background=False)
    changed.write_documents(documents(500, 501))
    assert not changed._shard().is_outdated
    changed.close()
    assert segment_configs(changed)[0]["index"]["options"]["m"] == 12


def test_quantisation_cannot_be_taken_off(make):
    store = indexed_store(make, quantization_config="int8")
    store.close()
    with pytest.raises(ValueError, match=r"is quantised with .*int8.*ignore.*Nothing was changed"):
        make(quantization_config="none").count_documents()
    exact = make(search_params={"quantization": {"ignore": True}})
    assert found_ids(exact, VECTORS[11], 10) == nearest(exact, VECTORS[11], 10)
    assert make().count_documents() == 500  # nothing said: it stays


def test_a_new_collection_has_the_measured_index(make_store):
    store = make_store()
    store.warm_up()
    config = json.loads((Path(store.path) / "shard" / "edge_config.json").read_text())
    assert (config["hnsw_config"]["m"], config["hnsw_config"]["ef_construct"]) == (16, 200)


def test_a_missing_shard_is_told_and_not_replaced(make):
    store = indexed_store(make)
    shard = Path(store.path) / store._shard().manifest.shard
    store.close()
    manifest = json.loads((Path(store.path) / "resrank.json").read_text())
    shard.rename(shard.with_name("shard-0123456789ab"))  # a manifest from an older backup
    with pytest.raises(QdrantEdgeStoreError, match=r"lacks its folder 'shard', which resrank.json names"):
        store.count_documents()
    (Path(store.path) / "resrank.json").write_text(json.dumps({**manifest, "shard": "shard-0123456789ab"}))
    assert store.count_documents() == 500
    (Path(store.path) / "resrank.json").write_text(json.dumps({**manifest, "shard": "../elsewhere"}))
    store.close()
    with pytest.raises(ValueError, match=r"names the folder '\.\./elsewhere'"):
        store.count_documents()


def test_a_busy_shard_stays_busy(make, monkeypatch):
    store = indexed_store(make)
    folder = str(Path(store.path).resolve())
    with pytest.raises(StoreBusyError, match="open in another process"):
        shard_module.load_shard(folder, store._shard().manifest.shard, None)
