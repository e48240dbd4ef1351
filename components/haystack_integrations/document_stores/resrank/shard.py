# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The folder of a store, and the process-wide registry of opened shards.

Layout of a store's folder:

* `resrank.json`: the manifest. What the collection is (dimension, similarity, sparse or not), which model's vectors it
  holds, which kinds of values its documents ever had, and which folder holds them. Written whole: temporary file,
  fsync, rename.
* `shard/`: the engine's files. Built as `shard.creating-*` and renamed, so that it is complete or absent. An index that
  was built aside (see `index_build`) is `shard-*/`, and takes the place of the former one when the manifest names it.

A process killed at any moment leaves one of: an empty folder, a manifest without a shard, or both, and perhaps a shard
that the manifest does not name yet or no more. Each opens again, without the latter.

The engine locks a shard for one handle per machine, so that all stores of a process on one real path share one handle.
It is reference counted and closed with its last user. A handle cannot cross `os.fork` (a call on it blocks forever):
a child forgets it, without running its destructor, and opens its own, which the engine refuses while the parent runs.
"""

import atexit
import contextlib
import ctypes
import errno
import os
import shutil
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import qdrant_edge as edge
from haystack import logging
from haystack.document_stores.errors import DocumentStoreError

from .disk import missing_room
from .engine_config import (
    PointId,
    for_new_collection,
    index_type,
    is_rebuilt_by,
    payload_indexes,
    shard_config,
    shard_settings,
)
from .filters import engine_path, field_path, parse_path
from .manifest import MANIFEST_NAME, SHARD_NAME, WRITING, Manifest, read_manifest, sync_folder, write_manifest

if TYPE_CHECKING:
    from .index_build import IndexBuild

logger = logging.getLogger(__name__)

T = TypeVar("T")

CREATING, OPTIMIZING = f"{SHARD_NAME}.creating-", f"{SHARD_NAME}.optimizing-"
_TEMPORARY = (WRITING, CREATING, OPTIMIZING)
_ID_CACHE_SIZE = 100_000  # about 25 MB


class QdrantEdgeStoreError(DocumentStoreError, RuntimeError):
    """The embedded engine could not do what was asked."""


class StoreBusyError(QdrantEdgeStoreError):
    """Another process has the store's folder open."""


class StoreFullError(QdrantEdgeStoreError):
    """The disk has no room for what the engine would do."""


class ShardClosedError(QdrantEdgeStoreError):
    """The shard was closed by another thread between being looked up and being used."""


def _check_manifest(folder: str, found: Manifest, wanted: Manifest) -> None:
    for name in ("embedding_dim", "similarity", "use_sparse_embeddings"):
        has, asked = getattr(found, name), getattr(wanted, name)
        if has != asked:
            model = "use the model that it was indexed with, " if name == "embedding_dim" else ""
            msg = (
                f"The store in {folder!r} was created with {name}={has!r}, but {name}={asked!r} was given. Pass "
                f"{name}={has!r}, {model}or name another path (--store) to make a new store there. Nothing was changed."
            )
            raise ValueError(msg)


def _prepare_folder(folder: str, wanted: Manifest) -> Manifest:
    """Make the folder and its manifest, or check those that are there."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        msg = f"path={folder!r} must be a folder, but there is a file. Choose another path. Nothing was changed."
        raise ValueError(msg)
    found = read_manifest(folder)
    if found is None:
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            msg = f"path={folder!r} cannot be a folder, because a part of it is a file. Choose another path."
            raise ValueError(msg) from error
        foreign = [
            name
            for name in os.listdir(folder)
            if not name.startswith(_TEMPORARY) and name not in ("lost+found", MANIFEST_NAME)
        ]
        if foreign:
            msg = (
                f"path={folder!r} must be a store's folder, an empty one or one that does not exist yet, but it holds "
                f"other files, such as {min(foreign)!r}, and no {MANIFEST_NAME}. Choose another path. Nothing was "
                "changed."
            )
            raise ValueError(msg)
        try:
            write_manifest(folder, wanted, first=True)
            return wanted
        except FileExistsError:
            found = read_manifest(folder)
    if found is None:
        msg = f"{MANIFEST_NAME} in {folder!r} vanished while the store was opened. Open it again."
        raise QdrantEdgeStoreError(msg)
    _check_manifest(folder, found, wanted)
    return found


def _create_shard(folder: str, config: edge.EdgeConfig) -> None:
    """Build a shard aside and move it into place; the loser of a race discards its own."""
    target = os.path.join(folder, SHARD_NAME)
    temporary = os.path.join(folder, f"{CREATING}{os.getpid()}-{uuid.uuid4().hex}")
    try:
        os.mkdir(temporary)
        shard = edge.EdgeShard.create(temporary, config)
        shard.flush()
        shard.close()
        os.rename(temporary, target)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not os.path.isdir(target):
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                raise
            msg = f"The engine could not create a collection in {folder!r}: {error}"
            raise QdrantEdgeStoreError(msg) from error
    sync_folder(folder)


def _shard_folders(folder: str) -> list[str]:
    names = os.listdir(folder)
    return [name for name in names if name == SHARD_NAME or name.startswith((f"{SHARD_NAME}-", *_TEMPORARY[1:]))]


def _open_shard(
    folder: str, manifest: Manifest, first: edge.EdgeConfig, config: edge.EdgeConfig
) -> tuple[edge.EdgeShard, Manifest]:
    """Open the shard that the manifest names, also where another process moves on to another one meanwhile."""
    while True:
        missing = not os.path.isdir(os.path.join(folder, manifest.shard))
        alone = missing and not any(name.startswith(f"{SHARD_NAME}-") for name in _shard_folders(folder))
        if alone and manifest.shard == SHARD_NAME:
            _create_shard(folder, first)
        try:
            if missing and not os.path.isdir(os.path.join(folder, manifest.shard)):
                msg = (
                    f"The store in {folder!r} lacks its folder {manifest.shard!r}, which {MANIFEST_NAME} names. "
                    "Restore the whole folder from a backup. Nothing was changed."
                )
                raise QdrantEdgeStoreError(msg)
            engine = load_shard(folder, manifest.shard, config)
        except QdrantEdgeStoreError:
            current = read_manifest(folder) or manifest
            if current.shard == manifest.shard:
                raise
            manifest = current
            continue
        # The manifest may have changed between being read and the engine's lock being won.
        current = read_manifest(folder) or manifest
        if current.shard == manifest.shard:
            return engine, current
        engine.close()
        manifest = current


def _remove_leftovers(folder: str, kept: str) -> None:
    """Remove what killed processes left. Only for the holder of the engine's lock."""
    for name in os.listdir(folder):
        if name.startswith(_TEMPORARY) or (name in _shard_folders(folder) and name != kept):
            path = os.path.join(folder, name)
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):  # a process that lost the race may clean up after itself meanwhile
                os.remove(path)


def load_shard(folder: str, name: str, config: edge.EdgeConfig | None) -> edge.EdgeShard:
    """
    Open the engine's files.

    :param folder: The store's folder.
    :param name: The shard's folder within it.
    :param config: The settings to use from now on; `None` keeps those that it has.
    :returns: The engine's handle.
    :raises StoreBusyError: If another handle is open.
    :raises QdrantEdgeStoreError: If the engine refuses for another reason.
    """
    try:
        return edge.EdgeShard.load(os.path.join(folder, name), config)
    except Exception as error:
        if "WouldBlock" in str(error):
            msg = (
                f"The store in {folder!r} is open in another process (a server, a notebook, an indexing run, or the "
                "parent of this forked process). The embedded engine serves one process at a time: close that one, or "
                "use a Qdrant server with QdrantDocumentStore of qdrant-haystack to share a collection."
            )
            raise StoreBusyError(msg) from error
        msg = f"The engine could not open the store in {folder!r}: {error}"
        raise QdrantEdgeStoreError(msg) from error


class SharedShard:
    """
    One opened collection of this process.

    The engine's calls may run from any thread and side by side (today most hold the interpreter lock anyway), except
    for its `close`, which must be alone: `close` here waits for the calls in progress. What reads and then writes
    takes `lock`.
    """

    def __init__(self, folder: str, wanted: Manifest, tuning: dict[str, Any]) -> None:
        """
        Open or create the collection of a folder.

        :param folder: The real path.
        :param wanted: What the collection must be; its fingerprint and traits are those of a new one.
        :param tuning: The store's settings of the engine, as `shard_config` takes them.
        :raises ValueError: If the folder holds something else, or a setting cannot be changed.
        :raises StoreFullError: If the disk is too full.
        :raises QdrantEdgeStoreError: If the engine refuses.
        """
        self.folder = folder
        self.tuning = tuning
        self.lock = threading.RLock()
        self.users = 0
        self.closed = False
        self._calls = threading.Condition()
        self._calls_in_progress = 0
        self.pid = os.getpid()
        self.document_ids: dict[PointId, str] = {}
        self.build: IndexBuild | None = None  # while it runs
        self.last_build: IndexBuild | None = None
        self.build_error: QdrantEdgeStoreError | None = None
        self.retry_from = 0  # how many documents must be unoptimised before a failed build is tried again
        self._moving = False
        manifest = _prepare_folder(folder, wanted)
        settings = shard_settings(folder, manifest.settings, tuning)
        kind: dict[str, Any] = {
            "embedding_dim": wanted.embedding_dim,
            "similarity": wanted.similarity,
            "use_sparse_embeddings": wanted.use_sparse_embeddings,
        }
        first = shard_config(**kind, **for_new_collection(tuning))
        self.check_room(to_write=not os.path.isdir(os.path.join(folder, manifest.shard)))
        self.engine, self.manifest = _open_shard(folder, manifest, first, shard_config(**kind, **tuning))
        self._place = self._place_of(self.manifest.shard)
        _remove_leftovers(folder, self.manifest.shard)
        self.change_manifest(settings=settings)
        information = self.engine.info()
        vectors = 2 if wanted.use_sparse_embeddings else 1  # sparse vectors always count as indexed
        points = information.points_count
        self.unoptimized = min(points, max(0, vectors * points - information.indexed_vectors_count))
        self.optimized = points - self.unoptimized
        self.indexes: dict[tuple[str, ...], edge.PayloadSchemaType] = {}
        self.told_of_space = False
        self._read_indexes()
        if self.is_outdated:
            logger.warning(
                "The index of the store in {folder} was built with {indexed}, and {settings} are asked for. Searches "
                "use it as it is until optimize() rebuilds it, or the next write does if optimize_threshold is not 0.",
                folder=folder,
                indexed=self.manifest.indexed,
                settings=settings,
            )

    def _place_of(self, name: str) -> tuple[str, int, int] | None:
        """Where a shard's files are, and which folder that is."""
        try:
            status = os.stat(os.path.join(self.folder, name))
        except OSError:
            return None
        return name, status.st_dev, status.st_ino

    def _read_indexes(self) -> None:
        schema = self.engine.info().payload_schema
        self.indexes = {parse_path(path): index.data_type for path, index in schema.items()}

    @property
    def is_outdated(self) -> bool:
        """Whether the index was built with other settings than those in force."""
        indexed = self.manifest.indexed
        return indexed is not None and self.optimized > 0 and is_rebuilt_by(self.manifest.settings, indexed)

    @property
    def is_usable(self) -> bool:
        """Whether the handle may be used by this process."""
        return not self.closed and self.pid == os.getpid()

    @property
    def is_in_place(self) -> bool:
        """Whether the folder on disk is still the one that was opened."""
        place = self._place
        return place is None or self._place_of(place[0]) == place

    def check_compatible(self, wanted: Manifest, tuning: dict[str, Any]) -> None:
        """
        Check that another store may share this shard.

        :param wanted: What that store expects the collection to be.
        :param tuning: Its settings of the engine; `None` accepts any.
        :raises ValueError: If a setting differs.
        """
        _check_manifest(self.folder, self.manifest, wanted)
        for name, asked in tuning.items():
            if asked is not None and asked != self.tuning[name]:
                msg = (
                    f"The store in {self.folder!r} is open in this process with {name}={self.tuning[name]!r}, but "
                    f"{name}={asked!r} was given. Pass the same value (or None), or close the other store first."
                )
                raise ValueError(msg)

    def check_room(self, *, to_write: bool = True) -> None:
        """
        Refuse what a full disk would end in the middle, with the process.

        :param to_write: whether something will be written, or only opened.
        :raises StoreFullError: If there is not enough room.
        """
        missing = missing_room(self.folder, to_write=to_write)
        if missing is not None:
            raise StoreFullError(missing)

    def create_indexes(self, fields: list[dict[str, Any]] | None) -> None:
        """
        Create the payload indexes that do not exist yet.

        :param fields: As `payload_fields_to_index` of the store.
        """
        for field_name, parameters in payload_indexes(fields):
            parts = field_path(field_name)
            path = engine_path(parts) if parts else None
            if parts is None or path is None:
                msg = f"payload_fields_to_index: the engine cannot index the field {field_name!r}."
                raise ValueError(msg)
            with self.lock:
                if self.indexes.get(parts) != index_type(parameters):
                    self.update(edge.UpdateOperation.create_field_index(path, parameters), None)
                    self._read_indexes()

    def call(self, operation: Callable[[edge.EdgeShard], T]) -> T:
        """
        Use the engine.

        :param operation: What to do with the handle.
        :returns: What the operation returns.
        :raises ShardClosedError: If another thread closed the shard.
        :raises QdrantEdgeStoreError: If the engine fails.
        """
        with self._calls:
            self._calls.wait_for(lambda: not self._moving)
            if self.closed:
                msg = f"The store in {self.folder!r} was closed by another thread."
                raise ShardClosedError(msg)
            self._calls_in_progress += 1
        try:
            return operation(self.engine)
        except (DocumentStoreError, ValueError):
            raise
        except BaseException as error:
            # A failed assertion of the engine arrives as a BaseException, which would end a server's thread.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            if "not enough space" in str(error).lower():  # it looks before it optimises
                msg = f"The disk of the store in {self.folder!r} is too full: {error}. Free some space, then try again."
                raise StoreFullError(msg) from error
            msg = f"The engine failed on the store in {self.folder!r}: {error}"
            raise QdrantEdgeStoreError(msg) from error
        finally:
            with self._calls:
                self._calls_in_progress -= 1
                self._calls.notify_all()

    def update(self, operation: edge.UpdateOperation, points: Iterable[PointId] | None) -> None:
        """
        Apply one update of the engine. It is in the write-ahead log when this returns. The caller holds `lock`.

        :param operation: The update.
        :param points: Which points it changes; `None` for an update of the collection, which is harmless to repeat.
        :raises ShardClosedError: If another thread closed the shard.
        :raises StoreFullError: If the disk has no room for it.
        :raises QdrantEdgeStoreError: If the engine fails.
        """
        self.check_room()
        if self.build is not None:
            self.build.note(operation, points)
        self.call(lambda engine: engine.update(operation))

    def move_to(self, name: str, engine: edge.EdgeShard) -> None:
        """
        Go on with another shard that holds the same points, and remove the former one. The caller holds `lock`.

        :param name: Its folder within the store's.
        :param engine: Its handle.
        :raises ShardClosedError: If another thread closed this one.
        """
        with self._calls:
            if self.closed:
                raise ShardClosedError
            self._moving = True
            self._calls.wait_for(lambda: self._calls_in_progress == 0)
        former, former_name = self.engine, self.manifest.shard
        try:
            self.change_manifest(shard=name)
            self.engine = engine
            self._place = self._place_of(name)
        finally:
            with self._calls:
                self._moving = False
                self._calls.notify_all()
        former.close()
        shutil.rmtree(os.path.join(self.folder, former_name), ignore_errors=True)

    def note_optimized(self, documents: int) -> None:
        """
        Count documents as indexed with the settings in force. The caller holds `lock`.

        :param documents: How many of those that were not indexed before.
        """
        self.optimized += documents
        self.unoptimized = max(0, self.unoptimized - documents)
        self.retry_from = 0
        self.change_manifest(indexed=self.manifest.settings)

    def raise_build_error(self) -> None:
        """
        Report a failure of the index build that nobody was told of yet.

        :raises QdrantEdgeStoreError: If there was one.
        """
        error, self.build_error = self.build_error, None
        if error is not None:
            raise error

    def check_in_place(self) -> None:
        """
        Refuse to write into a folder that is no longer there.

        :raises QdrantEdgeStoreError: If the folder was removed or replaced since it was opened.
        """
        if not self.is_in_place:
            msg = (
                f"The folder {self.folder!r} was removed or replaced while it was open: a write would be lost. "
                "Call close() on every store that uses it, then open it again."
            )
            raise QdrantEdgeStoreError(msg)

    def change_manifest(self, **changes: Any) -> None:
        """
        Change and durably save the manifest.

        :param changes: Fields of `Manifest`.
        """
        manifest = replace(self.manifest, **changes)
        if manifest != self.manifest:
            write_manifest(self.folder, manifest)
            self.manifest = manifest

    def names_of(self, points: list[PointId]) -> dict[PointId, str]:
        """
        Look up the document ids of points. A point's id is a hash of the document's, so a known pair stays true.

        :param points: Ids of points that a search without payload found.
        :returns: Document ids by point id; without points that were deleted meanwhile.
        """
        known = self.document_ids
        names = {point: known.get(point) for point in points}
        missing = [point for point, name in names.items() if name is None]
        if not missing:
            return names  # type: ignore[return-value]
        records = self.call(lambda engine: engine.retrieve(missing, ["id"], False))
        fetched = {record.id: record.payload["id"] for record in records if record.payload}
        if len(known) + len(fetched) > _ID_CACHE_SIZE:
            known.clear()
        known.update(fetched)
        names.update(fetched)
        return {point: name for point, name in names.items() if name is not None}

    def close(self) -> None:
        """Flush and close the engine's handle. Waits for the calls in progress; idempotent."""
        if self.pid != os.getpid():
            return
        with self.lock:
            with self._calls:
                was_closed, self.closed = self.closed, True
                self._calls.wait_for(lambda: self._calls_in_progress == 0)
            if not was_closed:
                try:
                    if self.is_in_place:
                        self.engine.flush()
                finally:
                    self.engine.close()


class Lease:
    """One store's reference to a shared shard. Dropping the last reference to the object releases it too."""

    __slots__ = ("__weakref__", "_finalizer", "shard")

    def __init__(self, shard: SharedShard) -> None:
        """
        Hold a shard.

        :param shard: The shard, whose `users` the caller has already raised.
        """
        self.shard = shard
        self._finalizer = weakref.finalize(self, _release_collected, shard)
        self._finalizer.atexit = False

    def release(self) -> None:
        """Give the reference back; the last one closes the shard. Idempotent."""
        if self._finalizer.detach() is not None:
            with _registry_lock:
                _release(self.shard)


_registry: dict[str, SharedShard] = {}
_registry_lock = threading.Lock()
_collected: deque[SharedShard] = deque()  # released by the garbage collector while the lock was taken
_inherited: list[SharedShard] = []


def hold(shard: SharedShard) -> Lease | None:
    """
    Get another reference to an open shard. The caller does not hold the shard's `lock`.

    :param shard: The shard.
    :returns: The reference; `None` if the shard was closed.
    """
    with _registry_lock:
        if not shard.is_usable:
            return None
        shard.users += 1
        return Lease(shard)


def _release(shard: SharedShard) -> None:
    """Release one reference. The caller holds the registry's lock."""
    shard.users -= 1
    if shard.users == 0 and shard.pid == os.getpid():
        if _registry.get(shard.folder) is shard:
            del _registry[shard.folder]
        shard.close()


def _release_collected(shard: SharedShard) -> None:
    # The collector may run in a thread that holds the lock, so it must not wait for it.
    _collected.append(shard)
    if _registry_lock.acquire(blocking=False):
        try:
            _drain_collected()
        finally:
            _registry_lock.release()


def _drain_collected() -> None:
    while _collected:
        try:
            shard = _collected.popleft()
        except IndexError:
            return
        try:
            _release(shard)
        except Exception as error:
            logger.warning("Closing an unused store in {folder} failed: {error}", folder=shard.folder, error=error)


def acquire(
    path: str, wanted: Manifest, *, tuning: dict[str, Any], payload_fields_to_index: list[dict[str, Any]] | None
) -> Lease:
    """
    Get a reference to the shard of a folder, opening or creating it if this process has not.

    :param path: The folder; `~` is the home folder. All paths that lead to one folder share one shard.
    :param wanted: What the collection must be.
    :param tuning: The store's settings of the engine, as `shard_config` takes them.
    :param payload_fields_to_index: Payload indexes to create if they are missing.
    :returns: The reference.
    :raises ValueError: If the folder is not a store, or one with other settings.
    :raises StoreBusyError: If another process has it open.
    :raises QdrantEdgeStoreError: If the engine refuses for another reason.
    """
    folder = os.path.realpath(os.path.expanduser(path))
    with _registry_lock:
        _drain_collected()
        shard = _registry.get(folder)
        if shard is not None and not shard.is_in_place:
            # The folder was removed under the open shard, as a notebook's user may do: its stores keep the old handle.
            del _registry[folder]
            shard = None
        if shard is None:
            shard = SharedShard(folder, wanted, tuning)
            _registry[folder] = shard
        else:
            shard.check_compatible(wanted, tuning)
        shard.users += 1
        lease = Lease(shard)
    try:
        shard.create_indexes(payload_fields_to_index)
    except BaseException:
        lease.release()
        raise
    return lease


def _close_all() -> None:
    """Flush and close what is still open when the interpreter exits."""
    with _registry_lock:
        shards = list(_registry.values())
    for shard in shards:
        if shard.build is not None:
            logger.warning(
                "Waiting for the index of the store in {folder}. It is safe to interrupt: only the build is lost.",
                folder=shard.folder,
            )
        if shard.last_build is not None:
            shard.last_build.wait()
    with _registry_lock:
        shards = list(_registry.values())
        _registry.clear()
    for shard in shards:
        try:
            shard.close()
        except Exception as error:
            logger.warning("Closing the store in {folder} failed: {error}", folder=shard.folder, error=error)


def _forget_inherited() -> None:
    """Start with an empty registry in a forked child, and keep the parent's handles from ever being destroyed there."""
    global _registry_lock  # noqa: PLW0603
    _registry_lock = threading.Lock()
    for shard in (*_registry.values(), *_collected):
        _inherited.append(shard)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(shard.engine))
    _registry.clear()
    _collected.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
