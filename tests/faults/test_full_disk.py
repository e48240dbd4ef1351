# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
A disk that is full, or fills while an indexer runs: a small tmpfs.

Where mounting is not permitted: `unshare --map-root-user --mount python -m pytest -m slow tests/faults/test_full_disk.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from haystack_integrations.document_stores.resrank.disk import reserved_bytes

from .processes import Resrank, wait_for

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
SIZE = 512 * MIB
ACKNOWLEDGED = re.compile(r"Embedding passages: (\d+) of (\d+)")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """An empty disk of `SIZE`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here ({done.stderr.strip()}); see this file's first lines")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Filler:
    """A file that takes space."""

    def __init__(self, disk: Path) -> None:
        self._disk, self._file = disk, disk / "filler"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def leave(self, count: int) -> None:
        """Leave so many bytes."""
        self._add(shutil.disk_usage(self._disk).free - count)
        assert abs(shutil.disk_usage(self._disk).free - count) < MIB

    def grow(self, a_second: int) -> None:
        """Take more and more, until stopped or full."""

        def run() -> None:
            while not self._stop.wait(0.05):
                free = shutil.disk_usage(self._disk).free
                if not free:
                    return
                self._add(min(free, a_second // 20))

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def remove(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._file.unlink()

    def _add(self, count: int) -> None:
        with self._file.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), count)


@pytest.fixture
def commands(disk, tmp_path, tiny_mini_checkpoint, tiny_reader_folder):
    """Arguments of `index` and `serve` with a store on the disk."""
    at = ["--store", str(disk / "store"), "--model", str(tiny_mini_checkpoint), "--dtype", "float32"]
    return {
        "index": ["index", str(tmp_path / "files"), *at],
        "serve": ["serve", "--port", "0", *at, "--reader", str(tiny_reader_folder)],
    }


def full(process: Resrank) -> str:
    """It ended and said what to do."""
    assert process.ended() == 1, (process.exit_code, process.log)
    said = " ".join(process.log.split())
    assert "Traceback" not in said
    assert re.search(r"error: The disk of the store in '.*' is too full: \d+ MiB are free", said), said
    assert "Free some space, then do the same again; what was acknowledged is kept." in said
    return said


@pytest.mark.timeout(300)
def test_a_disk_that_fills_while_an_indexer_runs(disk, commands, resrank, write_files, contents):
    files = Path(commands["index"][1])
    write_files(files, 60)
    filler = Filler(disk)
    indexer = resrank(*commands["index"])
    wait_for(lambda: ACKNOWLEDGED.search(indexer.log), indexer)
    # With room for what is reserved and for the next files the engine goes on; then it grows scarce.
    filler.leave(reserved_bytes(str(disk / "store")) + 110 * MIB)
    filler.grow(40 * MIB)
    full(indexer)
    acknowledged = max(int(found[1]) for found in ACKNOWLEDGED.finditer(indexer.log))
    filler.remove()
    there = contents(disk / "store")
    assert len(there) >= acknowledged > 0
    assert len(there) < 60 * 16
    indexer = resrank(*commands["index"])
    assert indexer.ended() == 0, indexer.log
    whole = contents(disk / "store")
    assert there.items() <= whole.items()
    assert len(whole) == 60 * 16


@pytest.mark.timeout(300)
def test_a_disk_that_is_full_before_anything_starts(disk, commands, resrank, write_files, contents):
    files, filler = Path(commands["index"][1]), Filler(disk)
    write_files(files, 4)
    filler.leave(0)
    empty = resrank(*commands["index"])
    assert empty.ended() == 1, empty.log
    assert "Traceback" not in empty.log
    assert "full" in empty.log
    filler.remove()
    assert resrank(*commands["index"]).ended() == 0
    there = contents(disk / "store")
    assert len(there) == 4 * 16

    filler = Filler(disk)
    write_files(files, 4, "more")
    filler.leave(8 * MIB)
    full(resrank(*commands["index"]))
    filler.leave(0)
    full(resrank(*commands["index"]))
    full(resrank(*commands["serve"]))
    filler.remove()
    assert contents(disk / "store") == there
    assert resrank(*commands["index"]).ended() == 0
    assert there.items() <= contents(disk / "store").items()
    resrank(*commands["serve"]).ready().kill()


@pytest.mark.timeout(300)
def test_a_server_that_runs_goes_on_answering_on_a_full_disk(disk, commands, resrank, write_files, contents):
    write_files(Path(commands["index"][1]), 4)
    assert resrank(*commands["index"]).ended() == 0
    there = contents(disk / "store")
    server = resrank(*commands["serve"]).ready()
    body = {"query": "paragraph 3", "top_k": 5}
    expected = httpx.post(f"{server.url}/v1/search", json=body, timeout=60).json()["results"]
    filler = Filler(disk)
    filler.leave(0)
    for n in range(20):
        other = httpx.post(f"{server.url}/v1/search", json={"query": f"word{n}"}, timeout=60)
        assert other.status_code == 200, other.text
    assert httpx.post(f"{server.url}/v1/search", json=body, timeout=60).json()["results"] == expected
    assert httpx.post(f"{server.url}/v1/ask", json=body, timeout=60).status_code == 200
    server.signal(signal.SIGTERM)
    assert server.ended() == 0, server.log
    filler.remove()
    assert contents(disk / "store") == there
