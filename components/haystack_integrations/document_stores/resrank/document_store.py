# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterator
from typing import Any, Literal

import qdrant_edge as edge
from haystack import default_from_dict, default_to_dict, logging
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from . import converters, engine_config, metadata
from .access import EdgeAccess, in_thread
from .engine_config import DENSE_VECTORS_NAME, SPARSE_VECTORS_NAME, PointId
from .index_build import IndexBuild
from .search import EdgeSearch
from .shard import SharedShard, StoreFullError

logger = logging.getLogger(__name__)


class QdrantEdgeDocumentStore(EdgeSearch):
    """
    A document store on Qdrant's engine inside the process: no server, one folder.

    It has HNSW search on dense vectors, BM25-ready sparse vectors, all of Haystack's filters and a write-ahead log:
    what `write_documents` acknowledged survives a killed process. All stores of a process on one folder share one
    opened engine, so that an indexing and a search pipeline can run side by side. Another process is refused while the
    folder is open; to share a collection between processes or machines use `QdrantDocumentStore` of `qdrant-haystack`.

    Vectors are kept as float32. With `similarity="cosine"` the engine keeps them normalised to length 1. Tuples in
    `meta` come back as lists. The score of a document is not stored.

    The defaults are right for a few documents and for a million: collections under about 6,800 documents of 384
    dimensions are searched exactly, larger ones by an index that `write_documents` has built in the background while
    searches and writes go on (see `optimize_in_background`). What that costs in time, memory and disk is in
    docs/scale.md.

    Usage example:
    ```python
    from haystack import Document
    from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

    store = QdrantEdgeDocumentStore(path=".resrank/example", embedding_dim=3)
    store.write_documents([Document(id="a", content="alpha", meta={"year": 2026}, embedding=[0.1, 0.2, 0.3])])
    store.filter_documents({"field": "meta.year", "operator": ">=", "value": 2025})
    # [Document(id=a, content: 'alpha', meta: {'year': 2026}, embedding: vector of size 3)]
    store.close()
    ```
    """

    def __init__(
        self,
        *,
        path: str = ".resrank/store",
        embedding_dim: int = 384,
        similarity: Literal["dot_product", "cosine", "l2"] = "dot_product",
        use_sparse_embeddings: bool = True,
        return_embedding: bool = False,
        hnsw_config: dict[str, Any] | None = None,
        search_params: dict[str, Any] | None = None,
        quantization_config: dict[str, Any] | Literal["int8", "none"] | None = None,
        on_disk: bool | None = None,
        on_disk_payload: bool | None = None,
        payload_fields_to_index: list[dict[str, Any]] | None = None,
        write_batch_size: int = 256,
        optimize_threshold: int = 20_000,
        optimize_in_background: bool = True,
    ) -> None:
        """
        Configure the store. Nothing is opened or created before the first use.

        :param path: The folder of the store. It is created if it does not exist; `~` is the home folder.
        :param embedding_dim: Dimension of the dense vectors; 384 is that of the default model, `resrank-mini`.
        :param similarity: How dense vectors are compared. `dot_product` keeps the vectors as they are written, which a
            reranker on stored vectors needs; `cosine` normalises them; `l2` gives the negative Euclidean distance, so
            that a higher score is better everywhere.
        :param use_sparse_embeddings: Whether to keep sparse vectors, weighted by inverse document frequency as BM25
            asks. Fixed when the folder is created.
        :param return_embedding: Whether searches return the vectors, unless asked otherwise.
        :param hnsw_config: Settings of the HNSW graph: `m`, edges of a node, default 16; `ef_construct`, candidates
            while building, default 200: searches with half the `hnsw_ef` then find what they find with Qdrant's 100;
            `full_scan_threshold`, KB of vectors below which search is exact, default 10000; also `payload_m`,
            `on_disk`, `max_indexing_threads` and `inline_storage`. `None` keeps what an existing collection has. A
            change is applied by the next optimisation, with a warning until then.
        :param search_params: Settings of dense search: `hnsw_ef`, candidates while searching, default 512, for a
            recall@10 of .995 at a million (docs/scale.md); `exact`, `indexed_only`, and, for quantised vectors,
            `quantization` with `ignore`, `rescore`, default true, and `oversampling`, how many times `top_k` candidates
            are rescored with the original vectors, default 2.
        :param quantization_config: Compressed vectors for searching, next to the original ones: `"int8"` for
            `{"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}`; `{"binary": {}}` or `{"product":
            {"compression": "x16"}}`. `None` keeps what an existing collection has; a change is applied by the next
            optimisation. `"none"` for a collection that must not be quantised: the engine cannot undo it.
        :param on_disk: Whether dense vectors are read from the disk as needed (`True`) or loaded when the store opens
            (`False`, the default for a new collection): 1.5 KB a document of 384 dimensions. With `"int8"` and
            `True`, a quarter of that stays in memory. `None` keeps what an existing collection has; a change is
            applied by the next optimisation.
        :param on_disk_payload: The same for ids, texts and meta; `True` for a new collection.
        :param payload_fields_to_index: Fields that filters use often: `[{"field_name": "meta.year", "field_schema":
            "integer"}]`. The schema is `keyword`, `integer`, `float`, `bool`, `datetime` or `uuid`, or a dict with that
            as `type` and Qdrant's settings.
        :param write_batch_size: Documents per write of the engine; 256 was the fastest.
        :param optimize_threshold: After how many written documents to build the search index; it also waits until the
            collection grew by half, so that the cost stays proportional. 0 leaves it to calls of `optimize`.
        :param optimize_in_background: Whether to build it in a process of its own, on a copy of the collection that
            then takes its place: searches and writes go on, `close` and the end of the program wait, and a failure is
            logged and raised by the next `optimize` or by `close`. While it runs it needs the collection's size again
            on the disk, twice or so. `False` builds in place: the engine holds Python's interpreter lock meanwhile, so
            that all threads of the process wait, seconds for 20,000 documents, minutes for a million.
        :raises ValueError: If a value is out of range or unknown.
        """
        if not isinstance(path, str) or not path.strip():
            msg = f"path must be the name of a folder, a str; got {path!r}."
            raise ValueError(msg)
        if similarity not in engine_config.DISTANCES:
            msg = f"similarity must be one of {', '.join(engine_config.DISTANCES)}; got {similarity!r}."
            raise ValueError(msg)
        engine_config.check_positive_int("embedding_dim", embedding_dim)
        engine_config.check_positive_int("write_batch_size", write_batch_size)
        engine_config.check_positive_int("optimize_threshold", optimize_threshold, minimum=0)
        engine_config.check_flag("on_disk", on_disk)
        engine_config.check_flag("on_disk_payload", on_disk_payload)
        engine_config.hnsw_index(hnsw_config)
        engine_config.quantization(quantization_config)
        engine_config.payload_indexes(payload_fields_to_index)
        self._search_parameters = engine_config.search_parameters(search_params)
        self.path = path
        self.embedding_dim = embedding_dim
        self.similarity = similarity
        self.use_sparse_embeddings = use_sparse_embeddings
        self.return_embedding = return_embedding
        self.hnsw_config = hnsw_config
        self.search_params = search_params
        self.quantization_config = quantization_config
        self.on_disk = on_disk
        self.on_disk_payload = on_disk_payload
        self.payload_fields_to_index = payload_fields_to_index
        self.write_batch_size = write_batch_size
        self.optimize_threshold = optimize_threshold
        self.optimize_in_background = optimize_in_background

    def to_dict(self) -> dict[str, Any]:
        """
        Serialize the store.

        :returns: A dictionary with the type and the init parameters.
        """
        return default_to_dict(
            self,
            path=self.path,
            embedding_dim=self.embedding_dim,
            similarity=self.similarity,
            use_sparse_embeddings=self.use_sparse_embeddings,
            return_embedding=self.return_embedding,
            hnsw_config=self.hnsw_config,
            search_params=self.search_params,
            quantization_config=self.quantization_config,
            on_disk=self.on_disk,
            on_disk_payload=self.on_disk_payload,
            payload_fields_to_index=self.payload_fields_to_index,
            write_batch_size=self.write_batch_size,
            optimize_threshold=self.optimize_threshold,
            optimize_in_background=self.optimize_in_background,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "QdrantEdgeDocumentStore":
        """
        Deserialize the store.

        :param data: As returned by `to_dict`.
        :returns: The store, unopened.
        """
        return default_from_dict(cls, data)

    # --- Reading ------------------------------------------------------------------------------------------------------

    def count_documents(self) -> int:
        """
        Count the documents.

        :returns: How many there are.
        """
        return self._read(lambda shard: shard.call(lambda engine: engine.count(edge.CountRequest(exact=True))))

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """
        Count the documents that match a filter.

        :param filters: A Haystack filter.
        :returns: How many match.
        :raises FilterError: If the filter is malformed.
        """

        def count(shard: SharedShard) -> int:
            request = edge.CountRequest(exact=True, filter=self._engine_filter(shard, filters))
            return shard.call(lambda engine: engine.count(request))

        return self._read(count)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """
        Get all documents that match a filter.

        Operators mean what they mean for Haystack's in-memory store, on any value. Comparisons with a date, with `None`
        where documents have empty lists, and with lists or dicts fetch the documents that the engine cannot decide.

        :param filters: A Haystack filter; `None` or `{}` for all documents. Fields are `id`, `content`, `meta.<key>` or
            a key of meta without prefix; `blob`, `embedding` and `sparse_embedding` can be compared with `None`.
        :returns: The documents with their vectors, sorted by id.
        :raises FilterError: If the filter is malformed or orders values that have no order.
        """

        def read(shard: SharedShard) -> list[Document]:
            wanted = self._engine_filter(shard, filters)
            return [converters.to_document(record) for record in self._scroll(shard, wanted, True, True)]

        return sorted(self._read(read), key=lambda document: document.id)

    def get_documents_by_id(
        self, ids: list[str], *, return_embedding: bool = True, return_sparse_embedding: bool | None = None
    ) -> list[Document]:
        """
        Get documents by their ids.

        :param ids: Document ids.
        :param return_embedding: Whether to fetch the dense vectors too.
        :param return_sparse_embedding: Whether to fetch the sparse vectors too; `None` as `return_embedding`. A ranker
            on stored vectors does without, which saves about a quarter of the time.
        :returns: The documents in the order of `ids`, without those that do not exist. Embeddings are
            `StoredEmbedding`s, which are cheap to pass between components.
        """
        points: list[PointId] = [converters.point_id(document_id) for document_id in ids]
        vectors: list[str] = [DENSE_VECTORS_NAME] if return_embedding else []
        if self.use_sparse_embeddings and (
            return_embedding if return_sparse_embedding is None else return_sparse_embedding
        ):
            vectors.append(SPARSE_VECTORS_NAME)
        found = self._read(lambda shard: self._retrieve(shard, list(dict.fromkeys(points)), True, vectors or False))
        records = {record.id: record for record in found}
        return [converters.to_document(records[point]) for point in points if point in records]

    def document_batches(self, batch_size: int = 256) -> Iterator[list[Document]]:
        """
        Read all documents with their vectors, a batch at a time: memory stays bounded whatever the store holds.

        The order is that of the engine and the same each time. Documents written meanwhile may or may not be seen.

        :param batch_size: Documents per batch; the last one may be smaller.
        :returns: The batches, none of them empty.
        :raises ValueError: If `batch_size` is not positive.
        """
        engine_config.check_positive_int("batch_size", batch_size)
        shard = self._read(lambda opened: opened)
        pages = self._pages(shard, None, True, True, batch_size)
        return ([converters.to_document(record) for record in page] for page in pages if page)

    # --- Writing ------------------------------------------------------------------------------------------------------

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """
        Write documents. What was written when this returns survives a killed process.

        Everything is checked before anything is written.

        :param documents: The documents, with an `embedding` of `embedding_dim` finite floats and, if the store keeps
            sparse vectors, a `sparse_embedding`. Those without vectors are kept too, with a warning.
        :param policy: What to do with a document whose id is stored already, or is there twice in `documents`: `FAIL`
            raises and writes nothing, `SKIP` keeps the first, `OVERWRITE` the last. `NONE` means `FAIL`.
        :returns: How many documents were written.
        :raises DuplicateDocumentError: With `FAIL`, if there is such a document.
        :raises ValueError: If a document has a vector of another dimension or model, or a value that the engine would
            lose or change; the message names the document.
        :raises StoreFullError: If the disk is too full. What earlier calls wrote is kept.
        """
        distinct = self._distinct(documents, policy)
        if not distinct:
            return 0
        fail = policy in (DuplicatePolicy.NONE, DuplicatePolicy.FAIL)
        traits: set[str] = set()
        points: dict[PointId, edge.Point] = {}
        for document in distinct.values():
            point = converters.to_point(
                document,
                embedding_dim=self.embedding_dim,
                use_sparse_embeddings=self.use_sparse_embeddings,
                traits=traits,
            )
            points[point.id] = point
        fingerprints = [
            (f"Document {document.id!r}", converters.document_fingerprint(document)) for document in distinct.values()
        ]

        def write(shard: SharedShard) -> list[str]:
            new = dict(zip(points, distinct, strict=True))
            if policy != DuplicatePolicy.OVERWRITE:
                existing = [record.id for record in self._retrieve(shard, list(points), False, False)]
                if existing and fail:
                    msg = (
                        f"Already stored: {converters.first_names(new[identifier] for identifier in existing)}. Use "
                        "DuplicatePolicy.OVERWRITE or SKIP. Nothing was written."
                    )
                    raise DuplicateDocumentError(msg)
                for identifier in existing:
                    del new[identifier]
            self._admit(shard, fingerprints, traits)
            identifiers = list(new)
            for start in range(0, len(identifiers), self.write_batch_size):
                batch = [points[identifier] for identifier in identifiers[start : start + self.write_batch_size]]
                shard.update(edge.UpdateOperation.upsert_points(batch), [point.id for point in batch])
            shard.unoptimized += len(identifiers)
            return list(new.values())

        written = self._write(write)
        self._warn_of_missing_vectors([distinct[name] for name in written])
        self._optimize_if_due()
        return len(written)

    @staticmethod
    def _distinct(documents: list[Document], policy: DuplicatePolicy) -> dict[str, Document]:
        """Check the argument of write_documents, and apply the policy within it."""
        if not isinstance(documents, list) or any(not isinstance(document, Document) for document in documents):
            kinds = sorted({type(item).__name__ for item in documents}) if isinstance(documents, list) else documents
            msg = f"write_documents takes a list of Document objects, got {kinds!r:.80}."
            raise ValueError(msg)
        distinct: dict[str, Document] = {}
        for document in documents:
            if document.id not in distinct or policy == DuplicatePolicy.OVERWRITE:
                distinct[document.id] = document
            elif policy != DuplicatePolicy.SKIP:
                msg = f"The document id {document.id!r} is there twice in one call of write_documents."
                raise DuplicateDocumentError(msg)
        return distinct

    def _admit(self, shard: SharedShard, fingerprints: list[tuple[str, str | None]], traits: set[str]) -> None:
        """Note in the manifest what is about to be written: the model (given by whom) and the kinds of values."""
        stamp = shard.manifest.fingerprint
        for source, fingerprint in fingerprints:
            if fingerprint is not None and stamp is not None and fingerprint != stamp:
                msg = (
                    f"{source} has vectors of the model {fingerprint!r}, but the store in {self.path!r} holds those of "
                    f"{stamp!r}; scores between the two mean nothing. Index into another folder, or embed the "
                    "documents of this one again with `resrank index`. Nothing was written."
                )
                raise ValueError(msg)
            stamp = fingerprint if stamp is None else stamp
        shard.change_manifest(fingerprint=stamp, traits=shard.manifest.traits | traits)

    def _warn_of_missing_vectors(self, documents: list[Document]) -> None:
        sparse = [document.sparse_embedding for document in documents]
        if not self.use_sparse_embeddings and any(embedding is not None for embedding in sparse):
            logger.warning(
                "The sparse embeddings of {count} documents were not stored: use_sparse_embeddings is False.",
                count=sum(embedding is not None for embedding in sparse),
            )
        blind = [document for document in documents if document.embedding is None]
        if not blind:
            return
        lost = sum(not self.use_sparse_embeddings or document.sparse_embedding is None for document in blind)
        logger.warning(
            "{count} of {total} documents were written without an embedding: dense search cannot find them. {lost} of "
            "them have no sparse embedding either, and no search finds those. Run a document embedder first.",
            count=len(blind),
            total=len(documents),
            lost=lost,
        )

    def _optimize_if_due(self) -> None:
        shard = self._read(lambda opened: opened)
        if not self._is_optimize_due(shard):
            return
        if self.optimize_in_background:
            IndexBuild.start(shard)
            return
        try:
            self._write(lambda opened: self._is_optimize_due(opened) and self._optimize(opened))
        except StoreFullError as error:  # what was written is safe; the index only makes searches faster
            if not shard.told_of_space:
                logger.warning("The search index was not built, searches are slower: {error}", error=error)
            shard.told_of_space = True

    def _is_optimize_due(self, shard: SharedShard) -> bool:
        if not self.optimize_threshold or shard.build is not None or shard.unoptimized < shard.retry_from:
            return False
        return shard.is_outdated or shard.unoptimized >= max(self.optimize_threshold, shard.optimized // 2)

    def delete_documents(self, document_ids: list[str]) -> None:
        """
        Delete documents by their ids. Ids that do not exist are ignored.

        :param document_ids: Document ids.
        """
        points: list[PointId] = [converters.point_id(document_id) for document_id in document_ids]
        if points:
            self._write(lambda shard: shard.update(edge.UpdateOperation.delete_points(points), points))

    def delete_all_documents(self) -> None:
        """Delete all documents. The folder stays, and accepts the vectors of any model of the same dimension."""

        def delete(shard: SharedShard) -> None:
            if shard.build is not None:
                shard.build.cancel()  # nothing is left to index
            shard.update(edge.UpdateOperation.delete_points_by_filter(edge.Filter()), None)
            shard.call(lambda engine: engine.flush())
            shard.unoptimized = shard.optimized = shard.retry_from = 0
            shard.change_manifest(fingerprint=None, traits=frozenset())

        self._write(delete)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """
        Delete the documents that match a filter.

        :param filters: A Haystack filter. An empty one is refused; see `delete_all_documents`.
        :returns: How many documents were deleted.
        :raises FilterError: If the filter is malformed.
        :raises ValueError: If it is empty.
        """

        def delete(shard: SharedShard) -> int:
            points = self._matching_points(shard, filters)
            if points:
                shard.update(edge.UpdateOperation.delete_points(points), points)
            return len(points)

        return self._write(delete)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """
        Set keys of the meta of the documents that match a filter. The other keys stay, and so do id and vectors.

        :param filters: A Haystack filter. An empty one is refused.
        :param meta: The keys to set.
        :returns: How many documents were updated.
        :raises FilterError: If the filter is malformed.
        :raises ValueError: If the filter is empty, or a value cannot be kept.
        """
        traits: set[str] = set()
        changes = converters.meta_payload(meta, where="update_by_filter: meta", traits=traits)["meta"]
        fingerprint = converters.meta_fingerprint(changes, where="update_by_filter: meta")

        def update(shard: SharedShard) -> int:
            points = self._matching_points(shard, filters)
            if not points:
                return 0
            self._admit(shard, [("The meta given to update_by_filter", fingerprint)], traits)
            if converters.HAS_LONG_FLOATS not in shard.manifest.traits:
                shard.update(edge.UpdateOperation.set_payload(points, changes, "meta"), points)
                return len(points)
            for record in self._retrieve(shard, points, True, False):
                payload = record.payload or {}
                merged = converters.payload_meta(payload) | changes
                kept = {key: payload[key] for key in ("id", "content", "blob")}
                payload = kept | converters.meta_payload(merged, where="meta", traits=set())
                shard.update(edge.UpdateOperation.overwrite_payload([record.id], payload), [record.id])
            return len(points)

        return self._write(update)

    def _matching_points(self, shard: SharedShard, filters: dict[str, Any]) -> list[PointId]:
        if not filters:
            msg = "The filter is empty, which would match every document. Give a filter, or call delete_all_documents."
            raise ValueError(msg)
        return [record.id for record in self._scroll(shard, self._engine_filter(shard, filters), False, False)]

    # --- Metadata -----------------------------------------------------------------------------------------------------

    def _metas(self, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        fields = ["meta", converters.META_JSON]

        def read(shard: SharedShard) -> list[dict[str, Any]]:
            records = self._scroll(shard, self._engine_filter(shard, filters), fields, False)
            return [converters.payload_meta(record.payload or {}) for record in records]

        return self._read(read)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """
        Name the metadata fields and their types. Reads every document's meta.

        :returns: Such as `{"year": {"type": "long"}}`; the types are `keyword`, `long`, `float` and `boolean`.
        """
        return metadata.fields_info(self._metas())

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """
        Find the smallest and largest value of a metadata field. Reads every document's meta.

        :param metadata_field: The field, with or without the prefix `meta.`.
        :returns: `{"min": ..., "max": ...}`, both `None` if no document has the field.
        :raises ValueError: If the values have no common order.
        """
        values = metadata.field_values(self._metas(), metadata_field)
        return metadata.min_max(values, metadata_field=metadata_field)

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """
        Count the distinct values of metadata fields.

        :param filters: A Haystack filter for the documents to look at; `{}` for all.
        :param metadata_fields: The fields, with or without the prefix `meta.`.
        :returns: The number of distinct values by field, as named in `metadata_fields`.
        :raises FilterError: If the filter is malformed.
        """
        metas = self._metas(filters)
        return {name: len(metadata.unique(metadata.field_values(metas, name))) for name in metadata_fields}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """
        List the distinct values of a metadata field, page by page. Reads the meta of the documents.

        :param metadata_field: The field, with or without the prefix `meta.`.
        :param search_term: Keep values whose text contains this, in any case.
        :param from_: How many values to skip.
        :param size: How many values to return at most.
        :param filters: A Haystack filter for the documents to look at.
        :returns: The page of values, sorted by their text, and the number of all values.
        :raises FilterError: If the filter is malformed.
        """
        values = metadata.unique(metadata.field_values(self._metas(filters), metadata_field))
        if search_term is not None:
            values = [value for value in values if search_term.lower() in str(value).lower()]
        return values[from_ : from_ + size], len(values)

    # --- Asynchronous twins -------------------------------------------------------------------------------------------

    count_documents_async = in_thread(count_documents)
    count_documents_by_filter_async = in_thread(count_documents_by_filter)
    filter_documents_async = in_thread(filter_documents)
    get_documents_by_id_async = in_thread(get_documents_by_id)
    write_documents_async = in_thread(write_documents)
    delete_documents_async = in_thread(delete_documents)
    delete_all_documents_async = in_thread(delete_all_documents)
    delete_by_filter_async = in_thread(delete_by_filter)
    update_by_filter_async = in_thread(update_by_filter)
    get_metadata_fields_info_async = in_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = in_thread(get_metadata_field_min_max)
    count_unique_metadata_by_filter_async = in_thread(count_unique_metadata_by_filter)
    get_metadata_field_unique_values_async = in_thread(get_metadata_field_unique_values)
    close_async = in_thread(EdgeAccess.close)
