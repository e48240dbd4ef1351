# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from haystack import Document, component
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from haystack_integrations.common.resrank.documents import check_documents, entry, index_stamp
from haystack_integrations.common.resrank.model import ResRankModel
from haystack_integrations.common.resrank.model_user import ModelUser
from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore

_BATCH = 1_000


@component
class NewPassageFilter(ModelUser):
    """
    Makes indexing incremental: gives passages stable ids and lets through only those that are not stored yet.

    An id comes from path, chunk number and content, so a second run over the same files writes nothing, and an edit
    re-embeds only the chunks that it changed or moved. Passages that are stored with another model's vectors, or with
    other settings of the embedder, go through again.

    Place it between splitter and embedder:

    ```python
    pipeline.connect("splitter.documents", "new_passages.documents")
    pipeline.connect("new_passages.documents", "embedder.documents")
    ```
    """

    def __init__(
        self,
        *,
        document_store: QdrantEdgeDocumentStore | QdrantDocumentStore,
        model: ResRankModel | str = "resrank-mini",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        sparse: bool = True,
    ) -> None:
        """
        Create the filter; nothing loads or opens yet.

        :param document_store: where the passages will be written.
        :param model: the one that will embed them.
        :param meta_fields_to_embed: as in the `ResRankDocumentEmbedder` behind it. Where they differ, every run embeds
            everything again.
        :param embedding_separator: likewise.
        :param sparse: likewise.
        """
        self._init_model(model)
        self.document_store = document_store
        self.meta_fields_to_embed = list(meta_fields_to_embed) if meta_fields_to_embed is not None else None
        self.embedding_separator = embedding_separator
        self.sparse = sparse

    @component.output_types(documents=list[Document], passage_ids=dict[str, list[str]], unchanged=int, blank=int)
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """
        Pick what is new.

        :param documents: passages, with `file_path` and `split_id` in their meta where they come from files.
        :returns: `documents`: new ones, once each, with their stable id; `passage_ids`: the ids of all, by file path
            ("" where there is none); `unchanged`: how many were stored already;
            `blank`: how many were left out because they hold no text.
        :raises TypeError: when it is not a list of documents.
        """
        with_text = [document for document in check_documents(documents) if (document.content or "").strip()]
        passages = {passage.id: passage for passage in map(_identified, with_text)}
        stamp = self.stamp() if passages else {}
        ids = list(passages)
        stored: set[str] = set()
        for start in range(0, len(ids), _BATCH):
            found = self.document_store.get_documents_by_id(ids[start : start + _BATCH])
            stored.update(d.id for d in found if stamp.items() <= entry(d).items())
        new = [passage for id_, passage in passages.items() if id_ not in stored]
        by_file: dict[str, list[str]] = {}
        for id_, passage in passages.items():
            by_file.setdefault(str(passage.meta.get("file_path") or ""), []).append(id_)
        return {
            "documents": new,
            "passage_ids": by_file,
            "unchanged": len(ids) - len(new),
            "blank": len(documents) - len(with_text),
        }

    def stamp(self) -> dict[str, str]:
        """
        What a stored passage must carry in `meta["resrank"]` to be left as it is.

        :returns: the model's fingerprint and the hash of the settings.
        """
        return index_stamp(
            self._loaded(),
            meta_fields=self.meta_fields_to_embed,
            separator=self.embedding_separator,
            sparse=self.sparse,
        )

    def close(self) -> None:
        """
        Let the model and the store go.
        """
        ModelUser.close(self)  # @component makes the class anew, so super() does not find it
        self.document_store.close()


def _identified(document: Document) -> Document:
    path, chunk = document.meta.get("file_path"), document.meta.get("split_id")
    digest = hashlib.sha256(f"{path}\0{chunk}\0{document.content}".encode("utf-8", "surrogatepass")).hexdigest()
    # The splitter's source_id hashes the whole file: an edit anywhere would change the meta of every chunk.
    source = hashlib.sha256(str(path).encode("utf-8", "surrogatepass")).hexdigest() if path else None
    meta = {**document.meta, **({"source_id": source} if source else {})}
    meta.pop("_split_overlap", None)
    return replace(document, id=digest, meta=meta)
