# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy

from haystack_integrations.common.resrank.documents import check_top_k
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore


@component
class QdrantEdgeEmbeddingRetriever:
    """
    Retrieve documents from a `QdrantEdgeDocumentStore` by their dense vectors.

    The twin of `QdrantEmbeddingRetriever` of `qdrant-haystack`, with the same parameters but grouping, which the
    embedded engine does not have. It fits into Haystack's `TextEmbeddingRetriever`.

    Usage example:
    ```python
    from haystack import Document
    from haystack_integrations.components.retrievers.resrank import QdrantEdgeEmbeddingRetriever
    from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

    store = QdrantEdgeDocumentStore(path=".resrank/example", embedding_dim=2)
    store.write_documents([Document(id="a", content="alpha", embedding=[1.0, 0.0])])
    retriever = QdrantEdgeEmbeddingRetriever(document_store=store)
    retriever.run(query_embedding=[1.0, 0.0])
    # {'documents': [Document(id=a, content: 'alpha', score: 1.0)]}
    ```
    """

    def __init__(
        self,
        *,
        document_store: QdrantEdgeDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        score_threshold: float | None = None,
    ) -> None:
        """
        Create the component.

        :param document_store: The store to search.
        :param filters: A Haystack filter for every search.
        :param top_k: How many documents to return at most.
        :param scale_score: Whether to map scores to 0..1: `(score + 1) / 2` for cosine, else `sigmoid(score / 100)`.
        :param return_embedding: Whether the documents get their vectors. A ranker that works on stored vectors needs
            them.
        :param filter_policy: Whether filters given to `run` replace those given here or are merged with them.
        :param score_threshold: Leave out documents with a lower score (before scaling).
        :raises ValueError: If `document_store` is no `QdrantEdgeDocumentStore`, or `top_k` is below 1.
        """
        if not isinstance(document_store, QdrantEdgeDocumentStore):
            msg = f"document_store must be a QdrantEdgeDocumentStore, got {type(document_store).__name__}."
            raise ValueError(msg)
        self.document_store = document_store
        self.filters = filters
        check_top_k(top_k)
        self.top_k = top_k
        self.scale_score = scale_score
        self.return_embedding = return_embedding
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.score_threshold = score_threshold

    def warm_up(self) -> None:
        """Open the store, so that the first query does not have to. Idempotent."""
        self.document_store.warm_up()

    def close(self) -> None:
        """Give up this component's use of the store; it opens again if the component is used after that."""
        self.document_store.close()

    @component.output_types(documents=list[Document])
    def run(  # noqa: PLR0917  the parameters of qdrant-haystack
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """
        Find the documents with the most similar vectors.

        For every parameter but the first, `None` means the value given to the constructor.

        :param query_embedding: As many finite floats as the store's `embedding_dim`.
        :param filters: A Haystack filter; see `filter_policy`.
        :param top_k: How many documents to return at most.
        :param scale_score: Whether to map scores to 0..1.
        :param return_embedding: Whether the documents get their vectors.
        :param score_threshold: Leave out documents with a lower score (before scaling).
        :returns: `documents`, best first, then by id, with their scores.
        :raises ValueError: If the vector has another dimension than the store, or `top_k` is below 1.
        :raises FilterError: If the filter is malformed.
        """
        check_top_k(top_k)
        documents = self.document_store._query_by_embedding(
            query_embedding=query_embedding,
            filters=apply_filter_policy(self.filter_policy, self.filters, filters),
            top_k=self.top_k if top_k is None else top_k,
            scale_score=self.scale_score if scale_score is None else scale_score,
            return_embedding=self.return_embedding if return_embedding is None else return_embedding,
            score_threshold=self.score_threshold if score_threshold is None else score_threshold,
        )
        return {"documents": documents}

    def to_dict(self) -> dict[str, Any]:
        """
        Serialize the component.

        :returns: A dictionary with the type and the init parameters.
        """
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            scale_score=self.scale_score,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
            score_threshold=self.score_threshold,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "QdrantEdgeEmbeddingRetriever":
        """
        Deserialize the component.

        :param data: As returned by `to_dict`.
        :returns: The component; its store is unopened.
        """
        return default_from_dict(cls, data)
