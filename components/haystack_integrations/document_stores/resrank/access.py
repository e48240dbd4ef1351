# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

import qdrant_edge as edge

from .engine_config import PointId
from .filters import FilterPlan
from .index_build import IndexBuild
from .manifest import Manifest, read_manifest
from .shard import Lease, ShardClosedError, SharedShard, acquire

P = ParamSpec("P")
T = TypeVar("T")

_SCROLL_SIZE = 10_000  # points per page; one page holds the interpreter lock for about 0.1 s
_RETRIEVE_SIZE = 1_000
_SMALLEST_BUILT_ASIDE = 5_000  # documents; fewer are indexed in about a second, a process takes a part of one to start


def in_thread(method: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """
    Make the asynchronous twin of a method, which runs it in a thread.

    :param method: The method.
    :returns: A coroutine function with the same parameters, named `<method>_async`.
    """

    @functools.wraps(method)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, *args, **kwargs)

    run.__name__ = f"{method.__name__}_async"
    run.__qualname__ = f"{method.__qualname__}_async"
    return run


def _retrieve(
    engine: edge.EdgeShard, *, points: list[PointId], payload: list[str] | bool, vectors: list[str] | bool
) -> list[edge.Record]:
    return engine.retrieve(points, payload, vectors)


def _scroll(engine: edge.EdgeShard, *, request: edge.ScrollRequest) -> tuple[list[edge.Record], PointId | None]:
    return engine.scroll(request)


class EdgeAccess:
    """How a store gets at its folder: opening, closing, and running operations on the shared shard."""

    path: str
    embedding_dim: int
    similarity: str
    use_sparse_embeddings: bool
    hnsw_config: dict[str, Any] | None
    quantization_config: dict[str, Any] | str | None
    on_disk: bool | None
    on_disk_payload: bool | None
    optimize_in_background: bool
    payload_fields_to_index: list[dict[str, Any]] | None
    _lease: Lease | None = None

    def to_dict(self) -> dict[str, Any]:
        """
        Serialize the settings.

        :returns: A dictionary with the type and the init parameters.
        """
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EdgeAccess":
        """
        Deserialize the settings.

        :param data: As returned by `to_dict`.
        :returns: The unopened store.
        """
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        """
        Copy and pickle the settings only: an opened engine belongs to one process.

        :returns: What `pickle` and `copy` need.
        """
        return type(self).from_dict, (self.to_dict(),)

    def warm_up(self) -> None:
        """
        Open the folder now rather than with the first use. Idempotent.

        :raises ValueError: If the folder is not a store, or one with other settings.
        :raises StoreBusyError: If another process has it open.
        """
        self._shard()

    def close(self) -> None:
        """
        Give up this object's use of the folder; the last user in the process flushes and closes it.

        If an index is being built in the background, the last user waits until that is done. The store opens the folder
        again if it is used after that. Idempotent.

        :raises QdrantEdgeStoreError: If a build in the background failed and nobody was told yet. The folder is closed
            nevertheless, and nothing that was written is lost.
        """
        lease, self._lease = self._lease, None
        if lease is not None:
            shard = lease.shard
            lease.release()
            build = shard.last_build
            if build is not None and shard.users <= 1:  # the build's own use
                build.wait()
            if shard.closed:
                shard.raise_build_error()

    def flush(self) -> None:
        """Make everything written so far survive a power failure. A killed process loses nothing even without it."""
        self._write(lambda shard: shard.call(lambda engine: engine.flush()))

    def optimize(self) -> bool:
        """
        Build the search index over what was written, free what was deleted, and apply changed settings.

        Returns when it is done. Other threads can search and write meanwhile if `optimize_in_background` is set; else,
        and below 5,000 documents, all threads of the process wait.

        :returns: Whether there was something to do.
        :raises QdrantEdgeStoreError: If the engine fails, or a build in the background has failed since the last call.
        """
        shard = self._read(lambda opened: opened)
        build = shard.build
        if build is not None:
            build.wait()
        shard.raise_build_error()
        if self.optimize_in_background and shard.optimized + shard.unoptimized >= _SMALLEST_BUILT_ASIDE:
            build = IndexBuild.start(shard)
            if build is not None:
                build.wait()
                shard.raise_build_error()
                return build.changed
        return self._write(self._optimize)

    @staticmethod
    def _optimize(shard: SharedShard) -> bool:
        changed = shard.call(lambda engine: engine.optimize())
        shard.note_optimized(shard.unoptimized)
        return changed

    @property
    def fingerprint(self) -> str | None:
        """Which model made the vectors of the collection; `None` while none is known. Does not open the engine."""
        if self._lease is not None and self._lease.shard.is_usable:
            return self._lease.shard.manifest.fingerprint
        manifest = read_manifest(self._manifest_folder())
        return None if manifest is None else manifest.fingerprint

    def stamp(self, fingerprint: str) -> None:
        """
        Declare which model made the vectors of the collection, whatever was declared before.

        :param fingerprint: The model's fingerprint. Documents with another one are refused from now on.
        :raises ValueError: If the fingerprint is empty.
        """
        if not isinstance(fingerprint, str) or not fingerprint:
            msg = f"fingerprint must be a str that is not empty, got {fingerprint!r}."
            raise ValueError(msg)
        self._write(lambda shard: shard.change_manifest(fingerprint=fingerprint))

    def _manifest_folder(self) -> str:
        return os.path.expanduser(self.path)

    def _shard(self) -> SharedShard:
        lease = self._lease
        if lease is None or not lease.shard.is_usable:
            wanted = Manifest(self.embedding_dim, self.similarity, self.use_sparse_embeddings)
            names = ("hnsw_config", "quantization_config", "on_disk", "on_disk_payload")
            tuning = {name: getattr(self, name) for name in names}
            # Two threads may both get here: the lease that is overwritten releases itself.
            lease = self._lease = acquire(
                self.path, wanted, tuning=tuning, payload_fields_to_index=self.payload_fields_to_index
            )
        return lease.shard

    def _read(self, operation: Callable[[SharedShard], T]) -> T:
        """Run an operation, again if another thread closed the store at that moment."""
        while True:
            try:
                return operation(self._shard())
            except ShardClosedError:
                continue

    def _write(self, operation: Callable[[SharedShard], T]) -> T:
        """Run an operation while no other thread writes or closes."""

        def run(shard: SharedShard) -> T:
            with shard.lock:
                if shard.closed:
                    raise ShardClosedError
                shard.check_in_place()
                return operation(shard)

        return self._read(run)

    @staticmethod
    def _retrieve(
        shard: SharedShard, points: list[PointId], payload: list[str] | bool, vectors: list[str] | bool
    ) -> list[edge.Record]:
        records: list[edge.Record] = []
        for start in range(0, len(points), _RETRIEVE_SIZE):
            batch = points[start : start + _RETRIEVE_SIZE]
            records += shard.call(functools.partial(_retrieve, points=batch, payload=payload, vectors=vectors))
        return records

    @staticmethod
    def _scroll(
        shard: SharedShard, wanted: edge.Filter | None, payload: list[str] | bool, vectors: list[str] | bool
    ) -> Iterator[edge.Record]:
        for records in EdgeAccess._pages(shard, wanted, payload, vectors, _SCROLL_SIZE):
            yield from records

    @staticmethod
    def _pages(
        shard: SharedShard,
        wanted: edge.Filter | None,
        payload: list[str] | bool,
        vectors: list[str] | bool,
        size: int,
    ) -> Iterator[list[edge.Record]]:
        offset: PointId | None = None
        while True:
            request = edge.ScrollRequest(
                offset=offset, limit=size, filter=wanted, with_payload=payload, with_vector=vectors
            )
            records, offset = shard.call(functools.partial(_scroll, request=request))
            yield records
            if offset is None:
                return

    def _engine_filter(self, shard: SharedShard, filters: dict[str, Any] | None) -> edge.Filter | None:
        """Translate a filter, after deciding on the documents that the engine cannot decide."""
        if not filters:
            return None
        plan = FilterPlan(filters, traits=shard.manifest.traits, indexes=shard.indexes)
        if plan.is_exact:
            return plan.with_ids(set())
        undecided = self._scroll(shard, plan.undecided, plan.payload_fields, plan.vectors)
        return plan.with_ids({record.id for record in undecided if plan.decide(record)})
