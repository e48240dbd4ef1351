# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
The folder of a store, and the process-wide registry of opened shards.

Layout of a store's folder:

* `resrank.json`: the manifest. What the collection is (dimension, similarity, sparse or not), which model's vectors it
  holds, and which kinds of values its documents ever had. Written whole: temporary file, fsync, rename.
* `shard/`: the engine's files. Built as `shard.creating-*` and renamed, so that it is complete or absent.

A process killed at any moment leaves one of: an empty folder, a manifest without a shard, or both. Each opens again.

The engine locks a shard for one handle per machine, so that all stores of a process on one real path share one handle.
It is reference counted and closed with its last user. A handle cannot cross `os.fork` (a call on it blocks forever):
a child forgets it, without running its destructor, and opens its own, which the engine refuses while the parent runs.
"""

import atexit
import contextlib
import ctypes
import errno
import json
import os
import shutil
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import qdrant_edge as edge
from haystack import logging
from haystack.document_stores.errors import DocumentStoreError

from .converters import TRAITS
from .disk import missing_room
from .engine_config import PointId, index_type, payload_indexes, shard_config
from .filters import engine_path, field_path, parse_path

logger = logging.getLogger(__name__)

T = TypeVar("T")

MANIFEST_NAME = "resrank.json"
SHARD_NAME = "shard"
_TEMPORARY = (f"{MANIFEST_NAME}.writing-", f"{SHARD_NAME}.creating-")
_FORMAT = 1
_ID_CACHE_SIZE = 100_000  # about 25 MB


class QdrantEdgeStoreError(DocumentStoreError, RuntimeError):
    """The embedded engine could not do what was asked."""


class StoreBusyError(QdrantEdgeStoreError):
    """Another process has the store's folder open."""


class StoreFullError(QdrantEdgeStoreError):
    """The disk has no room for what the engine would do."""


class ShardClosedError(QdrantEdgeStoreError):
    """The shard was closed by another thread between being looked up and being used."""


@dataclass(frozen=True)
class Manifest:
    """
    What a collection is and holds, as kept in `resrank.json`.

    :param embedding_dim: Dimension of the dense vectors.
    :param similarity: `dot_product`, `cosine` or `l2`.
    :param use_sparse_embeddings: Whether the collection has sparse vectors.
    :param fingerprint: Which model made the vectors; `None` until the first one is written.
    :param traits: The `TRAITS` that a document of the collection ever had.
    """

    embedding_dim: int
    similarity: str
    use_sparse_embeddings: bool
    fingerprint: str | None = None
    traits: frozenset[str] = field(default_factory=frozenset)


def read_manifest(folder: str) -> Manifest | None:
    """
    Read the manifest of a store's folder.

    :param folder: The folder, which need not exist.
    :returns: The manifest, or `None` if there is none.
    :raises ValueError: If it cannot be understood.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        values = json.loads(text)
        version = values.pop("format")
        if version != _FORMAT:
            msg = f"{path} has format {version!r}; this version of resrank reads format {_FORMAT}. Upgrade resrank."
            raise ValueError(msg)
        traits = frozenset(values.pop("traits"))
        if not traits <= TRAITS:
            msg = f"{path} names the unknown traits {sorted(traits - TRAITS)}. Upgrade resrank."
            raise ValueError(msg)
        return Manifest(**values, traits=traits)
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        msg = f"{path} is not a manifest that this version of resrank can read ({error}). Restore it from a backup."
        raise ValueError(msg) from error


def _sync_folder(folder: str) -> None:
    """Make renames in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_manifest(folder: str, manifest: Manifest, *, first: bool = False) -> None:
    """Write the manifest whole; with `first`, fail with FileExistsError if another process was faster."""
    values = {"format": _FORMAT, **vars(manifest), "traits": sorted(manifest.traits)}
    path = os.path.join(folder, MANIFEST_NAME)
    temporary = os.path.join(folder, f"{_TEMPORARY[0]}{os.getpid()}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        if first:
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                os.rename(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
    _sync_folder(folder)


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
            _write_manifest(folder, wanted, first=True)
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
    temporary = os.path.join(folder, f"{_TEMPORARY[1]}{os.getpid()}-{uuid.uuid4().hex}")
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
    _sync_folder(folder)


def _load_shard(folder: str, config: edge.EdgeConfig) -> edge.EdgeShard:
    try:
        return edge.EdgeShard.load(os.path.join(folder, SHARD_NAME), config)
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
        :param tuning: `hnsw_config` and `quantization_config` of the store.
        :raises ValueError: If the folder holds something else.
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
        self.manifest = _prepare_folder(folder, wanted)
        config = shard_config(
            embedding_dim=wanted.embedding_dim,
            similarity=wanted.similarity,
            use_sparse_embeddings=wanted.use_sparse_embeddings,
            **tuning,
        )
        is_new = not os.path.isdir(os.path.join(folder, SHARD_NAME))
        self.check_room(to_write=is_new)
        if is_new:
            _create_shard(folder, config)
        self.engine = _load_shard(folder, config)
        self._identity = self._folder_identity()
        # The manifest may have changed between being read and the engine's lock being won.
        self.manifest = read_manifest(folder) or self.manifest
        for name in os.listdir(folder):
            if name.startswith(_TEMPORARY):  # left by a killed process: only the holder of the lock gets here
                path = os.path.join(folder, name)
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):  # a process that lost the race may clean up after itself meanwhile
                    os.remove(path)
        information = self.engine.info()
        vectors = 2 if wanted.use_sparse_embeddings else 1  # sparse vectors always count as indexed
        points = information.points_count
        self.unoptimized = min(points, max(0, vectors * points - information.indexed_vectors_count))
        self.optimized = points - self.unoptimized
        self.indexes: dict[tuple[str, ...], edge.PayloadSchemaType] = {}
        self.told_of_space = False
        self._read_indexes()

    def _folder_identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(os.path.join(self.folder, SHARD_NAME))
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _read_indexes(self) -> None:
        schema = self.engine.info().payload_schema
        self.indexes = {parse_path(path): index.data_type for path, index in schema.items()}

    @property
    def is_usable(self) -> bool:
        """Whether the handle may be used by this process."""
        return not self.closed and self.pid == os.getpid()

    @property
    def is_in_place(self) -> bool:
        """Whether the folder on disk is still the one that was opened."""
        return self._folder_identity() == self._identity

    def check_compatible(self, wanted: Manifest, tuning: dict[str, Any]) -> None:
        """
        Check that another store may share this shard.

        :param wanted: What that store expects the collection to be.
        :param tuning: Its `hnsw_config` and `quantization_config`; `None` accepts any.
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
                    self.update(edge.UpdateOperation.create_field_index(path, parameters))
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

    def update(self, operation: edge.UpdateOperation) -> None:
        """
        Apply one update of the engine. It is in the write-ahead log when this returns.

        :param operation: The update.
        :raises ShardClosedError: If another thread closed the shard.
        :raises StoreFullError: If the disk has no room for it.
        :raises QdrantEdgeStoreError: If the engine fails.
        """
        self.check_room()
        self.call(lambda engine: engine.update(operation))

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
            _write_manifest(self.folder, manifest)
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
    :param tuning: `hnsw_config` and `quantization_config` of the store.
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
