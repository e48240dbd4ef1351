# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
An embedded store to a collection of a Qdrant server.

1. Check: the collection is not there yet, or it has the store's dimension, similarity and kinds of vectors, no vectors
   of another model and, unless told otherwise, no documents that the store does not hold.
2. Copy, batch by batch: what the collection does not hold exactly as the store does is written over. So a run that was
   killed is resumed by running it again, and a run with nothing to do writes nothing.
3. Verify: the counts, and each document read back from the server.

The store is only read; the collection is only written to. Nothing is deleted in either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_client
from haystack import Document
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore
from qdrant_client import models

from haystack_integrations.common.resrank.documents import FINGERPRINT, META_KEY, entry
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.resrank.converters import first_names, point_id
from haystack_integrations.document_stores.resrank.engine_config import DENSE_VECTORS_NAME, SPARSE_VECTORS_NAME
from haystack_integrations.document_stores.resrank.manifest import Manifest, read_manifest

from .loader import read_definition
from .server_errors import check_url, server_errors

Progress = Callable[[str, int, int], None]

_BATCH_SIZE = 256
_SHOWN = 20
_TIMEOUT_S = 60
_VECTOR_TOLERANCE = 1e-6  # of the vector's largest value, or of 1
_FLOAT_TOLERANCE = 2**-51  # two units in the last place: the server's number parser may be one off
_FINGERPRINT_KEY = f"meta.{META_KEY}.{FINGERPRINT}"
_DISTANCES = {
    "dot_product": models.Distance.DOT,
    "cosine": models.Distance.COSINE,
    "l2": models.Distance.EUCLID,
}


@dataclass
class MigrationReport:
    """
    What a run did and found.

    :param created: the collection was not there before; with a dry run, it would be made.
    :param documents: documents of the store.
    :param written: documents that were written; with a dry run, that would be.
    :param unchanged: documents that the collection already held exactly so.
    :param others: documents of the collection that the store does not hold.
    :param total: documents of the collection afterwards.
    :param verified: each document was read back and is as in the store, and the counts are right; `None`: not checked.
    :param differing: documents that are not as in the store.
    :param differences: the first of them, as `{"id": ..., "differs": [...]}`.
    """

    created: bool = False
    documents: int = 0
    written: int = 0
    unchanged: int = 0
    others: int = 0
    total: int = 0
    verified: bool | None = None
    differing: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)


class Migration:
    """
    Copies an embedded store to a collection of a Qdrant server, and verifies the copy.

    ```python
    from pathlib import Path

    from resrank_pipelines.migration import Migration

    migration = Migration(Path(".resrank/store"), "http://localhost:6333", "resrank")
    report = migration.run()
    migration.close()
    ```

    :param store: folder of the embedded store.
    :param url: of the server; its key is read from `QDRANT_API_KEY`.
    :param collection: to write to; made if it is not there.
    :param batch_size: documents in memory at a time.
    :param timeout_s: seconds to wait for each answer of the server.
    :param progress: told (what, done, total) as work goes on.
    :raises ValueError: if the URL is none.
    :raises FileNotFoundError: if there is no store.
    """

    def __init__(
        self,
        store: Path,
        url: str,
        collection: str,
        *,
        batch_size: int = _BATCH_SIZE,
        timeout_s: int = _TIMEOUT_S,
        progress: Progress | None = None,
    ) -> None:
        check_url(url)
        manifest = read_manifest(str(store.expanduser()))
        if manifest is None:
            msg = f"there is no store at {store}: index some files first (resrank index PATH), or name one with --store"
            raise FileNotFoundError(msg)
        self._url, self._collection, self._batch_size = url, collection, batch_size
        self._progress = progress if progress is not None else lambda *_: None
        self._manifest: Manifest = manifest
        self._source = QdrantEdgeDocumentStore(
            path=str(store),
            embedding_dim=manifest.embedding_dim,
            similarity=manifest.similarity,  # type: ignore[arg-type]
            use_sparse_embeddings=manifest.use_sparse_embeddings,
        )
        self._target = _server_store(url, collection, manifest, timeout_s)
        api_key = self._target.api_key
        self._client = qdrant_client.QdrantClient(
            url=url,
            api_key=api_key.resolve_value() if api_key is not None else None,
            timeout=timeout_s,
            check_compatibility=False,
        )

    def run(self, *, into_existing: bool = False, dry_run: bool = False) -> MigrationReport:
        """
        Check, copy, verify.

        :param into_existing: accept a collection that holds other documents of the same model as well.
        :param dry_run: check and count what would be written; make and write nothing.
        :returns: what was done.
        :raises ValueError: if the collection is not one for these documents.
        :raises StoreBusyError: if another process has the store open.
        :raises RuntimeError: if the server is not there, or refuses.
        """
        self._source.warm_up()
        report = MigrationReport(documents=self._source.count_documents())
        self._check_source()
        with server_errors(self._url):
            report.created = not self._client.collection_exists(self._collection)
            before = 0
            if not report.created:
                self._check_collection()
                before = self._count()
                self._check_models()
                report.others = self._others(before, allowed=into_existing)
            self._copy(report, compare=before > 0, dry_run=dry_run)
            report.total = before if dry_run else self._count()
        if not dry_run:
            self.verify(report)
        return report

    def verify(self, report: MigrationReport) -> None:
        """
        Read each document back from the server and compare it with the store's.

        :param report: of the run; what differs is noted in it.
        :raises RuntimeError: if the server is not there, or refuses.
        """
        report.differing, report.differences = 0, []
        done = 0
        with server_errors(self._url):
            for batch in self._source.document_batches(self._batch_size):
                for name, parts in self._compare(batch).items():
                    report.differing += 1
                    if len(report.differences) < _SHOWN:
                        report.differences.append({"id": name, "differs": parts})
                done += len(batch)
                self._progress("Verifying", done, report.documents)
            report.total = self._count()
        report.verified = not report.differing and report.total == report.documents + report.others

    def close(self) -> None:
        """
        Let the store and the connections go.
        """
        self._source.close()
        self._target.close()
        self._client.close()

    def _check_source(self) -> None:
        stamp = self._source.fingerprint
        if stamp is None:
            return
        conditions = [{"field": _FINGERPRINT_KEY, "operator": "!=", "value": value} for value in (stamp, None)]
        stale = self._source.count_documents_by_filter({"operator": "AND", "conditions": conditions})
        if stale:
            msg = (
                f"{stale} documents of the store {self._source.path} still have vectors of an earlier model: run "
                "`resrank index` on it once to embed them again, then migrate. Nothing was written."
            )
            raise ValueError(msg)

    def _check_collection(self) -> None:
        """Refuse a collection that cannot hold these vectors as they are, or that searches would treat otherwise."""
        parameters = self._client.get_collection(self._collection).config.params
        named = isinstance(parameters.vectors, dict)
        dense: Any = parameters.vectors.get(DENSE_VECTORS_NAME) if named else parameters.vectors  # type: ignore[union-attr]
        sparse = (parameters.sparse_vectors or {}).get(SPARSE_VECTORS_NAME)
        with_sparse, expected = self._manifest.use_sparse_embeddings, _DISTANCES[self._manifest.similarity]
        problem = None
        if dense is None:
            problem = "it was not made by Haystack"
        elif dense.size != self._manifest.embedding_dim:
            problem = f"its vectors have {dense.size} dimensions, those of the store {self._manifest.embedding_dim}"
        elif dense.distance != expected:
            problem = f"it compares vectors by {dense.distance.value}, the store by {expected.value}"
        elif named != with_sparse or (sparse is not None) != with_sparse:
            problem = f"it has {'no ' if with_sparse else ''}sparse vectors, unlike the store"
        elif sparse is not None and sparse.modifier != models.Modifier.IDF:
            problem = "it does not weight its sparse vectors by inverse document frequency (sparse_idf), as BM25 asks"
        if problem is not None:
            self._refuse(problem)

    def _check_models(self) -> None:
        stamp = self._source.fingerprint
        of_this: list[Any] = [models.IsEmptyCondition(is_empty=models.PayloadField(key=_FINGERPRINT_KEY))]
        if stamp is not None:
            of_this.append(models.FieldCondition(key=_FINGERPRINT_KEY, match=models.MatchValue(value=stamp)))
        other = self._client.count(self._collection, count_filter=models.Filter(must_not=of_this), exact=True).count
        if other:
            self._refuse(f"{other} of its documents have vectors of another model than the store's ({stamp})")

    def _refuse(self, problem: str) -> None:
        msg = (
            f"the collection {self._collection!r} at {self._url} is not one for this store: {problem}. Name another "
            "one with --collection; it will be made. Nothing was written."
        )
        raise ValueError(msg)

    def _others(self, total: int, *, allowed: bool) -> int:
        """Count the documents of the collection that the store does not hold."""
        names: list[str] = []
        count, done, offset = 0, 0, None
        while True:
            records, offset = self._client.scroll(
                self._collection, limit=self._batch_size, offset=offset, with_payload=["id"], with_vectors=False
            )
            named = {str(record.id): (record.payload or {}).get("id") for record in records}
            # Another tool's point may carry anything, also an id of ours on a point that is not ours.
            ours = {p: name for p, name in named.items() if isinstance(name, str) and str(point_id(name)) == p}
            stored = {d.id for d in self._source.get_documents_by_id([*ours.values()], return_embedding=False)}
            unknown = [str(name or point) for point, name in named.items() if ours.get(point) not in stored]
            count += len(unknown)
            names += unknown[: _SHOWN - len(names)]
            done += len(records)
            self._progress("Looking at the collection", done, total)
            if offset is None:
                break
        if count and not allowed:
            msg = (
                f"the collection {self._collection!r} at {self._url} holds {count} documents that the store does not "
                f"({first_names(names, limit=3)}). Add to them with --into-existing, or name another "
                "collection with --collection. Nothing was written."
            )
            raise ValueError(msg)
        return count

    def _copy(self, report: MigrationReport, *, compare: bool, dry_run: bool) -> None:
        if not dry_run:
            self._target.count_documents()  # makes the collection, also of an empty store
        done = 0
        for batch in self._source.document_batches(self._batch_size):
            different = self._compare(batch) if compare else {document.id: [] for document in batch}
            documents = [document for document in batch if document.id in different]
            if documents and not dry_run:
                self._target.write_documents(documents, DuplicatePolicy.OVERWRITE)
            report.written += len(documents)
            report.unchanged += len(batch) - len(documents)
            done += len(batch)
            self._progress("Comparing" if dry_run else "Copying", done, report.documents)

    def _compare(self, batch: list[Document]) -> dict[str, list[str]]:
        """What differs in the collection, by document id; documents that do not are left out."""
        found = {document.id: document for document in self._target.get_documents_by_id([d.id for d in batch])}
        compared = {document.id: differing_parts(document, found.get(document.id)) for document in batch}
        return {name: parts for name, parts in compared.items() if parts}

    def _count(self) -> int:
        return self._client.count(self._collection, exact=True).count


def differing_parts(expected: Document, found: Document | None) -> list[str]:
    """
    Compare a stored document with its copy.

    Vectors are float32 and may be 1e-6 apart; floats in meta two units in the last place. An empty sparse vector is
    none.

    :param expected: as the store has it.
    :param found: as the collection has it; `None`: it does not.
    :returns: names of what differs; empty if nothing does.
    """
    if found is None:
        return ["missing"]
    same = {
        "content": expected.content == found.content,
        "blob": _same_blob(expected, found),
        "fingerprint": entry(expected).get(FINGERPRINT) == entry(found).get(FINGERPRINT),
        "meta": _same_value(expected.meta, found.meta),
        "embedding": _same_vector(expected.embedding, found.embedding),
        "sparse_embedding": _same_sparse(expected.sparse_embedding, found.sparse_embedding),
    }
    return [name for name, equal in same.items() if not equal]


def _server_store(url: str, collection: str, manifest: Manifest, timeout_s: int) -> QdrantDocumentStore:
    """The store of the shipped server definitions, with the embedded store's kind of vectors."""
    settings = {
        "url": url,
        "index": collection,
        "embedding_dim": manifest.embedding_dim,
        "similarity": manifest.similarity,
        "use_sparse_embeddings": manifest.use_sparse_embeddings,
        "progress_bar": False,
        "timeout": timeout_s,
        "client_kwargs": {"check_compatibility": False},
    }
    definition = read_definition("search_server", store=settings)
    store = definition["components"]["retriever"]["init_parameters"]["document_store"]
    return QdrantDocumentStore.from_dict(store)


def _same_blob(expected: Document, found: Document) -> bool:
    left, right = expected.blob, found.blob
    if left is None or right is None:
        return left is right
    return left.data == right.data and left.mime_type == right.mime_type and _same_value(left.meta, right.meta)


def _same_value(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_value(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same_value, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=_FLOAT_TOLERANCE)
    return bool(left == right)


def _same_vector(left: list[float] | None, right: list[float] | None) -> bool:
    if not left or not right:
        return not left and not right
    expected, found = np.asarray(left, dtype=np.float32), np.asarray(right, dtype=np.float32)
    if expected.shape != found.shape:
        return False
    tolerance = _VECTOR_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    return bool(np.abs(expected - found).max() <= tolerance)


def _same_sparse(left: SparseEmbedding | None, right: SparseEmbedding | None) -> bool:
    expected, found = (sorted(zip(v.indices, v.values, strict=True)) if v is not None else [] for v in (left, right))
    if [index for index, _ in expected] != [index for index, _ in found]:
        return False
    return _same_vector([value for _, value in expected], [value for _, value in found])
