# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Bulk indexing in several real processes, by Ray's actors, and what is left when they are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from resrank_pipelines.bulk.batches import Batch
from resrank_pipelines.bulk.work import WorkSettings
from resrank_pipelines.bulk.workers import WorkerPool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name == "nt", reason="POSIX signals"),
]

psutil = pytest.importorskip("psutil")

COUNT, BATCH = 400, 40
ACKNOWLEDGED = re.compile(r"Indexing rows.*: (\d+) of (\d+)")
# A shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that.
HEEDING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEEDING}; from resrank_pipelines.cli import main; main()", "bulk"]


def contents(store: Any) -> dict[str, tuple[str, list[float]]]:
    try:
        return {d.id: (d.content, np.round(d.embedding, 5).tolist()) for d in store.filter_documents()}
    finally:
        store.close()


def edge(path: Path) -> QdrantEdgeDocumentStore:
    return QdrantEdgeDocumentStore(path=str(path), embedding_dim=32)


def close_to(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name][0] == content and np.allclose(found[name][1], vector, atol=1e-4)
        for name, (content, vector) in expected.items()
    )


def writes(server: str) -> dict[str, int]:
    with urllib.request.urlopen(server + "/writes") as answered:
        return json.load(answered)


@pytest.fixture
def corpus(rows: Callable[..., Any], write: Callable[..., Path]) -> Path:
    return write(rows(COUNT))


@pytest.fixture
def expected(corpus: Path, bulk: Callable[..., Any], parameters: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """What one undisturbed process writes."""
    indexer = bulk(
        store={**parameters["store"], "path": str(tmp_path / "undisturbed")}, state=tmp_path / "undisturbed-s"
    )
    indexer.run([corpus])
    indexer.close()
    return contents(edge(tmp_path / "undisturbed"))


class KillOne:
    """A progress that kills a process, once, when so many rows are acknowledged."""

    def __init__(self, rows: int, find: Callable[[], int]) -> None:
        self.rows, self.find = rows, find
        self.killed: int | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if self.killed is None and what.startswith("Indexing rows") and done >= self.rows:
            self.killed = self.find()
            os.kill(self.killed, signal.SIGKILL)


def a_worker() -> int:
    pid = next(child.pid for child in multiprocessing.active_children() if child.name == "resrank-bulk")
    assert pid is not None
    return pid


def start(corpus: Path, model: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [*COMMAND, str(corpus), "--model", str(model), "--dtype", "float32", "--batch-size", str(BATCH)]
    return subprocess.Popen(
        [*command, "--state", str(corpus.parent / "state"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_rows(process: subprocess.Popen[str], rows: int) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        match = ACKNOWLEDGED.search(line)
        if match and int(match[1]) >= rows:
            return int(match[1])
    return 0


@pytest.mark.parametrize("kind", ["store", "server"])
def test_two_processes_write_the_same_and_a_killed_one_is_replaced(
    *, kind, corpus, expected, bulk, server, collection, remote, parameters
):
    kill = KillOne(BATCH, a_worker)
    target = parameters["store"] if kind == "store" else {"url": server, "index": collection}
    report = bulk(store=dict(target), workers=2, batch_size=BATCH, progress=kill).run([corpus])
    assert kill.killed is not None
    assert report.lost_workers == 1
    assert (report.passages, report.total) == (COUNT, COUNT)
    store = edge(Path(parameters["store"]["path"])) if kind == "store" else remote(collection)
    assert close_to(contents(store), expected)
    assert not [child for child in multiprocessing.active_children() if child.name == "resrank-bulk"]


def test_processes_that_die_again_and_again_end_the_run_in_one_line(parameters):
    settings = WorkSettings(parameters["model"], parameters["store"])
    done = threading.Event()

    def kill_all() -> None:
        while not done.wait(0.02):
            for child in multiprocessing.active_children():
                if child.name == "resrank-bulk" and child.pid is not None:
                    os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with (
            WorkerPool(settings, "embed", 1) as pool,
            pytest.raises(
                RuntimeError,
                match=r"3 processes died one after the other while starting \(killed from outside: .*--workers",
            ),
        ):
            list(pool.map([Batch(0)]))
    finally:
        done.set()
        killer.join()


def test_an_error_of_a_process_comes_back_as_it_is(parameters, tmp_path):
    settings = WorkSettings({"model": str(tmp_path / "nowhere")}, parameters["store"])
    with WorkerPool(settings, "all", 1) as pool, pytest.raises(Exception, match="nowhere"):
        list(pool.map([Batch(0)]))


def test_three_kills_lose_nothing_acknowledged(*, corpus, expected, tiny_safe_checkpoint, bulk, parameters, tmp_path):
    chance = random.Random(4)
    store = tmp_path / "killed"
    there: set[str] = set()
    for _ in range(3):
        process = start(corpus, tiny_safe_checkpoint, "--store", str(store))
        rows = wait_for_rows(process, len(there) + chance.randrange(1, 3) * BATCH)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = contents(edge(store))
        assert len(found) >= rows
        assert there <= found.keys()
        there = set(found)
    last = bulk(store={**parameters["store"], "path": str(store)}, batch_size=BATCH)
    report = last.run([corpus])
    last.close()
    # What the store held was not encoded again: it was acknowledged, or found there.
    assert report.resumed + report.unchanged >= len(there)
    assert report.written + report.unchanged == COUNT
    assert close_to(contents(edge(store)), expected)


def test_ctrl_c_and_a_killed_parent_leave_no_process_and_the_next_run_writes_nothing_twice(
    *, corpus, expected, tiny_safe_checkpoint, bulk, server, collection, remote
):
    before = writes(server)
    arguments = ["--qdrant", server, "--collection", collection, "--workers", "2"]
    for number in (signal.SIGINT, signal.SIGKILL):
        process = start(corpus, tiny_safe_checkpoint, *arguments)
        wait_for_rows(process, BATCH)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, stderr = process.communicate()
        if number == signal.SIGINT:
            assert process.returncode == 130, stderr
            assert "interrupted" in stderr
            assert "Traceback" not in stderr
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    report = bulk(store={"url": server, "index": collection}, batch_size=BATCH).run([corpus])
    assert (report.passages, report.total) == (COUNT, COUNT)
    assert report.resumed > 0
    assert close_to(contents(remote(collection)), expected)
    after = writes(server)
    # The point ids of a document are the same in every collection.
    assert after["writes"] - before["writes"] == COUNT


def an_actor() -> int:
    found = [p.pid for p in psutil.process_iter(["cmdline"]) if "BatchActor" in " ".join(p.info["cmdline"] or [])]
    assert len(found) == 2
    return found[0]


@pytest.fixture
def ray_is_there() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        if os.environ.get("RESRANK_CI"):
            pytest.fail("no Python package ray: it belongs to the extra dev")
        pytest.skip("no Python package ray: pip install 'resrank[distributed]'")


@pytest.mark.usefixtures("ray_is_there")
def test_ray_writes_the_same_and_a_killed_actor_is_replaced(*, corpus, expected, bulk, server, collection, remote):
    before = writes(server)
    kill = KillOne(BATCH, an_actor)
    target = {"url": server, "index": collection}
    report = bulk(store=target, workers=2, runner="ray", batch_size=BATCH, progress=kill).run([corpus])
    assert kill.killed is not None
    assert (report.passages, report.total) == (COUNT, COUNT)
    assert close_to(contents(remote(collection)), expected)
    assert writes(server)["writes"] - before["writes"] == COUNT
    assert bulk(store=target, batch_size=BATCH).run([corpus]).unchanged == COUNT


@pytest.mark.usefixtures("ray_is_there")
def test_ray_tells_of_a_damaged_row_as_one_process_does(rows, write, bulk, server, collection):
    path = write([*rows(20), "{"])
    with pytest.raises(ValueError, match=r"corpus.jsonl:21: expected a JSON object.*--skip-damaged"):
        bulk(store={"url": server, "index": collection}, workers=1, runner="ray").run([path])
