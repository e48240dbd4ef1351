# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any, Literal, get_args

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from haystack_integrations.common.resrank.documents import check_query, check_top_k, check_vectors, with_entry
from haystack_integrations.common.resrank.embedding import StoredEmbedding
from haystack_integrations.common.resrank.model import ResRankModel
from haystack_integrations.common.resrank.model_user import ModelUser
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

from .first_stage import FirstStage, first_stage

# What the ranker reads in one pass, and as deep as the published runs go.
_LIST_DEPTH = 100

RetrievalMode = Literal["hybrid", "dense", "bm25"]


@component
class ResRankRetriever(ModelUser):
    """
    Retrieves candidates for `ResRankRanker`: embeds the query itself and returns documents with their vectors.

    In `hybrid` mode it runs dense and BM25 search and fuses the two lists by reciprocal rank fusion; `dense` and `bm25`
    are the two lists alone. Each document's first-stage evidence is left in `meta["resrank"]`.

    Works on `QdrantEdgeDocumentStore` and on `QdrantDocumentStore` (with `use_sparse_embeddings=True, sparse_idf=True`
    for hybrid), and ranks the same on both.

    ```python
    from haystack import Document
    from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder
    from haystack_integrations.components.retrievers.resrank import ResRankRetriever
    from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

    store = QdrantEdgeDocumentStore(path="my-store")
    documents = [Document(content="Bread needs yeast."), Document(content="Parse dates with datetime.strptime.")]
    store.write_documents(ResRankDocumentEmbedder().run(documents=documents)["documents"])
    found = ResRankRetriever(document_store=store).run(query="how do I parse a date?")
    print(found["documents"][0].content)  # Parse dates with datetime.strptime.
    ```
    """

    def __init__(
        self,
        *,
        document_store: QdrantEdgeDocumentStore | QdrantDocumentStore,
        model: ResRankModel | str = "resrank-mini",
        mode: RetrievalMode = "hybrid",
        top_k: int = 100,
        list_depth: int | None = None,
        filters: dict[str, Any] | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        return_query_embedding: bool = True,
    ) -> None:
        """
        Create the retriever; nothing loads or opens yet.

        :param document_store: the store.
        :param model: a `ResRankModel`, or a name, folder or hub id; the one that the documents were embedded with.
        :param mode: `hybrid` (dense and BM25, fused), `dense` or `bm25`.
        :param top_k: how many documents to return; 100 is what the ranker reads in one pass.
        :param list_depth: how many of each list are fused; `None` means 100, or `top_k` where that is more. In the
            other modes `top_k` alone counts.
        :param filters: Haystack filters for every query.
        :param filter_policy: whether run-time filters replace these or are merged with them.
        :param return_query_embedding: give `query_embedding` too. A pipeline that does not connect it should say no:
            Haystack returns every output that nobody takes.
        :raises TypeError: for another kind of store.
        :raises ValueError: for wrong values, or a store whose settings do not serve the mode.
        """
        self._init_model(model)
        check_top_k(top_k)
        check_top_k(list_depth)
        if mode not in get_args(RetrievalMode):
            msg = f"mode must be 'hybrid', 'dense' or 'bm25', got {mode!r}"
            raise ValueError(msg)
        _check_store(document_store, mode)
        self.document_store = document_store
        self.mode = mode
        self.top_k = top_k
        self.list_depth = list_depth
        self.filters = filters
        self.return_query_embedding = return_query_embedding
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy

    @component.output_types(documents=list[Document], query_embedding=list[float])
    def run(self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None) -> dict[str, Any]:
        """
        Retrieve. Run-time values of `None` mean the ones given to the constructor.

        :param query: the query; one of stop words only is answered by the dense list.
        :param filters: Haystack filters.
        :param top_k: how many documents to return.
        :returns: `documents` with vectors, by (score descending, id): the RRF score in `hybrid` mode, the cosine in
            `dense` mode, the BM25 score in `bm25` mode. `query_embedding`: d floats; not in `bm25` mode,
            which encodes nothing. The ranker does without it: the model remembers the queries that it encoded last.
        :raises TypeError: when the query is not a string.
        :raises ValueError: for a blank query, a bad `top_k`, or a store that holds another model's vectors.
        """
        check_query(query)
        check_top_k(top_k)
        limit = self.top_k if top_k is None else top_k
        chosen = apply_filter_policy(self.filter_policy, self.filters, filters)
        engine = self._loaded()
        self._check_stamp(engine.fingerprint)
        vector = None if self.mode == "bm25" else StoredEmbedding(engine.encode_queries([query])[0].tolist())
        documents = self._found(query, vector, first_stage(self.document_store), chosen, limit)
        check_vectors(documents, engine.fingerprint, engine.dimension)
        if vector is None or not self.return_query_embedding:
            return {"documents": documents}
        return {"documents": documents, "query_embedding": vector}

    def to_dict(self) -> dict[str, Any]:
        """
        Serialise.

        :returns: the dictionary form.
        """
        return default_to_dict(
            self,
            document_store=self.document_store,
            model=self.model,
            mode=self.mode,
            top_k=self.top_k,
            list_depth=self.list_depth,
            filters=self.filters,
            filter_policy=self.filter_policy.value,
            return_query_embedding=self.return_query_embedding,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ResRankRetriever:
        """
        Deserialise.

        :param data: what `to_dict` gave.
        :returns: an equal component.
        """
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """
        Load the encoder and open the store, once.
        """
        self._check_stamp(self._loaded().fingerprint)
        if isinstance(self.document_store, QdrantEdgeDocumentStore):
            self.document_store.warm_up()  # what keeps it from opening is told now, not to the first query

    def close(self) -> None:
        """
        Let the model and the store go; a later `run` takes them up again.
        """
        ModelUser.close(self)  # @component makes the class anew, so super() does not find it
        self.document_store.close()

    def _check_stamp(self, fingerprint: str) -> None:
        if not isinstance(self.document_store, QdrantEdgeDocumentStore):
            return  # a server has no stamp of its own: its documents are checked one by one
        stamp = self.document_store.fingerprint
        if stamp is not None and stamp != fingerprint:
            msg = (
                f"the store {self.document_store.path} holds vectors of another model (expected fingerprint "
                f"{fingerprint}, got {stamp}): run `resrank index` with this model to embed them again, or use the "
                "model that they were indexed with"
            )
            raise ValueError(msg)

    def _found(
        self,
        query: str,
        vector: StoredEmbedding | None,
        stage: FirstStage,
        filters: dict[str, Any] | None,
        limit: int,
    ) -> list[Document]:
        from resrank.evidence import fuse

        terms = None if self.mode == "dense" else self._terms(query)
        depth = limit
        if self.mode == "hybrid":
            depth = self.list_depth if self.list_depth is not None else max(_LIST_DEPTH, limit)
        lists = stage.search(vector, terms, filters, depth)
        rrf_k = self._loaded().config.rrf_k
        fused = fuse(query, bm25=lists.bm25, dense=lists.dense, rrf_k=rrf_k, top_k=limit)
        metas = {candidate.id: candidate.meta for candidate in fused}
        if self.mode == "hybrid":
            scores = {candidate.id: candidate.score for candidate in fused}
        else:  # a list alone keeps its own
            scores = dict(lists.dense or lists.bm25 or ())
        return [
            stage.completed(document, scores[document.id], with_entry(document, metas[document.id]))
            for document in stage.documents(list(metas))
        ]

    def _terms(self, query: str) -> SparseEmbedding:
        indices, values = self._loaded().lexical.encode_query(query)
        return SparseEmbedding(indices=indices, values=values)


def _check_store(store: Any, mode: RetrievalMode) -> None:
    if not isinstance(store, QdrantEdgeDocumentStore | QdrantDocumentStore):
        msg = f"document_store must be a QdrantEdgeDocumentStore or a QdrantDocumentStore, got {type(store).__name__}"
        raise TypeError(msg)
    if store.similarity not in ("dot_product", "cosine"):
        msg = f"ResRank scores by cosine: the store needs similarity dot_product (or cosine), got {store.similarity}"
        raise ValueError(msg)
    if mode != "dense" and not store.use_sparse_embeddings:
        msg = f"{mode} retrieval needs a store with use_sparse_embeddings=True; use mode='dense' on this one"
        raise ValueError(msg)
    if mode != "dense" and isinstance(store, QdrantDocumentStore) and not store.sparse_idf:
        msg = "BM25 needs a QdrantDocumentStore with sparse_idf=True; use mode='dense' on this one"
        raise ValueError(msg)
