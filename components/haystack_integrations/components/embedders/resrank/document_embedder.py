# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from haystack import Document, component, logging
from haystack.dataclasses import SparseEmbedding

from haystack_integrations.common.resrank.documents import (
    META_KEY,
    TRUNCATED_TOKENS,
    check_documents,
    document_text,
    index_stamp,
    with_entry,
)
from haystack_integrations.common.resrank.embedding import StoredEmbedding
from haystack_integrations.common.resrank.model import ResRankModel
from haystack_integrations.common.resrank.model_user import ModelUser

logger = logging.getLogger(__name__)


@component
class ResRankDocumentEmbedder(ModelUser):
    """
    Embeds documents for indexing: one dense vector, and BM25 term weights for hybrid retrieval.

    Each document is stamped with the fingerprint of the model (`meta["resrank"]["fingerprint"]`), so that vectors of
    different models are never mixed, and with a hash of the settings that decide what is stored
    (`meta["resrank"]["embedded_as"]`), so that `NewPassageFilter` sees when they have changed.

    ```python
    from haystack import Document
    from haystack_integrations.components.embedders.resrank import ResRankDocumentEmbedder

    embedder = ResRankDocumentEmbedder()
    document = embedder.run(documents=[Document(content="Bread needs yeast.")])["documents"][0]
    print(len(document.embedding), len(document.sparse_embedding.indices))  # 384 3
    ```
    """

    def __init__(
        self,
        *,
        model: ResRankModel | str = "resrank-mini",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        sparse: bool = True,
        tokens_per_batch: int | None = None,
        progress_bar: bool = True,
    ) -> None:
        """
        Create the embedder; nothing loads yet.

        :param model: a `ResRankModel`, or a name, folder or hub id.
        :param meta_fields_to_embed: meta fields, e.g. a title, put before the content. A ranker that may have to encode
            missing vectors needs the same.
        :param embedding_separator: between those fields and the content.
        :param sparse: fill `sparse_embedding` too; needed for hybrid retrieval.
        :param tokens_per_batch: padded tokens in one forward pass; `None` takes the device's default.
        :param progress_bar: show one when the work takes over two seconds.
        """
        self._init_model(model)
        self.meta_fields_to_embed = list(meta_fields_to_embed) if meta_fields_to_embed is not None else None
        self.embedding_separator = embedding_separator
        self.sparse = sparse
        self.tokens_per_batch = tokens_per_batch
        self.progress_bar = progress_bar

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """
        Embed documents.

        :param documents: with content; none is changed.
        :returns: `documents`: copies in the same order with `embedding`, `sparse_embedding` and the stamp; one that
            was cut says by how much in `meta["resrank"]["truncated_tokens"]`. `meta`: `truncated_documents` and
            `cut_tokens`.
        :raises TypeError: when it is not a list of documents.
        :raises ValueError: when a document has no text.
        """
        from resrank import TruncationReport

        texts = [
            document_text(document, self.meta_fields_to_embed or [], self.embedding_separator)
            for document in check_documents(documents)
        ]
        report = TruncationReport()
        if not texts:
            return {"documents": [], "meta": _counts(report)}
        engine = self._loaded()
        vectors = engine.encode_passages(
            texts, tokens_per_batch=self.tokens_per_batch, progress_bar=self.progress_bar, report=report
        )
        if report.truncated:
            logger.warning(
                "{truncated} of {texts} documents were longer than {limit} tokens and were cut ({cut} tokens in all): "
                "split them into shorter passages",
                truncated=report.truncated,
                texts=report.texts,
                limit=engine.encoder.max_length,
                cut=report.cut_tokens,
            )
        sparse = self._sparse(texts)
        stamp = index_stamp(
            engine, meta_fields=self.meta_fields_to_embed, separator=self.embedding_separator, sparse=self.sparse
        )
        embedded = []
        for document, vector, cut in zip(documents, vectors, report.cut_per_text, strict=True):
            meta = with_entry(document, {**stamp, TRUNCATED_TOKENS: cut})
            if not cut:  # nor keep the mark of an earlier run with a shorter limit
                del meta[META_KEY][TRUNCATED_TOKENS]
            embedded.append(
                replace(
                    document,
                    embedding=StoredEmbedding(vector.tolist()),
                    sparse_embedding=next(sparse),
                    meta=meta,
                )
            )
        return {"documents": embedded, "meta": _counts(report)}

    def _sparse(self, texts: list[str]) -> Iterator[SparseEmbedding | None]:
        if not self.sparse:
            yield from [None] * len(texts)
            return
        for indices, values in self._loaded().lexical.encode_passages(texts):
            yield SparseEmbedding(indices=indices, values=values)


def _counts(report: Any) -> dict[str, int]:
    return {"truncated_documents": report.truncated, "cut_tokens": report.cut_tokens}
