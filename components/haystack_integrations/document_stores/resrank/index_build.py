# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Building the index of an open shard while it is searched and written.

The engine holds Python's interpreter lock for the whole of its `optimize`, minutes for a million documents, so that no
thread of the process could do anything else. It runs in a process of its own instead, on a copy:

1. With writers waiting: flush the shard and copy its files. From here on, note which points are changed.
2. Build the index of the copy in another process (`index_builder`). Searches and writes go on with the former shard.
3. Open the result, and bring the noted points to their present state, in rounds, while writers go on.
4. With writers waiting: the last round, then let the manifest name the new shard and take it into use. The former is
   removed.

When the collection has doubled by the end of 2, the copy is of no use: writing what it lacks would take longer than
copying, and most would still be without an index. It is copied and built again.

Until the manifest names the new shard the former has everything, from then on the new one has: a process that is killed
at any moment loses no document, only the build.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path

import qdrant_edge as edge
from haystack import logging

from .engine_config import PointId
from .manifest import SHARD_NAME
from .shard import OPTIMIZING, Lease, QdrantEdgeStoreError, ShardClosedError, SharedShard, hold, load_shard

logger = logging.getLogger(__name__)

_BUILDER = Path(__file__).with_name("index_builder.py")
_POINTS_PER_ROUND_TRIP = 256  # holds the interpreter lock for some milliseconds
_FEW_POINTS = 1_000
_ROUNDS = 10  # of catching up with writers before they have to wait
_SPARE_SPACE = 1.5  # room for the copy and its index, as a multiple of the shard


class _CancelledError(Exception):
    """The build is of no use any more."""


class IndexBuild:
    """A build of a shard's index in the background. It keeps the shard open until it is done."""

    def __init__(self, shard: SharedShard, lease: Lease) -> None:
        """
        Prepare; `start` is the way to make one.

        :param shard: The shard.
        :param lease: A reference to it, for the build alone.
        """
        self.changed = False
        self._shard = shard
        self._lease = lease
        self._noted: set[PointId] | None = None
        self._repeated: list[edge.UpdateOperation] = []
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name="resrank-index-build", daemon=True)

    @classmethod
    def start(cls, shard: SharedShard) -> IndexBuild | None:
        """
        Start a build, or join the one that is running. The caller does not hold the shard's `lock`.

        :param shard: The shard.
        :returns: The build; `None` if the shard was closed.
        """
        lease = hold(shard)
        if lease is None:
            return None
        with shard.lock:
            build = shard.build
            if build is None:
                build = cls(shard, lease)
                build._thread.start()  # before others can wait for it; it waits for the lock itself
                shard.build = shard.last_build = build
                return build
        lease.release()
        return build

    def wait(self) -> None:
        """Wait until the build is done or has failed. A failure is kept in the shard's `build_error`."""
        self._thread.join()

    def cancel(self) -> None:
        """Give the build up. The caller holds the shard's `lock`."""
        self._cancelled = True
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()

    def note(self, operation: edge.UpdateOperation, points: Iterable[PointId] | None) -> None:
        """
        Note what is about to be changed in the former shard. The caller holds the shard's `lock`.

        :param operation: The update.
        :param points: Which points it changes; `None` for an update of the collection.
        """
        if self._noted is None:  # not copied yet
            return
        if points is None:
            self._repeated.append(operation)
        else:
            self._noted.update(points)

    def _run(self) -> None:
        shard = self._shard
        copy = os.path.join(shard.folder, f"{OPTIMIZING}{os.getpid()}-{uuid.uuid4().hex}")
        try:
            while True:
                documents, size = self._copy(copy)
                self.changed = self._build(copy)
                if self._size() <= 2 * size:
                    break
                shutil.rmtree(copy)
            if self.changed:
                self._take_over(copy, documents)
            else:
                with shard.lock:
                    shard.note_optimized(documents)
        except (_CancelledError, ShardClosedError):
            pass
        except Exception as error:
            msg = (
                f"Building the index of the store in {shard.folder!r} failed: {error} Searches and writes go on "
                "without it, and it is tried again after more writes, or by optimize()."
            )
            logger.error("{problem}", problem=msg)
            with shard.lock:
                shard.retry_from = max(2 * shard.unoptimized, 1)
                shard.build_error = QdrantEdgeStoreError(msg)
                shard.build_error.__cause__ = error
        finally:
            shutil.rmtree(copy, ignore_errors=True)
            with shard.lock:
                shard.build = None
            self._lease.release()

    def _check_wanted(self) -> None:
        if self._cancelled:
            raise _CancelledError

    def _size(self) -> int:
        return int(self._shard.call(lambda engine: engine.info().points_count))

    def _copy(self, copy: str) -> tuple[int, int]:
        """Copy the shard's files; returns how many documents are to be indexed, and how many there are."""
        shard = self._shard
        with shard.lock:
            self._check_wanted()
            shard.check_in_place()
            shard.call(lambda engine: engine.flush())
            source = os.path.join(shard.folder, shard.manifest.shard)
            _check_space(source)
            self._noted, self._repeated = set(), []
            shutil.copytree(source, copy, copy_function=_copy_file)
            return shard.unoptimized, self._size()

    def _build(self, copy: str) -> bool:
        packages = os.path.dirname(os.path.dirname(os.path.abspath(edge.__file__)))
        command = [sys.executable, "-I", "-S", str(_BUILDER), packages, copy, str(os.getpid())]
        with self._shard.lock:
            self._check_wanted()
            self._process = subprocess.Popen(  # noqa: S603  this interpreter and a file of this package
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        with self._process as process:
            output, errors = process.communicate()
        self._check_wanted()
        if process.returncode:
            reason = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            killed = " (killed, perhaps for want of memory)" if process.returncode < 0 else ""
            msg = f"{reason[0]}{killed}."
            raise RuntimeError(msg)
        return output.strip() == "changed"

    def _take_over(self, copy: str, documents: int) -> None:
        shard = self._shard
        name = f"{SHARD_NAME}-{uuid.uuid4().hex[:12]}"
        target = os.path.join(shard.folder, name)
        os.rename(copy, target)
        try:
            engine = load_shard(shard.folder, name, None)
            try:
                for _ in range(_ROUNDS):
                    with shard.lock:
                        self._check_wanted()
                        noted, self._noted = self._noted or set(), set()
                    self._bring_up_to_date(engine, noted)
                    if len(self._noted) <= _FEW_POINTS:
                        break
                with shard.lock:
                    self._check_wanted()
                    shard.check_in_place()
                    for operation in self._repeated:
                        engine.update(operation)
                    self._bring_up_to_date(engine, self._noted or set())
                    engine.flush()
                    shard.move_to(name, engine)
                    shard.note_optimized(documents)
            except BaseException:
                if shard.engine is not engine:
                    engine.close()
                raise
        except BaseException:
            if shard.manifest.shard != name:
                shutil.rmtree(target, ignore_errors=True)
            raise

    def _bring_up_to_date(self, engine: edge.EdgeShard, points: set[PointId]) -> None:
        """Give points of the new shard the state that they have in the former one."""
        left = list(points)
        for start in range(0, len(left), _POINTS_PER_ROUND_TRIP):
            batch = left[start : start + _POINTS_PER_ROUND_TRIP]
            records = self._shard.call(functools.partial(_records, points=batch))
            found = [edge.Point(record.id, record.vector or {}, record.payload or {}) for record in records]
            if found:
                engine.update(edge.UpdateOperation.upsert_points(found))
            gone = set(batch) - {record.id for record in records}
            if gone:
                engine.update(edge.UpdateOperation.delete_points(list(gone)))


def _records(engine: edge.EdgeShard, *, points: list[PointId]) -> list[edge.Record]:
    return engine.retrieve(points, True, True)


def _check_space(source: str) -> None:
    size = sum(os.stat(os.path.join(where, name)).st_size for where, _, names in os.walk(source) for name in names)
    needed, free = int(_SPARE_SPACE * size), shutil.disk_usage(source).free
    if free < needed:
        msg = (
            f"it is built beside the present one and needs {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are "
            "free. Free some, or pass optimize_in_background=False."
        )
        raise OSError(msg)


def _copy_file(source: str, target: str) -> None:
    """Copy a file without filling its holes; where the file system can, both share what they have in common."""
    with open(source, "rb") as reading, open(target, "xb") as writing:
        try:
            _copy_extents(reading.fileno(), writing.fileno())
        except (AttributeError, OSError):  # not on this system, or not on this file system
            reading.seek(0)
            writing.seek(0)
            shutil.copyfileobj(reading, writing, 2**20)


def _copy_extents(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.truncate(target, size)
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        while start < end:
            start += os.copy_file_range(source, target, end - start, start, start)
